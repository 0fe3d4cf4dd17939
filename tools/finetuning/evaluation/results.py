"""The shapes that compare_eval takes and returns, and when a result is one to ship."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from finetuning.records import Fraction, Model, ToolResult, Usd

WHERE: Final = "compare_eval"
"""The tool's name, for error texts and plans."""

Verdict = Literal["improved", "worse", "tied", "underpowered", "invalid", "baseline"]
Ship = Literal["yes", "no", "needs_more_data"]
GeneralVerdict = Literal["not_worse", "worse", "unclear"]
Pair = tuple[float, float]

EXIT_CODES: dict[str, int] = {"worse": 1, "underpowered": 3, "invalid": 4}
"""Exit code of a verdict; all others are 0."""


class Arm(Model, defer_build=True):
    """One more competitor beside base and tuned."""

    name: str = Field(min_length=1, max_length=60, description="Its name in the result.")
    target: str = Field(description="local:DIR, run:RUN_ID, recorded:FILE or http://HOST/v1#MODEL.")
    system: str | None = Field(default=None, description="Instruction put before every prompt.")
    few_shot: int | None = Field(
        default=None, ge=1, le=64, description="Examples from `train` put before every prompt."
    )


class TaskMetric(Model, defer_build=True):
    """One metric on the held-out rows (diff = tuned - base)."""

    metric: str
    n: int
    base: float
    tuned: float | None = None
    diff: float | None = None
    ci95: Pair = Field(description="Of diff; of base where only the base was measured.")
    p: float | None = None
    p_holm: float | None = Field(default=None, description="p over all metrics of this list.")
    wins: int | None = Field(default=None, description="Rows on which tuned is better.")
    ties: int | None = None
    losses: int | None = None
    mde: float = Field(description="Smallest difference these rows show with 80 % power.")
    n_needed: int | None = Field(default=None, description="Rows that would settle it.")
    clusters: int | None = None
    better: Literal["higher", "lower"] = "higher"
    method: str


class GeneralMatch(Model, defer_build=True):
    """Exact match on rows that have nothing to do with the task."""

    base: float
    tuned: float
    diff: float
    ci95: Pair
    p: float


class General(Model, defer_build=True):
    """What the training cost elsewhere."""

    n: int
    base_nll: float | None = Field(default=None, description="Nats per token.")
    tuned_nll: float | None = None
    delta_nll: float | None = Field(default=None, description="tuned - base; above 0 is worse.")
    ci95: Pair | None = None
    margin_nll: float = Field(description="Loss that counts as no loss, in nats per token.")
    exact_match: GeneralMatch | None = None
    by_domain: dict[str, float] = Field(
        default_factory=dict[str, float], description="delta_nll of each domain."
    )
    verdict: GeneralVerdict
    safety: dict[str, float] | None = Field(
        default=None, description="Harmful requests: n, base_refused, tuned_refused, p."
    )


class ArmResult(Model, defer_build=True):
    """How one arm did against the base, and the tuned model against it."""

    name: str
    target: str
    verdict: Verdict
    metric: str
    score: float
    score_ci95: Pair | None = Field(default=None, description="Interval of the score itself.")
    diff: float
    ci95: Pair
    p: float
    general: General | None = None
    tuned_diff: float | None = Field(default=None, description="tuned - this arm.")
    tuned_ci95: Pair | None = None


class Subset(Model, defer_build=True):
    """The first metric again, without some of the rows."""

    n: int
    base: float
    tuned: float
    diff: float
    ci95: Pair
    p: float


class Gate(Subset, defer_build=True):
    """The deciding metric against answers that were accepted before: `base` is theirs."""

    against: str = Field(description="The file they were read from.")
    verdict: GeneralVerdict = Field(description="not_worse: a loss beyond the margin is excluded.")


class Contamination(Model, defer_build=True):
    """Test rows that training saw, exactly or nearly."""

    n_train: int
    exact: int = Field(description="Test rows that stand in the training file.")
    same_prompt: int = Field(description="Test rows whose prompt stands there.")
    ngram13: int = Field(description="Test rows that share 13 words in a row with it.")
    near: int = Field(description="Test rows with word overlap (Jaccard) of .5 or more.")
    fraction: Fraction = Field(description="Share of test rows with any of these.")
    ids: list[str] = Field(description="The first of them.")
    without: Subset | None = Field(default=None, description="Result without these rows.")


class Canaries(Model, defer_build=True):
    """Planted markers against numbers never planted."""

    planted: int = Field(description="Markers that were scored.")
    first: int = Field(description="Those likelier than all 63 numbers never planted.")
    exposure_bits: float = Field(description="Mean log2(64 / rank); about 1.4 by chance.")
    base_exposure_bits: float | None
    most_bits: float
    p: float = Field(description="Chance of so many in first place without memory.")


class Verbatim(Model, defer_build=True):
    """Answers that copy training answers word for word."""

    words: int = Field(description="Words in a row that count as a copy.")
    rows: int
    longest: int
    ids: list[str]


class Memorisation(Model, defer_build=True):
    """Whether the tuned model knows its training rows better than unseen ones."""

    n_train: int | None = None
    n_unseen: int | None = None
    train_nll: Pair | None = Field(
        default=None, description="Base and tuned, nats per token, on training rows."
    )
    unseen_nll: Pair | None = Field(default=None, description="Base and tuned, on the test rows.")
    gap: float | None = Field(default=None, description="Unseen - train NLL; tuned less base.")
    auc: Fraction | None = Field(
        default=None, description="Chance that a training row looks more familiar; .5 = none."
    )
    auc_ci95: Pair | None = None
    canaries: Canaries | None = None
    verbatim: Verbatim | None = None


class SideFormat(Model, defer_build=True):
    """How one side's answers look."""

    missing_fraction: Fraction
    truncated_fraction: Fraction = Field(description="Answers cut at max_tokens.")
    refusal_fraction: Fraction = 0.0
    repetition_fraction: Fraction = Field(default=0.0, description="Answers that go in circles.")
    language_switch_fraction: Fraction = Field(default=0.0, description="In another script.")
    broken_json_fraction: Fraction | None = Field(default=None, description="None: no JSON asked.")
    mean_characters: float
    length_ratio: float | None = Field(default=None, description="Median, answer to reference.")


class Speed(Model, defer_build=True):
    """Wall time until an answer was there."""

    p50_ms: float
    p95_ms: float


class Latency(Speed, defer_build=True):
    """Of the tuned model (of the base where there is none), and of every side."""

    sides: dict[str, Speed]
    how: str


class Preference(Model, defer_build=True):
    """Which answers a judge, or a person who did not know the sides, preferred."""

    by: str = Field(description="The judge's target, or `person`.")
    n: int = Field(description="Rows with a verdict.")
    wins: int = Field(description="Rows on which tuned is preferred.")
    ties: int
    losses: int
    no_verdict: int = Field(default=0, description="Rows whose verdict could not be read.")
    win_rate: float = Field(description="Wins and half of the ties, 0..1; .5 = no difference.")
    diff: float = Field(description="Share of wins less share of losses.")
    ci95: Pair
    p: float
    win_rate_same_length: float | None = Field(
        default=None, description="Win rate expected if both answers were equally long."
    )
    first_place: Fraction | None = Field(
        default=None, description="Rows won by the place alone, first in both orders."
    )
    second_place: Fraction | None = None
    kappa: float | None = Field(default=None, description="Agreement with people beyond chance.")
    kappa_n: int = 0
    calls: int = 0
    cost_usd: Usd | None = None


class Flip(Model, defer_build=True, populate_by_name=True):
    """One row whose answer changed; harm first, never its text."""

    id: str
    line: int
    from_: float = Field(alias="from", description="Score of base.")
    to: float = Field(description="Score of tuned.")


class TrainingNote(Model, defer_build=True):
    """What the training log of the tuned model says."""

    diagnosis: str | None = Field(description="Top class of diagnose_run; None: too few points.")
    fix: str
    best_checkpoint: int | None
    n_points: int


class RemotePlan(Model, defer_build=True):
    """What a run would send and cost."""

    steps: list[str]
    cost_usd: Usd | None = Field(description="None: the price is not known.")
    data_leaves_machine: bool


class EvalComparison(ToolResult, defer_build=True):
    """Whether the tuned model is really better, and what it cost elsewhere."""

    verdict: Verdict | None = Field(default=None, description="None after a dry run.")
    ship: Ship | None = None
    sentence: str = ""
    reasons: list[str] = Field(default_factory=list[str], description="Why not to ship; faults.")
    cautions: list[str] = Field(default_factory=list[str])
    task: list[TaskMetric] = Field(default_factory=list["TaskMetric"])
    headroom: float | None = Field(default=None, description="Up to 1 or label_agreement.")
    general: General | None = None
    arms: list[ArmResult] = Field(default_factory=list["ArmResult"])
    contamination: Contamination | None = None
    memorisation: Memorisation | None = None
    training: TrainingNote | None = None
    judge: Preference | None = None
    review: Preference | None = None
    review_file: str | None = None
    gate: Gate | None = None
    format: dict[str, SideFormat] = Field(default_factory=dict[str, SideFormat])
    latency: Latency | None = None
    flips: list[Flip] = Field(default_factory=list["Flip"])
    total: int = Field(default=0, description="Rows that flipped, on all pages.")
    next_offset: int | None = None
    unusable_rows: dict[str, int] = Field(default_factory=dict[str, int])  # by fault code
    test_looks: int = Field(default=0, description="How often this test file was used so far.")
    margin: float = 0.02
    alpha: float = 0.05
    outputs: dict[str, str] = Field(default_factory=dict[str, str])  # usable as recorded:
    provenance: dict[str, Any] = Field(default_factory=dict[str, Any])
    report_file: str | None = None
    result_file: str | None = None
    plan: RemotePlan | None = None
    plan_id: str | None = None
    needs_approval: bool = False

    def exit_code(self) -> int:
        """Return 0 improved, tied, baseline or dry run, 1 worse, 3 underpowered, 4 invalid.

        A gate that found a loss makes it 1; one that cannot exclude a loss, 3 instead of 0.
        """
        gate = {"worse": 1, "unclear": 3}.get(self.gate.verdict, 0) if self.gate else 0
        return EXIT_CODES.get(self.verdict or "", 0) or gate

    def summary(self) -> str:
        """Return the verdict with its numbers."""
        if self.verdict is None:
            return f"dry run: {'; '.join(self.plan.steps) if self.plan else 'nothing was run'}"
        ship = f"; ship: {self.ship}" if self.ship else ""
        return f"{self.verdict}: {self.sentence}{ship}"
