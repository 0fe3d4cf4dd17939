"""The layout of the house, checked: sizes, names, topics, what ships, what is read."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetuning.settings import VARIABLES
from finetuning_skill.table import TOOLS

ROOT = Path(__file__).parents[2]
MODULES = tuple(sorted([*ROOT.glob("tools/**/*.py"), *ROOT.glob("skill/**/*.py")]))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}
TOPICS = {
    "fit": "SKILL.md",
    "providers": "providers.md",
    "data_prep": "data-prep.md",
    "training": "training.md",
    "evaluation": "evaluation.md",
    "costs": "costs.md",
    "compliance": "compliance.md",
}
MIB = 1024 * 1024


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and lines; a tool's signature and docstring are its schema and do not count."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.lineno
            if node.name in TOOLS:
                first = node.body[0 if ast.get_docstring(node) is None else 1].lineno
            yield node.name, (node.end_lineno or node.lineno) - first + 1


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_is_short_and_its_functions_too(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300
    too_long = {name: lines for name, lines in _functions(path) if lines >= 60}
    assert too_long == {}


def test_nine_of_ten_functions_have_at_most_30_lines() -> None:
    lengths = sorted(lines for path in MODULES for _, lines in _functions(path))
    assert lengths[int(len(lengths) * 0.9)] <= 30


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_is_named_by_its_topic(path: Path) -> None:
    assert path.stem.strip("_").lower() not in FORBIDDEN_NAMES
    assert path.parent.name.lower() not in FORBIDDEN_NAMES


@pytest.mark.parametrize(("package", "file"), TOPICS.items(), ids=list(TOPICS))
def test_topic_has_its_knowledge_file_package_and_tests(package: str, file: str) -> None:
    assert (ROOT / file).is_file()
    assert (ROOT / "tools" / "finetuning" / package / "__init__.py").is_file()
    assert any((ROOT / "tests" / package).glob("test_*.py"))


def test_each_test_file_name_is_used_once() -> None:
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert len(names) == len(set(names))


# --- what ships ------------------------------------------------------------------------------


def _git(*arguments: str) -> list[Path]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return [Path(name) for name in done.stdout.split("\0") if name]


def _shipped() -> list[Path]:
    ignored = set(_git("--cached", "--ignored", "--exclude-from=.clawhubignore"))
    return [
        path
        for path in _git()
        if path not in ignored
        and not any(part.startswith(".") for part in path.parts)
        and (ROOT / path).is_file()
    ]


def test_what_ships_fits_into_a_managed_bundle() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in _shipped()}
    assert len(sizes) <= 220
    assert {name: size for name, size in sizes.items() if size > MIB} == {}
    assert sum(sizes.values()) <= 4 * MIB


def test_what_ships_holds_the_skill_and_leaves_the_workshop_at_home() -> None:
    shipped = {path.as_posix() for path in _shipped()}
    assert {"SKILL.md", "README.md", "LICENSE", "pyproject.toml"} <= shipped
    assert set(TOPICS.values()) <= shipped
    folders = {name.split("/")[0] for name in shipped if "/" in name}
    assert folders == {"skill", "tools"}


def test_no_plugin_manifest_at_the_root_hides_the_skill() -> None:
    tracked = {path.as_posix() for path in _git()}
    for name in (".claude-plugin/plugin.json", "openclaw.plugin.json"):
        assert name not in tracked
    assert not any(name.startswith((".codex-plugin/", ".cursor-plugin/")) for name in tracked)


# --- what the code does not do ---------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_does_not_print(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert calls == []


def _is_environ(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "environ"
    return isinstance(node, ast.Name) and node.id == "environ"


def _key_of(node: ast.AST) -> ast.expr | None:
    """Return the expression that names an environment variable which this node reads."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return node.slice if _is_environ(node.value) else None
    if isinstance(node, ast.Compare) and any(_is_environ(right) for right in node.comparators):
        return node.left
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func
    if isinstance(called, ast.Attribute):
        if called.attr == "getenv" or (called.attr in {"get", "pop"} and _is_environ(called.value)):
            return node.args[0]
    elif isinstance(called, ast.Name) and called.id == "getenv":
        return node.args[0]
    return None


def _constants(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found |= {t.id: value.value for t in targets if isinstance(t, ast.Name)}
    return found


def _variables_read(tree: ast.Module) -> set[str]:
    """Names of the variables a module reads; a computed name reads as its source text."""
    constants = _constants(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        key = _key_of(node)
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            names.add(key.value)
        elif isinstance(key, ast.Name):
            names.add(constants.get(key.id, key.id))
        elif key is not None:
            names.add(ast.unparse(key))
    return names


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_reads_only_declared_environment_variables(path: Path) -> None:
    tree = _tree(path)
    undeclared = _variables_read(tree) - set(VARIABLES)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "finetuning.settings"
        for alias in node.names
    }
    if imported & {"VARIABLES", "SECRET_VARIABLES"}:  # a loop over the declared names
        undeclared = {name for name in undeclared if not name.islower()}
    assert undeclared == set()
