"""Entry point of the child: reads REQUEST.json, writes RESULT.json, reports on stderr.

The request groups jobs by base model; each base is loaded once with all its adapters. The child
ends when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from finetuning import settings


def _end_with_parent() -> None:
    """End this process once its standard input closes: then nobody waits for the answer."""
    while os.read(0, 1):
        pass
    os._exit(3)


def _report(done: int, total: int, what: str) -> None:
    sys.stderr.write(f"progress {done} {total} {what}\n")
    sys.stderr.flush()


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request: answers by side and job, and what ran."""
    started = time.perf_counter()
    from finetuning.evaluation.local.loading import describe, load_model
    from finetuning.evaluation.local.session import answer_jobs

    answers: dict[str, Any] = {}
    models: list[dict[str, Any]] = []
    for entry in request["models"]:
        _report(0, 1, "loading the model")
        model = load_model(entry["base"], entry["adapters"])
        loaded = time.perf_counter() - started
        answers |= answer_jobs(model, entry["jobs"], request["max_tokens"], _report)
        models.append({**describe(model), "load_seconds": round(loaded, 2)})
        started = time.perf_counter()
    return {"answers": answers, "provenance": {"models": models}}


def main(arguments: list[str]) -> int:
    """Read the request, answer it, and leave the reply whole or not at all."""
    settings.enforce_offline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source, target = map(Path, arguments)
    _report(0, 1, "loading the libraries")
    from finetuning.evaluation.local.rows import CannotRunError

    try:
        reply = run(json.loads(source.read_text(encoding="utf-8")))
    except CannotRunError as error:
        reply = {"error": list(error.args)}
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(reply, allow_nan=False), encoding="utf-8")
    temporary.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
