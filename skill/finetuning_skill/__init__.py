"""What speaks to an agent: the MCP server, the command line, the demo and the knowledge.

Here: the skill's own texts, SKILL.md and the six knowledge files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from finetuning.errors import RunFailedError, UnknownNameError

TOPICS: Final[dict[str, str]] = {
    "skill": "SKILL.md",
    "providers": "providers.md",
    "data-prep": "data-prep.md",
    "training": "training.md",
    "evaluation": "evaluation.md",
    "costs": "costs.md",
    "compliance": "compliance.md",
}
"""Topic → file. In a checkout the files lie at its root, in a wheel in ``knowledge``."""

CHECKLIST_HEADING: Final = "Decision checklist"


def _folder() -> Path:
    packaged = Path(__file__).parent / "knowledge"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def read_topic(topic: str) -> str:
    """Return one knowledge file as Markdown.

    Args:
        topic: A key of ``TOPICS``.

    Raises:
        UnknownNameError: The topic is not known.
    """
    if topic not in TOPICS:
        raise UnknownNameError("knowledge", "topic", topic, TOPICS)
    return (_folder() / TOPICS[topic]).read_text(encoding="utf-8")


def checklist() -> str:
    """Return the decision checklist of SKILL.md as Markdown.

    Raises:
        RunFailedError: SKILL.md has no section of that name.
    """
    text = read_topic("skill")
    found = re.search(rf"^## {CHECKLIST_HEADING}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise RunFailedError(
            "SKILL.md",
            "the checklist is missing",
            f"a section named {CHECKLIST_HEADING!r}",
            "Install the skill again",
        )
    return found.group(0).strip()
