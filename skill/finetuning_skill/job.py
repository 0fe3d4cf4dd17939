"""The detached child of one long tool call: ``python -m finetuning_skill.job RUN_ID``.

Reads the arguments from the run's folder, runs the tool, and leaves the result in the run store.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from finetuning import runs, settings
from finetuning.errors import FineTuningError
from finetuning_skill import dispatch


def run_job(run_id: str) -> int:
    """Run the tool of a queued run to its end and return the exit code of its answer."""
    runs.attach(run_id)
    row = runs.read_run(run_id)
    text = (Path(row.folder) / "args.json").read_text(encoding="utf-8")
    arguments = cast("dict[str, Any]", json.loads(text))

    def report(done: int, total: int | None, what: str) -> None:
        runs.record_progress(run_id, runs.RunProgress(step=done, total_steps=total, what=what))

    try:
        with runs.listen(report):
            result = dispatch.call(row.tool, arguments, surface="mcp")
    except FineTuningError as error:
        runs.finish(run_id, "failed", error=str(error))
        return error.exit_code
    except Exception as error:
        runs.finish(run_id, "failed", error=f"{row.tool}: {type(error).__name__}; see the log.")
        raise
    runs.finish(run_id, "succeeded", result=result.model_dump(mode="json"))
    return result.exit_code()


def main() -> int:
    """Entry point of the child process."""
    settings.enforce_offline()
    return run_job(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
