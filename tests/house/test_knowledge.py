"""The texts of the skill say only what the program does, and stay within their limits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from finetuning.providers import all_providers
from finetuning.settings import VARIABLES
from finetuning.tokens import counter_for
from finetuning_skill import TOPICS, checklist, dispatch, parser

ROOT = Path(__file__).parents[2]
SKILL = ROOT / "SKILL.md"
KNOWLEDGE = tuple(ROOT / name for name in TOPICS.values() if name != "SKILL.md")
TEXTS = tuple(sorted(ROOT.glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN_LICENCE_FIELDS = {"name", "description", "license", "compatibility", "metadata"}


def _ids(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def _frontmatter_text() -> str:
    head, front, _body = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    assert head == ""
    return front


def _frontmatter() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(_frontmatter_text()))


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {_slug(found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def _words_after_program(line: str) -> list[str] | None:
    words = shlex.split(line, comments=True)
    for index, word in enumerate(words[:-1]):
        before = [other for other in words[:index] if not re.match(r"[A-Z_]+=", other)]
        runs_it = not before or before[0] in {"uv", "uvx"}
        if Path(word).name == "fine-tuning" and runs_it and re.match(r"[a-z]", words[index + 1]):
            return words[index + 1 :]
    return None


def _fenced_commands(path: Path) -> Iterator[list[str]]:
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language not in {"bash", "sh", "console"}:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = _words_after_program(line.removeprefix("$ "))
            if words is not None:
                yield words


def _inline_commands(path: Path) -> Iterator[list[str]]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for span in re.findall(r"`([^`\n]+)`", text):
        if re.search(r"(^|[ /])fine-tuning [a-z]", span):
            words = _words_after_program(span)
            if words is not None:
                yield words


def _all_fenced() -> list[tuple[str, list[str]]]:
    return [(path.name, words) for path in TEXTS for words in _fenced_commands(path)]


def _all_inline() -> list[tuple[str, list[str]]]:
    return [(path.name, words) for path in TEXTS for words in _inline_commands(path)]


def _command_id(value: object) -> str:
    return value if isinstance(value, str) else " ".join(cast("list[str]", value))[:60]


# --- frontmatter -----------------------------------------------------------------------------


def test_frontmatter_holds_only_fields_of_the_agent_skills_format() -> None:
    fields = _frontmatter()
    assert set(fields) == OWN_LICENCE_FIELDS
    assert fields["name"] == "fine-tuning"
    assert fields["license"] == "MIT-0"
    assert 1 <= len(fields["description"]) <= 1024
    assert len(fields["compatibility"]) <= 500


def test_frontmatter_is_block_style_yaml_without_duplicate_keys_or_tabs() -> None:
    text = _frontmatter_text()
    assert "\t" not in text
    for line in text.splitlines():
        value = re.sub(r"^\s*(- )?([\w-]+:)?\s*", "", line)
        assert not value.startswith(("[", "{", "&", "*", "!", "|", ">")), line
    top = re.findall(r"^([\w-]+):", text, re.MULTILINE)
    assert len(top) == len(set(top))


def test_description_can_be_found_in_english_and_chinese() -> None:
    description = _frontmatter()["description"]
    for trigger in ("should I fine-tune", "NaN", "LoRA", "OpenAI", "微调", "数据"):
        assert trigger in description
    assert "fine-tune" in description[:97]  # hosts may show no more than this


def test_frontmatter_declares_every_variable_that_the_code_reads_as_optional() -> None:
    declared = _frontmatter()["metadata"]["openclaw"]["envVars"]
    assert {row["name"]: row["description"] for row in declared} == VARIABLES
    assert all(row["required"] is False for row in declared)
    assert len(declared) == len(VARIABLES)


def test_frontmatter_needs_uv_or_python_and_tells_how_uv_is_installed() -> None:
    openclaw = _frontmatter()["metadata"]["openclaw"]
    assert openclaw["requires"] == {"anyBins": ["uv", "python3"]}
    assert [(row["kind"], row["package"], row["bins"]) for row in openclaw["install"]] == [
        ("uv", "uv", ["uv"])
    ]


def test_frontmatter_and_package_have_the_same_version() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = _frontmatter()["metadata"]["version"]
    assert f'version = "{version}"' in project
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# --- limits ----------------------------------------------------------------------------------


def test_skill_file_stays_within_the_limits_of_the_format() -> None:
    text = SKILL.read_text(encoding="utf-8")
    counter = counter_for()
    tokens = counter.count([text])[0] * (1.0 if counter.exact else 1.3)
    assert len(text.splitlines()) <= 500
    assert tokens <= 5000


@pytest.mark.parametrize("path", KNOWLEDGE, ids=_ids(KNOWLEDGE))
def test_knowledge_file_is_short_says_when_to_open_it_and_is_in_the_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    opening = text.split("\n\n", 2)[1]
    assert opening.startswith("Open this when")
    assert re.search(r"checked 20\d\d-\d\d-\d\d", text), "no date of the facts"
    assert "## Not known" in text
    rows = [row for row in SKILL.read_text(encoding="utf-8").splitlines() if row.startswith("|")]
    assert any(f"]({path.name})" in row for row in rows)


def test_skill_has_the_sections_that_the_server_and_the_reader_look_for() -> None:
    headings = re.findall(r"^## (.+)$", SKILL.read_text(encoding="utf-8"), re.MULTILINE)
    for heading in ("Decision checklist", "Where to look", "Calling the tools", "Without tools"):
        assert heading in headings
    assert checklist().count("\n1. ") == 1


def test_mode_without_tools_carries_the_date_of_its_facts() -> None:
    section = SKILL.read_text(encoding="utf-8").split("## Without tools")[1]
    assert str(_frontmatter()["metadata"]["facts-checked"]) in section


# --- dates -----------------------------------------------------------------------------------


def test_coming_end_dates_of_the_catalogue_stand_in_the_providers_file() -> None:
    checked = str(_frontmatter()["metadata"]["facts-checked"])
    text = (ROOT / "providers.md").read_text(encoding="utf-8")
    coming = {
        f"{provider.id}: {event.date}"
        for provider in all_providers()
        for event in provider.lifecycle
        if event.event in {"training_end", "inference_end"} and str(event.date) > checked
    }
    assert coming
    assert {row for row in coming if row.split(": ")[1] not in text} == set()


def test_dates_of_the_skill_file_stand_in_a_knowledge_file_too() -> None:
    facts = (
        SKILL.read_text(encoding="utf-8").split("## Facts you may not have")[1].split("\n## ")[0]
    )
    dates = set(re.findall(r"20\d\d-\d\d-\d\d", facts))
    knowledge_text = "".join(path.read_text(encoding="utf-8") for path in KNOWLEDGE)
    assert len(dates) >= 5
    assert {date for date in dates if date not in knowledge_text} == set()


# --- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "words"), _all_fenced(), ids=_command_id)
def test_command_in_a_code_block_is_accepted_by_the_program(file: str, words: list[str]) -> None:
    command = words[0]
    values = vars(parser.command_parser(command).parse_args(words[1:]))
    name = command.replace("-", "_")
    if name not in dispatch.TOOLS:
        assert command in parser.CLI_ONLY, file
        return
    hints = dispatch.arguments_of(name).model_fields
    given = {
        key: parser.read_value(value, hints[key].annotation, command)
        for key, value in values.items()
        if key in hints
    }
    dispatch.check(name, given)


@pytest.mark.parametrize(("file", "words"), _all_inline(), ids=_command_id)
def test_command_named_in_a_sentence_exists_with_its_options(file: str, words: list[str]) -> None:
    known = parser.command_parser(words[0])
    options = cast("dict[str, object]", vars(known)["_option_string_actions"])
    for word in words[1:]:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"{file}: {words[0]} has no {word}"


@pytest.mark.parametrize("path", TEXTS, ids=_ids(TEXTS))
def test_option_named_in_a_sentence_belongs_to_some_command(path: Path) -> None:
    known = {
        option
        for command in parser.commands()
        for option in cast(
            "dict[str, object]", vars(parser.command_parser(command))["_option_string_actions"]
        )
    }
    foreign = {
        "--http",
        "--no-dev",
        "--project",
        "--extra",
        "--directory",
        "--cpu",
        "--num_processes",
    }
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    named = {
        option
        for span in re.findall(r"`(--?[^`\n]+|fine-tuning [^`\n]+)`", text)
        for option in re.findall(r"--[a-z][a-z_-]+", span)
    }
    assert named - known - foreign == set()


def test_every_tool_is_described_in_a_knowledge_file_and_listed_for_the_assistant() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in KNOWLEDGE}
    listing = SKILL.read_text(encoding="utf-8") + (ROOT / "README.md").read_text(encoding="utf-8")
    for tool in dispatch.TOOLS.values():
        command = f"fine-tuning {tool.command}"
        assert any(command in text for text in files.values()), f"no example of {command}"
        assert f"`{tool.name}`" in listing, f"{tool.name} is listed nowhere"


def test_texts_name_no_tool_that_does_not_exist() -> None:
    later = {
        "compare_providers",
        "compliance_report",
        "export_adapter",
        "capture_outputs",
        "plan_migration",
    } - set(dispatch.TOOLS)
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for name in later:
            assert name not in text, path.name
            assert name.replace("_", "-") not in text, path.name


# --- links and hygiene -----------------------------------------------------------------------


@pytest.mark.parametrize("path", TEXTS, ids=_ids(TEXTS))
def test_relative_links_lead_to_a_file_and_a_heading_that_exist(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in _anchors(file), f"{path.name} links to {target}"


def test_anchors_cited_in_docstrings_and_prose_exist() -> None:
    sources = [*TEXTS, *ROOT.glob("tools/**/*.py"), *ROOT.glob("skill/**/*.py")]
    missing = [
        f"{source.relative_to(ROOT)}: {name}#{anchor}"
        for source in sources
        for name, anchor in re.findall(
            r"\b([\w-]+\.md)#([\w-]+)", source.read_text(encoding="utf-8")
        )
        if not (ROOT / name).exists() or anchor not in _anchors(ROOT / name)
    ]
    assert missing == []


def _scanner_traps() -> list[re.Pattern[str]]:
    """Patterns that skill scanners flag (ClawHub moderation 2.4.26, read 2026-11)."""
    return [
        re.compile("ignore (all )?" + "previous instructions", re.IGNORECASE),
        re.compile("system " + "prompt:", re.IGNORECASE),
        re.compile(r'^\s*\w+\s*=\s*"\$' + r"\{\w+\}", re.MULTILINE),
        re.compile(r"export \w*_KEY=" + r"\S*[\w-]{8}"),
        re.compile(r"--(token|key|api-key|password)[ =]\$"),
        re.compile(r"\bsk-" + r"[A-Za-z0-9_-]{12}"),
        re.compile("verify=" + "False"),
        re.compile("curl [^\n]*\\| *(ba)?" + "sh"),
    ]


@pytest.mark.parametrize("path", TEXTS, ids=_ids(TEXTS))
def test_text_trips_no_scanner_and_names_no_machine_or_package_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    hosts = [
        "py" + "pi.org",
        "python" + "hosted",
        "npm" + "js",
        "artifact" + "ory",
        "/si" + "mple/",
    ]
    places = ["/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/", "/Us" + "ers/", "C:" + "\\"]
    for pattern in _scanner_traps():
        assert not pattern.search(text), pattern.pattern
    for word in [*hosts, *places]:
        assert word not in text, word
