"""Facts that follow from other facts; unknown where what they need is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from finetuning.fit import circumstances, money
from finetuning.fit.money import MONEY_AND_SPEED

Facts = Mapping[str, Any]
Derivation = Callable[[Facts], Any]

_CONTEXT: Final = frozenset({"missing_knowledge", "stale_knowledge"})
_BEHAVIOUR: Final = frozenset({"style", "format", "inconsistency", "refusals", "wrong_tool"})
_SKILL: Final = frozenset({"reasoning", "language"})
_TASTE: Final = frozenset({"style", "inconsistency", "refusals"})
_STRICT_TASKS: Final = frozenset({"extraction", "tool_calling", "classification"})

_SCORES: Final = (
    "prompt_score",
    "tuned_score",
    "base_task_score",
    "rag_score",
    "cheap_base_score",
    "oracle_context_score",
)
"""A known score means that something was measured on rows."""

_ROWS_DEFAULT: Final = (100, 500)
_ROWS: Final = {
    "classification": (200, 1_000),
    "extraction": (200, 1_000),
    "tool_calling": (200, 1_000),
    "code": (1_000, 10_000),
    "translation": (5_000, 50_000),
}
"""Rows to start with, and rows to be comfortable with, by kind of task: this project's judgement,
as are most ranges of data-prep.md#how-much-data (checked 2026-11-20)."""
_ROWS_SKILL: Final = (1_000, 10_000)
_ROWS_LANGUAGE: Final = (5_000, 50_000)
_ROWS_FORMAT: Final = (50, 200)

_LEAST_AGREEMENT: Final = 0.75
_MOST_CONFLICTS: Final = 0.10
_LIFT: Final = 0.15
_HEADROOM: Final = 0.1
_STUDENT_ROWS: Final = 1_000
_ENCODER_ROWS: Final = 500
_ENCODER_ROWS_PER_CLASS: Final = 20
"""Thresholds of this project: no controlled study of them was found (checked 2026-11-20)."""


def _fails(facts: Facts, modes: frozenset[str]) -> bool | None:
    given = facts["failure_modes"]
    return None if given is None else not modes.isdisjoint(given)


def _margin(facts: Facts, score: str = "prompt_score") -> float | None:
    value, target = facts[score], facts["target_score"]
    return None if value is None or target is None else round(value - target, 6)


def _difference(facts: Facts, more: str, less: str) -> float | None:
    high, low = facts[more], facts[less]
    return None if high is None or low is None else round(high - low, 6)


def _eval_exists(facts: Facts) -> bool | None:
    if facts["has_eval"] is not None:
        return bool(facts["has_eval"])
    return True if any(facts[name] is not None for name in _SCORES) else None


def _quality_fails(facts: Facts) -> bool | None:
    given = facts["failure_modes"]
    margin = facts["margin"]
    if given is None:
        return True if margin is not None and margin < 0 else None
    left = set(given) - MONEY_AND_SPEED - {"none"}
    if facts["context_helps"] is not False:
        left -= _CONTEXT
    return bool(left)


def _context_fails(facts: Facts) -> bool | None:
    """Say whether facts are missing: as named, or as the score with the facts given shows."""
    named = _fails(facts, _CONTEXT)
    oracle, now, target = (
        facts[n] for n in ("oracle_context_score", "prompt_score", "target_score")
    )
    if None not in (oracle, now) and oracle - now >= _LIFT:
        return True if oracle >= (target or 0.8) - 0.05 else named
    return named


def _skill_fails(facts: Facts) -> bool | None:
    """Say whether the skill itself fails: as named, or as sampling against a verifier shows."""
    given, gain = facts["failure_modes"], facts["sampling_gain"]
    sampled = facts["has_verifier"] and gain is not None and gain >= _HEADROOM
    if sampled and (given is None or "inconsistency" in given):
        return True
    return None if given is None else "reasoning" in given


def _sampling_gain(facts: Facts) -> float | None:
    """Return what sixteen tries add to one; the prompt's score stands in for one try."""
    one = "prompt_score" if facts["pass_at_1"] is None else "pass_at_1"
    return _difference(facts, "pass_at_16", one)


def _tuned_gain(facts: Facts) -> float | None:
    """Return what tuning added to the best of base and prompt."""
    known = [facts[n] for n in ("base_task_score", "prompt_score") if facts[n] is not None]
    tuned = facts["tuned_score"]
    return None if tuned is None or not known else round(tuned - max(known), 6)


def _context_helps(facts: Facts) -> bool | None:
    oracle = facts["oracle_context_score"]
    if oracle is None:
        return None
    now, target = facts["prompt_score"], facts["target_score"]
    if now is not None and oracle - now >= _LIFT:
        return True
    return bool(oracle >= (0.8 if target is None else target - 0.05))


def _syntax_fails(facts: Facts) -> bool | None:
    given, broken = facts["failure_modes"], facts["invalid_syntax_fraction"]
    if broken is not None and broken > 0.005:
        return True
    if given is None:
        return None
    if "syntax" in given:
        return True
    return "format" in given and broken is None and facts["task_kind"] in _STRICT_TASKS


def _syntax_decides(facts: Facts) -> bool | None:
    """Say whether broken syntax is what stands between now and the target.

    A small share of broken answers beside a gap more than three times as large is mended on the
    way and decides nothing, unless nothing else is said to fail.
    """
    broken, given = facts["invalid_syntax_fraction"], facts["failure_modes"]
    now, target = facts["prompt_score"], facts["target_score"]
    others = set(given or ()) - MONEY_AND_SPEED - {"syntax", "format", "none"}
    if facts["syntax_fails"] and (others or given is None) and None not in (broken, now):
        return bool(3 * broken >= (1.0 if target is None else target) - now)
    return cast("bool | None", facts["syntax_fails"])


def _larger_model_tried(facts: Facts) -> bool | None:
    tried, best = facts["prompts_tried"], facts["best_model_tried"]
    if best or (tried is not None and "larger_model" in tried):
        return True
    return None if tried is None and best is None else False


def _prompting_done(facts: Facts) -> bool | None:
    tried = facts["prompts_tried"]
    return None if tried is None else bool(set(tried) - {"zero_shot"})


def _rows_wanted(facts: Facts) -> tuple[int, int]:
    given: set[str] = set(facts["failure_modes"] or ())
    kind = facts["task_kind"]
    wanted = _ROWS.get(kind, _ROWS_DEFAULT) if kind is not None else _ROWS_DEFAULT
    if "language" in given or kind == "translation":
        return _ROWS_LANGUAGE
    if "reasoning" in given:
        return max(wanted, _ROWS_SKILL)
    if given and given <= {"format"}:
        return _ROWS_FORMAT
    classes = facts["n_classes"]
    if kind == "classification" and classes:
        return max(wanted[0], 10 * classes), max(wanted[1], 50 * classes)
    return wanted


def _enough(facts: Facts, which: int) -> bool | None:
    rows = facts["rows"]
    return None if rows is None else rows >= _rows_wanted(facts)[which]


def _rows(facts: Facts) -> int | None:
    """Return how many rows could be trained on: labelled ones, else a teacher's answers."""
    known = facts["n_examples"]
    return cast("int | None", facts["n_teacher_outputs"] if known is None else known)


def _labels_why(facts: Facts) -> str | None:
    agreement, conflict = facts["label_agreement"], facts["label_conflict_fraction"]
    target = facts["target_score"]
    if conflict is not None and conflict > _MOST_CONFLICTS:
        return f"{conflict:.0%} of the inputs carry two conflicting answers"
    if agreement is None:
        return None if conflict is None else ""
    if agreement < _LEAST_AGREEMENT:
        return f"annotators agree on {agreement:.0%}"
    if target is not None and agreement < target - 0.02:
        return f"annotators agree on {agreement:.0%} and the target is {target:.0%}"
    return ""


def _most_rows(facts: Facts) -> int | None:
    names = ("n_examples", "n_preference_pairs", "n_binary_feedback", "n_teacher_outputs")
    known = [facts[name] for name in names if facts[name] is not None]
    return max(known) if known else None


def _rows_for_student(facts: Facts) -> bool | None:
    known = [facts[name] for name in ("n_examples", "n_teacher_outputs") if facts[name] is not None]
    return max(known) >= _STUDENT_ROWS if known else None


def _rows_for_encoder(facts: Facts) -> bool | None:
    rows = facts["n_examples"]
    needed = max(_ENCODER_ROWS, _ENCODER_ROWS_PER_CLASS * (facts["n_classes"] or 0))
    return None if rows is None else rows >= needed


def _rag_tried(facts: Facts) -> bool | None:
    if facts["rag_score"] is not None:
        return True
    tried = facts["prompts_tried"]
    return None if tried is None else "retrieval" in tried


DERIVED: Final[dict[str, Derivation]] = {
    "eval_exists": _eval_exists,
    "margin": _margin,
    "tuned_margin": lambda facts: _margin(facts, "tuned_score"),
    "rag_margin": lambda facts: _margin(facts, "rag_score"),
    "tuned_gain": _tuned_gain,
    "sampling_gain": _sampling_gain,
    "only_none_fails": lambda facts: (
        None if facts["failure_modes"] is None else facts["failure_modes"] == ["none"]
    ),
    "context_fails": _context_fails,
    "behaviour_fails": lambda facts: _fails(facts, _BEHAVIOUR),
    "skill_fails": _skill_fails,
    "language_fails": lambda facts: _fails(facts, frozenset({"language"})),
    "taste_fails": lambda facts: _fails(facts, _TASTE),
    "quality_fails": _quality_fails,
    "context_helps": _context_helps,
    "syntax_fails": _syntax_fails,
    "syntax_decides": _syntax_decides,
    "larger_model_tried": _larger_model_tried,
    "prompting_done": _prompting_done,
    "rag_tried": _rag_tried,
    "rows": _rows,
    "rows_needed": lambda facts: _rows_wanted(facts)[0],
    "rows_start": lambda facts: _enough(facts, 0),
    "rows_comfortable": lambda facts: _enough(facts, 1),
    "most_rows": _most_rows,
    "rows_for_student": _rows_for_student,
    "rows_for_encoder": _rows_for_encoder,
    "labels_why": _labels_why,
    "labels_bad": lambda facts: None if facts["labels_why"] is None else bool(facts["labels_why"]),
    **circumstances.DERIVED,
    **money.DERIVED,
}
"""Name → how it follows. Names may build on each other; there is no circle."""


class View(dict[str, Any]):
    """Absent is None; derived facts are computed once, when first read."""

    def __missing__(self, name: str) -> Any:
        """Compute and keep a derived fact; anything else that is absent is unknown."""
        derive = DERIVED.get(name)
        value = None if derive is None else derive(self)
        self[name] = value
        return value


class TracedView(View):
    """A view that remembers which facts were read.

    A verdict depends on nothing that was not read on the way to it: a fact outside ``read``
    cannot flip it alone.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """Start with nothing read."""
        super().__init__(facts)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Return a fact and note that it was read."""
        self.read.add(name)
        return super().__getitem__(name)
