"""Every exception the library raises, and the doors to what is imported late.

The tree::

    FineTuningError            anything below; ``str()`` is the message for the person
    ├── BadInputError          an argument, path or file that cannot be used (ValueError)
    │   └── UnknownNameError   a name that is not known; the nearest ones are named
    ├── MissingExtraError      an optional package is not installed (ImportError)
    ├── NotAllowedError        outside the path roots, offline, or not approved (PermissionError)
    └── RunFailedError         a child process or a run broke (RuntimeError)

Data faults are not exceptions: they are returned as ``records.Finding``.
To add an error, inherit from the class above whose exit code fits; do not add a sibling.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


class FineTuningError(Exception):
    """Base of all errors of this library; its text follows the house template.

    ``<where>: <what, with the value seen>; expected <what>. <one runnable next step>.``
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, where: str, what: str, expected: str, next_step: str) -> None:
        """Build the message from its four parts (row content never belongs in any of them)."""
        self.where, self.what, self.expected, self.next_step = where, what, expected, next_step
        super().__init__(where, what, expected, next_step)

    def __str__(self) -> str:
        """Return the one-line message of the house template."""
        return f"{self.where}: {self.what}; expected {self.expected}. {self.next_step}."

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the error picklable across processes, whatever built-in it also inherits."""
        return (type(self), (self.where, self.what, self.expected, self.next_step))


class BadInputError(FineTuningError, ValueError):
    """An argument, path or file that this call cannot use."""


class UnknownNameError(BadInputError):
    """A name that is not known."""

    def __init__(self, where: str, kind: str, name: str, known: Iterable[str]) -> None:
        """Say which name was not known and name the nearest known ones."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:8]
        step = f"Use {near[0]!r}" if near else "Leave it out"
        super().__init__(where, f"unknown {kind} {name!r}", f"one of {', '.join(near)}", step)
        self.kind, self.name, self.near = kind, name, near

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the exception picklable across processes."""
        return (UnknownNameError, (self.where, self.kind, self.name, self.near))


class MissingExtraError(FineTuningError, ImportError):
    """An optional package is needed for this feature and is not installed."""


class NotAllowedError(FineTuningError, PermissionError):
    """Refused by a rule of the house: path roots, offline mode or a missing approval."""


class RunFailedError(FineTuningError, RuntimeError):
    """A child process or a run broke; nothing it had finished is lost."""

    exit_code: ClassVar[int] = 4


def require(module: str, *, feature: str, extra: str) -> ModuleType:
    """Import an optional package, or say which pip line brings it.

    Args:
        module: Dotted module name, for example ``"scrubadub"``.
        feature: What the person asked for, for example ``"detector=scrubadub"``.
        extra: Name of the extra in pyproject.toml that contains the package.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package, or one that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            feature,
            f"the package {module!r} is not installed ({error})",
            f"the extra {extra!r}",
            f"Run: pip install 'fine-tuning-skill[{extra}]'",
        ) from error


def lazy(package: str, **homes: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports its public names at their first use.

    Type checkers must see plain imports instead, so that they find every wrong name: the package
    sets ``__getattr__`` only where ``TYPE_CHECKING`` is false.

    Args:
        package: The package's ``__name__``.
        homes: Module of the package → the public names it holds, separated by blanks.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
