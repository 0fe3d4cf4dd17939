"""The detectors of other libraries behind the same spans."""

import builtins
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from finetuning.errors import MissingExtraError
from finetuning.pii import detect as adapters
from finetuning.pii import find_personal_data

TEXT = "mail a@example.org, card 4111111111111111, ssn 123-45-6789, http://x.org"


@pytest.fixture(autouse=True)
def fresh_adapters() -> None:
    for cached in (adapters._scrubadub, adapters._presidio):  # pyright: ignore[reportPrivateUsage]
        cached.cache_clear()


def test_scrubadub_reports_its_kinds_under_our_names() -> None:
    (found,) = find_personal_data([TEXT], detector="scrubadub")
    assert [(TEXT[s.start : s.end], s.type) for s in found] == [
        ("a@example.org", "email"),
        ("4111111111111111", "credit_card"),
        ("123-45-6789", "us_ssn"),
    ]


def test_scrubadub_findings_that_it_merged_are_taken_apart() -> None:
    text = "username: root password: hunter2 @handle"
    (found,) = find_personal_data([text], detector="scrubadub")
    assert {s.type for s in found} == {"password"}
    assert find_personal_data([text], detector="scrubadub", types=["email"]) == [[]]


@pytest.mark.parametrize(
    ("detector", "package"), [("scrubadub", "scrubadub"), ("presidio", "presidio_analyzer")]
)
def test_a_missing_package_gives_the_pip_line(
    detector: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", blocked)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fine-tuning-skill\[pii\]'"):
        find_personal_data(["x"], detector=detector)


class Recogniser:
    """What presidio's recognisers look like to us (2.2.366)."""

    def __init__(self, entity: str, value: str, score: float) -> None:
        self.supported_entities = [entity]
        self.value, self.score = value, score

    def analyze(self, text: str, entities: list[str], nlp_artifacts: None) -> Any:
        start = text.find(self.value)
        if start < 0:
            return None
        end = start + len(self.value)
        return [
            SimpleNamespace(start=start, end=end, entity_type=entities[0], score=self.score),
            SimpleNamespace(start=start, end=end, entity_type="URL", score=1.0),
        ]


class Model:
    """Needs a language model: not a pattern recogniser."""

    supported_entities = ("PERSON",)


def fake_presidio(recognisers: list[object]) -> ModuleType:
    module = ModuleType("presidio_analyzer")

    def load(languages: list[str]) -> None:
        assert languages == ["en"]

    registry = SimpleNamespace(recognizers=recognisers, load_predefined_recognizers=load)
    vars(module).update(RecognizerRegistry=lambda: registry, PatternRecognizer=Recogniser)
    return module


def test_presidio_runs_its_patterns_only_and_asks_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "ips 203.0.113.7 2001:db8::1 mail a@example.org id 912803456"
    recognisers: list[object] = [
        Recogniser("IP_ADDRESS", "203.0.113.7", 0.6),
        Recogniser("IP_ADDRESS", "2001:db8::1", 0.6),
        Recogniser("EMAIL_ADDRESS", "a@example.org", 1.0),
        Recogniser("US_PASSPORT", "912803456", 0.05),
        Recogniser("CREDIT_CARD", "absent", 1.0),
        Model(),
    ]
    lists = ModuleType("tldextract")
    asked: list[dict[str, Any]] = []

    def extractor(**options: Any) -> str:
        asked.append(options)
        return "offline"

    vars(lists)["TLDExtract"] = extractor
    monkeypatch.setitem(sys.modules, "presidio_analyzer", fake_presidio(recognisers))
    monkeypatch.setitem(sys.modules, "tldextract", lists)
    (found,) = find_personal_data([text], detector="presidio")
    assert [(text[s.start : s.end], s.type) for s in found] == [
        ("203.0.113.7", "ip_v4"),
        ("2001:db8::1", "ip_v6"),
        ("a@example.org", "email"),
    ]
    assert asked == [{"suffix_list_urls": (), "cache_dir": None}]
    assert vars(lists)["extract"] == "offline"
