"""What each vendor's live answer means for the catalogue: rows confirmed, rows to propose.

Shapes: openai-openapi 2026-08-21 (``shutdown_date``), Azure OpenAI authoring 2024-10-21, botocore
1.44.5, together 3.1.1, fireworks-ai 1.2.28 and huggingface_hub 2.4.0 (checked 2026-11-20).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers.catalogue import ModelEntry, Provider, find_model
from finetuning.providers.terms import availability

TIMEOUT_SECONDS: Final = 20
_MOST_BYTES: Final = 20_000_000
PAGES: Final = 20
"""Most pages read of one list."""


@dataclass(slots=True)
class Found:
    """Rows that a signal proposes, and how many facts of the catalogue it confirms."""

    confirmed: int = 0
    rows: list[tuple[str, dict[str, Any]]] = field(
        default_factory=list["tuple[str, dict[str, Any]]"]
    )

    def add(self, table: str, **values: Any) -> None:
        """Propose a row of a table (lifecycle, models, prices)."""
        self.rows.append((table, values))

    def date(self, model: ModelEntry, event: str, day: dt.date, known: dt.date | None) -> None:
        """Confirm a date that the catalogue has, or propose it."""
        if known == day:
            self.confirmed += 1
        else:
            self.add("lifecycle", event=event, date=day, models=[model.id])


Get = Callable[[str], Any]
"""Asks one path below a signal's address and returns the JSON."""


class Signal(NamedTuple):
    """A live signal: where it is asked, with which key, and how its answer is read.

    ``url`` may name environment variables in braces; the first of ``needs`` holds the key.
    """

    name: str
    provider: str
    url: str
    needs: tuple[str, ...]
    read: Callable[[Get, Provider, dt.date], Found]
    header: str = "Authorization"


def _known(entry: Provider, name: str) -> ModelEntry | None:
    try:
        return find_model(entry.id, name)
    except UnknownNameError:
        return None


def _end(entry: Provider, model: ModelEntry, day: dt.date) -> dt.date | None:
    return availability(entry.id, model.id, None, day).base_retires_on


def _last_job(entry: Provider, model: ModelEntry, day: dt.date) -> dt.date | None:
    return availability(entry.id, model.id, None, day).dates.get("training_end")


def read_day(value: object) -> dt.date | None:
    """Return the day of an ISO text, seconds since 1970, or year, month and day."""
    if isinstance(value, str) and value:
        return dt.date.fromisoformat(value[:10])
    if isinstance(value, int | float) and value:
        return dt.datetime.fromtimestamp(value, tz=dt.UTC).date()
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        if parts.get("year"):
            return dt.date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    return None


def read_openai(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read ``shutdown_date`` of the models that the catalogue has."""
    found = Found()
    for item in get("/models")["data"]:
        model = _known(entry, item["id"])
        shut = read_day(item.get("shutdown_date"))
        if model is not None and shut is not None:
            found.date(model, "inference_end", shut, _end(entry, model, day))
    return found


def read_azure(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read ``deprecation.fine_tune`` and ``deprecation.inference``."""
    found = Found()
    for item in get("/openai/models?api-version=2024-10-21")["data"]:
        model = _known(entry, item["id"])
        ends: dict[str, Any] = item.get("deprecation") or {}
        if model is None:
            continue
        if (last := read_day(ends.get("fine_tune"))) is not None:
            found.date(model, "training_end", last, _last_job(entry, model, day))
        if (shut := read_day(ends.get("inference"))) is not None:
            found.date(model, "inference_end", shut, _end(entry, model, day))
    return found


def read_bedrock(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read ``modelLifecycle`` of the models that can be customised."""
    found = Found()
    for item in get("/foundation-models")["modelSummaries"]:
        model = _known(entry, item["modelId"])
        if model is None:
            continue
        ends: dict[str, Any] = item.get("modelLifecycle") or {}
        shut = read_day(ends.get("endOfLifeTime"))
        if shut is not None:
            found.date(model, "inference_end", shut, _end(entry, model, day))
        if model.methods and not item.get("customizationsSupported"):
            found.add("lifecycle", event="training_end", date=day, models=[model.id], exact=False)
    return found


def read_together(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read ``model_limits`` of every model; one without limits takes no job.

    ``estimate_price`` is not asked: it needs an uploaded and validated file.
    """
    found = Found()
    for model in entry.models:
        limits = get(f"/fine-tunes/models/limits?model_name={quote(model.id, safe='')}")
        if "max_num_epochs" not in limits:
            found.add("lifecycle", event="training_end", date=day, models=[model.id], exact=False)
            continue
        longest = limits.get("max_seq_length_sft")
        if longest is None or longest == model.training_context_tokens:
            found.confirmed += 1
        else:
            values = {"methods": list(model.methods), "training_context_tokens": int(longest)}
            found.add("models", id=model.id, **values)
    return found


def read_fireworks(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read ``tunable`` and ``deprecationDate`` of the public models."""
    found = Found()
    for item in _pages(get):
        model = _known(entry, item["name"])
        tunable = any(item.get(key) for key in ("tunable", "supervisedLoraTunable"))
        if model is None:
            if tunable:
                found.add("models", id=item["name"], methods=["sft"])
            continue
        if bool(model.methods) == tunable:
            found.confirmed += 1
        elif tunable:
            found.add("models", id=model.id, methods=["sft"])
        else:
            found.add("lifecycle", event="training_end", date=day, models=[model.id], exact=False)
        if (shut := read_day(item.get("deprecationDate"))) is not None:
            found.date(model, "inference_end", shut, _end(entry, model, day))
    return found


def _pages(get: Get) -> Iterator[dict[str, Any]]:
    path = "/accounts/fireworks/models?pageSize=200"
    token = ""
    for _ in range(PAGES):
        answer = get(path + (f"&pageToken={quote(token, safe='')}" if token else ""))
        yield from answer["models"]
        token = str(answer.get("nextPageToken") or "")
        if not token:
            return


def read_hf_jobs(get: Get, entry: Provider, day: dt.date) -> Found:
    """Read the hourly price of every flavour that the catalogue prices."""
    found = Found()
    priced = {price.conditions: price for price in entry.prices if price.holds_on(day)}
    for item in get("/api/jobs/hardware"):
        row = priced.get(f"flavor {item['name']}")
        per_hour = {"minute": 60, "hour": 1, "second": 3600}[item["unitLabel"]]
        usd = Decimal(int(item["unitCostMicroUSD"])) * per_hour / 1_000_000
        usd = usd.quantize(Decimal("0.01"))
        if row is None:
            continue
        if row.amount == usd:
            found.confirmed += 1
        else:
            values = {"models": ["*"], "kind": "gpu", "gpu": row.gpu, "usd_per_gpu_hour": usd}
            found.add("prices", **values, valid_from=day, conditions=row.conditions)
    return found


SIGNALS: Final = (
    Signal("openai_shutdown_date", "openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",),
           read_openai),
    Signal("azure_deprecation", "azure", "{AZURE_OPENAI_ENDPOINT}",
           ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"), read_azure, "api-key"),
    Signal("bedrock_model_lifecycle", "bedrock", "https://bedrock.{AWS_REGION}.amazonaws.com",
           ("AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION"), read_bedrock),
    Signal("together_model_limits", "together", "https://api.together.xyz/v1",
           ("TOGETHER_API_KEY",), read_together),
    Signal("fireworks_tunable", "fireworks", "https://api.fireworks.ai/v1",
           ("FIREWORKS_API_KEY",), read_fireworks),
    Signal("hf_jobs_hardware", "hf_jobs", "https://huggingface.co", (), read_hf_jobs),
)  # fmt: skip


def get_json(url: str, signal: Signal, key: str | None) -> Any:
    """Fetch one JSON document; the key goes to this address only: no redirect is followed."""
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    if not url.startswith(("https://", "http://")):
        raise BadInputError(signal.name, "its address is not http", "https://…", "Set it anew")
    headers = {"Accept": "application/json", "User-Agent": "fine-tuning-skill"}
    if key is not None:
        headers[signal.header] = key if signal.header == "api-key" else f"Bearer {key}"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # http(s) only, above
    with urllib.request.build_opener(Stay).open(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.loads(answer.read(_MOST_BYTES))
