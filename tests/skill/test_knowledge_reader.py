from __future__ import annotations

from pathlib import Path

import pytest

import finetuning_skill as knowledge
from finetuning.errors import RunFailedError, UnknownNameError


@pytest.mark.parametrize("topic", knowledge.TOPICS)
def test_every_topic_has_a_text(topic: str) -> None:
    assert len(knowledge.read_topic(topic)) > 500


def test_unknown_topic_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="cost"):
        knowledge.read_topic("cost")


def test_the_checklist_is_one_section_of_the_skill() -> None:
    text = knowledge.checklist()
    assert text.startswith("## Decision checklist")
    assert "\n## " not in text


def test_a_skill_without_the_checklist_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "SKILL.md").write_text("# nothing\n", encoding="utf-8")
    monkeypatch.setattr(knowledge, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(RunFailedError, match="the checklist is missing"):
        knowledge.checklist()
