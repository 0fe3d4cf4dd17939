"""Live signals against a real server that answers in the vendors' documented shapes."""

from __future__ import annotations

import datetime as dt
import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from finetuning.errors import UnknownNameError
from finetuning.providers import load_provider, refresh_catalogue
from finetuning.providers.catalogue import FOLDER, Event, ModelEntry, Price, Source
from finetuning.providers.refresh import CatalogueRefresh
from finetuning.providers.signals import SIGNALS, read_day
from finetuning_skill import cli

TODAY = "2026-11-20"
JANUARY = int(dt.datetime(2027, 1, 14, tzinfo=dt.UTC).timestamp())
APRIL = int(dt.datetime(2027, 4, 14, tzinfo=dt.UTC).timestamp())
OCTOBER = int(dt.datetime(2027, 10, 14, tzinfo=dt.UTC).timestamp())

ANSWERS: dict[str, Any] = {
    "/openai/models": {
        "object": "list",
        "data": [
            {"id": "gpt-4.1-2025-04-14", "object": "model", "shutdown_date": "2027-01-14"},
            {"id": "gpt-4o-mini-2024-07-18", "object": "model", "shutdown_date": "2027-02-01"},
            {"id": "gpt-6-luna", "object": "model", "shutdown_date": None},
            {"id": "text-embedding-9", "object": "model", "shutdown_date": "2029-01-01"},
        ],
    },
    "/azure/openai/models": {
        "object": "list",
        "data": [
            {
                "id": "gpt-4.1-2025-04-14",
                "lifecycle_status": "generally-available",
                "deprecation": {"fine_tune": APRIL, "inference": OCTOBER},
            },
            {"id": "gpt-4o-2024-08-06", "deprecation": {"inference": JANUARY}},
            {"id": "no-dates", "deprecation": {}},
        ],
    },
    "/bedrock/foundation-models": {
        "modelSummaries": [
            {
                "modelId": "amazon.nova-lite-v1:0:300k",
                "customizationsSupported": ["FINE_TUNING"],
                "modelLifecycle": {"status": "LEGACY", "endOfLifeTime": "2027-03-05T00:00:00Z"},
            },
            {
                "modelId": "amazon.nova-pro-v1:0:300k",
                "customizationsSupported": [],
                "modelLifecycle": {"status": "ACTIVE"},
            },
            {"modelId": "other.model", "modelLifecycle": {}},
        ]
    },
    "/fireworks/accounts/fireworks/models": {
        "models": [
            {"name": "accounts/fireworks/models/qwen3p5-9b", "tunable": True, "supportsLora": True},
            {"name": "accounts/fireworks/models/glm-5p1", "tunable": False},
            {"name": "accounts/fireworks/models/new-base", "supervisedLoraTunable": True},
            {"name": "accounts/fireworks/models/never-tuned", "tunable": False},
        ],
        "nextPageToken": "second page",
    },
    "/hf/api/jobs/hardware": [
        {"name": "t4-small", "unitCostMicroUSD": 6667, "unitLabel": "minute"},
        {"name": "h200", "unitCostMicroUSD": 100000, "unitLabel": "minute"},
        {"name": "cpu-basic", "unitCostMicroUSD": 167, "unitLabel": "minute"},
    ],
}  # fmt: skip
SECOND_PAGE = {
    "models": [
        {
            "name": "accounts/fireworks/models/kimi-k2p5",
            "tunable": True,
            "deprecationDate": {"year": 2027, "month": 2, "day": 3},
        }
    ]
}
LIMITS = {
    "model_name": "x",
    "max_num_epochs": 20,
    "max_seq_length_sft": 32768,
    "lora_training": {"max_rank": 64, "max_batch_size": 8},
}
KEYS = {
    "OPENAI_API_KEY": "openai",
    "AZURE_OPENAI_API_KEY": "azure",
    "AZURE_OPENAI_ENDPOINT": "set",
    "AWS_BEARER_TOKEN_BEDROCK": "bedrock",
    "AWS_REGION": "us-east-1",
    "TOGETHER_API_KEY": "together",
    "FIREWORKS_API_KEY": "fireworks",
}


class Vendors(ThreadingHTTPServer):
    """All vendors on one port, each below its own path; remembers what was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = dict(ANSWERS)
        self.codes: dict[str, int] = {}
        self.sent: list[tuple[str, dict[str, str]]] = []

    def addresses(self) -> dict[str, str]:
        base = f"http://127.0.0.1:{self.server_port}"
        return {s.name: f"{base}/{s.provider.split('_')[0]}" for s in SIGNALS}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast("Vendors", self.server)
        url = urlsplit(self.path)
        server.sent.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        vendor = url.path.split("/")[1]
        code = server.codes.get(vendor, 200)
        answer = server.answers.get(url.path)
        if url.path.endswith("/fine-tunes/models/limits"):
            model = parse_qs(url.query)["model_name"][0]
            answer = LIMITS if model != "Qwen/Qwen3.5-2B" else {"message": "not tunable"}
        if "pageToken" in url.query:
            answer = SECOND_PAGE
        body = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
        self.send_response(code)
        if code in {301, 302}:
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/stolen")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendors]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = Vendors()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def refresh(vendors: Vendors, **options: Any) -> CatalogueRefresh:
    return refresh_catalogue(addresses=vendors.addresses(), as_of=TODAY, **options)


def patch_of(result: CatalogueRefresh) -> dict[str, Any]:
    assert result.patch_file is not None
    return tomllib.loads(Path(result.patch_file).read_text(encoding="utf-8"))


def row(result: CatalogueRefresh, signal: str) -> Any:
    return next(asked for asked in result.signals if asked.signal == signal)


def test_every_signal_is_asked_and_new_facts_are_proposed_with_their_day(vendors: Vendors) -> None:
    before = {path.name: path.read_bytes() for path in FOLDER.glob("*.toml")}
    result = refresh(vendors)
    assert [asked.status for asked in result.signals] == ["asked"] * 6
    assert result.exit_code() == 0
    patch = patch_of(result)
    said = Path(str(result.patch_file)).read_text("utf-8")
    assert "# bedrock in providers.toml, from" in said, "the file that a row belongs to"
    assert patch["openai"]["lifecycle"] == [
        {
            "event": "inference_end",
            "date": dt.date(2027, 2, 1),
            "models": ["gpt-4o-mini-2024-07-18"],
            "source": "live_2026_11_20",
        }
    ]
    assert [asked.confirmed for asked in result.signals[:2]] == [1, 2]
    assert patch["azure"]["lifecycle"][0]["date"] == dt.date(2027, 1, 14)
    assert {(e["event"], e["models"][0]) for e in patch["bedrock"]["lifecycle"]} == {
        ("inference_end", "amazon.nova-lite-v1:0:300k"),
        ("training_end", "amazon.nova-pro-v1:0:300k"),
    }
    assert {path.name: path.read_bytes() for path in FOLDER.glob("*.toml")} == before


def test_together_fireworks_and_hardware_answers_are_read(vendors: Vendors) -> None:
    patch = patch_of(refresh(vendors))
    lengths = {m["id"]: m["training_context_tokens"] for m in patch["together"]["models"]}
    assert lengths["Qwen/Qwen3.5-9B"] == 32768
    assert patch["together"]["lifecycle"][0]["models"] == ["Qwen/Qwen3.5-2B"]
    fireworks = patch["fireworks"]
    assert [m["id"] for m in fireworks["models"]] == ["accounts/fireworks/models/new-base"]
    assert {(e["event"], e["models"][0].rsplit("/", 1)[1]) for e in fireworks["lifecycle"]} == {
        ("training_end", "glm-5p1"),
        ("inference_end", "kimi-k2p5"),
    }
    assert [(p["gpu"], p["usd_per_gpu_hour"]) for p in patch["hf_jobs"]["prices"]] == [
        ("H200", "6.00")
    ]


def test_every_proposed_row_fits_the_schema_of_the_catalogue(vendors: Vendors) -> None:
    shapes = {"lifecycle": Event, "models": ModelEntry, "prices": Price}
    checked = 0
    for provider, tables in patch_of(refresh(vendors)).items():
        assert load_provider(provider)
        sources = msgspec.convert(tables.pop("sources"), dict[str, Source])
        for table, rows in tables.items():
            for values in rows:
                shape: type[Any] = shapes[table]
                values.setdefault("methods", []) if table == "models" else None
                assert msgspec.convert(values, shape).source in sources
                checked += 1
    assert checked > 8


def test_keys_go_only_to_their_own_vendor(vendors: Vendors) -> None:
    refresh(vendors)
    for path, headers in vendors.sent:
        vendor = path.split("/")[1]
        sent = {headers.get("authorization"), headers.get("api-key")} - {None}
        expected = {"azure": "azure", "hf": None}.get(vendor, f"Bearer {vendor}")
        assert sent == ({expected} - {None})


def test_what_was_asked_stands_in_the_audit_log_without_a_key(
    vendors: Vendors, isolated_environment: Path
) -> None:
    refresh(vendors)
    line = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    record = json.loads(line)
    assert record["event"] == "catalogue.refreshed"
    assert set(record["details"]["signals"]) == {signal.name for signal in SIGNALS}
    assert "Bearer" not in line


@pytest.mark.parametrize("vendor", ["openai", "azure", "bedrock", "together", "fireworks", "hf"])
@pytest.mark.parametrize("fault", ["500", "redirect", "not json", "other shape"])
def test_one_failing_signal_is_reported_and_the_others_go_on(
    vendors: Vendors, vendor: str, fault: str
) -> None:
    if fault in {"500", "redirect"}:
        vendors.codes[vendor] = 500 if fault == "500" else 302
    if vendor == "together" and fault not in {"500", "redirect"}:
        vendors.codes[vendor] = 404
    for path in [path for path in vendors.answers if path.startswith(f"/{vendor}/")]:
        if fault == "not json":
            vendors.answers[path] = b"<html>"
        if fault == "other shape":
            vendors.answers[path] = ["surprise"]
    result = refresh(vendors)
    failed = [asked for asked in result.signals if asked.status == "failed"]
    assert [asked.provider.split("_")[0] for asked in failed] == [vendor]
    assert sum(asked.status == "asked" for asked in result.signals) == 5
    assert "surprise" not in failed[0].why
    assert result.exit_code() == 0
    assert not any("/stolen" in path for path, _ in vendors.sent), "no redirect is followed"


def test_a_vendor_that_cannot_be_reached_fails_alone(vendors: Vendors) -> None:
    addresses = vendors.addresses() | {"openai_shutdown_date": "http://127.0.0.1:9"}
    result = refresh_catalogue(addresses=addresses, as_of=TODAY)
    assert row(result, "openai_shutdown_date").why.startswith("no answer")
    assert "5 signals asked, 1 failed" in result.summary()
    only = refresh_catalogue(signals=["openai_shutdown_date"], addresses=addresses, as_of=TODAY)
    assert (only.exit_code(), only.patch_file) == (4, None)


def test_without_keys_nothing_that_needs_one_is_asked(
    vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    result = refresh(vendors)
    assert [a.signal for a in result.signals if a.status == "asked"] == ["hf_jobs_hardware"]
    assert row(result, "openai_shutdown_date").why == "OPENAI_API_KEY not set"
    assert len(vendors.sent) == 1


def test_offline_asks_nothing_but_this_machine(
    vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    assert refresh(vendors).signals[0].status == "asked"
    result = refresh_catalogue(as_of=TODAY, signals=["hf_jobs_hardware", "openai_shutdown_date"])
    assert {(a.status, a.why) for a in result.signals} == {
        ("skipped", "FINE_TUNING_OFFLINE is set")
    }


def test_the_address_of_azure_comes_from_the_environment(
    vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", vendors.addresses()["azure_deprecation"] + "/")
    result = refresh_catalogue(signals=["azure_deprecation"], as_of=TODAY)
    assert result.signals[0].status == "asked"
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "file:///etc")
    assert refresh_catalogue(signals=["azure_deprecation"]).signals[0].status == "failed"


def test_a_model_that_becomes_tunable_is_proposed_and_a_long_list_ends(vendors: Vendors) -> None:
    listed = "/fireworks/accounts/fireworks/models"
    name = "accounts/fireworks/models/gemma-4-31b-it"
    vendors.answers[listed] = {"models": [{"name": name, "tunable": True}]}
    result = refresh(vendors, signals=["fireworks_tunable"])
    assert (result.signals[0].confirmed, result.patch_file) == (1, None)


def test_days_are_read_however_a_vendor_writes_them() -> None:
    day = dt.date(2027, 1, 14)
    assert {read_day("2027-01-14T00:00:00Z"), read_day(JANUARY)} == {day}
    assert read_day({"year": 2027, "month": 1, "day": 14}) == day
    nothing: list[object] = [None, "", 0, dict[str, int](), list[int]()]
    assert [read_day(value) for value in nothing] == [None] * 5


def test_an_unknown_signal_is_named() -> None:
    with pytest.raises(UnknownNameError, match="hf_jobs_hardware"):
        refresh_catalogue(signals=["hf_jobs"])


def test_nothing_new_writes_no_file(vendors: Vendors) -> None:
    vendors.answers["/openai/models"] = {"data": [ANSWERS["/openai/models"]["data"][0]]}
    result = refresh(vendors, signals=["openai_shutdown_date"])
    assert (result.patch_file, result.signals[0].confirmed) == (None, 1)
    assert result.summary() == "1 signals asked, 0 failed: 1 facts confirmed, 0 rows proposed."


def test_the_command_writes_its_file_where_it_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    vendors: Vendors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", vendors.addresses()["azure_deprecation"])
    words = [
        "catalogue",
        "refresh",
        "--signal",
        "azure_deprecation",
        "--output-dir",
        str(tmp_path / "new"),
    ]
    assert cli.run([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Path(answer["patch_file"]).parent == tmp_path / "new"
