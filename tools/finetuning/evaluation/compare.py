"""compare_eval: base and tuned on the same held-out rows, with a verdict that holds.

What it needs is imported when it is called: servers import this module at their start.
"""

from __future__ import annotations

from typing import Literal

from finetuning.evaluation.results import Arm, EvalComparison
from finetuning.records import Usd


def compare_eval(
    data: str,
    base: str,
    tuned: str | None = None,
    arms: list[Arm] | None = None,
    metrics: str | list[str] = "auto",
    general: str = "builtin",
    train: str | None = None,
    margin: float = 0.02,
    alpha: float = 0.05,
    cluster_column: str | None = None,
    log: str | None = None,
    max_tokens: int = 512,
    language: Literal["en", "zh"] = "en",
    output_dir: str | None = None,
    overwrite: bool = False,
    dry_run: bool | None = None,
    plan_id: str | None = None,
    price_in_usd_per_mtok: Usd | None = None,
    price_out_usd_per_mtok: Usd | None = None,
    limit: int | None = 10,
    offset: int = 0,
) -> EvalComparison:
    """Compare a tuned model with its base on held-out rows, and say whether to ship it.

    Paired verdict with an interval, what was lost elsewhere, memorisation, contamination. Without
    `tuned` it measures the base: do that before any training. A target is `local:DIR`,
    `local:DIR+ADAPTER`, `run:RUN_ID`, `recorded:FILE` or `http://HOST/v1#MODEL`.

    Args:
        data: Held-out rows: a file, or a folder of prepare_data (its test.jsonl is used). Rows
            are prompt/completion or messages that end in the right answer.
        base: Target to compare with.
        tuned: Target to judge; leave it out to measure the base alone.
        arms: More competitors, for example the base with a better prompt: name, target, and
            optionally system and few_shot (1 to 64 examples from `train`).
        metrics: auto (by what the references look like) or names: accuracy, macro_f1,
            exact_match, json_match, json_field_f1, json_parse_rate, token_f1, nll. The first
            one decides.
        general: What else must not get worse: builtin (66 short texts over six domains), none,
            or a file of prompt/completion, messages or text rows.
        train: Training rows (file or folder), to look for test rows among them and for
            memorisation.
        margin: Difference that does not matter, 0..1 in the metric's unit.
        alpha: Two-sided error rate, between 0 and 1.
        cluster_column: Column that names rows which belong together (customer, document).
        log: Training log of the tuned model, for the curve; a run: target brings its own.
        max_tokens: Most tokens to write per answer, 1 to 32768.
        language: Language of the report: en or zh.
        output_dir: New folder for report, result and answers; default is under the reports.
        overwrite: Replace the results in output_dir.
        dry_run: Only say what would run; default true if a target is another machine.
        plan_id: Plan of a dry run that a person approved.
        price_in_usd_per_mtok: What a server elsewhere charges for a million tokens read.
        price_out_usd_per_mtok: What it charges for a million tokens written.
        limit: Most flips to list, at least 1; None lists all.
        offset: Flips to skip.

    Returns:
        Verdict, metrics with intervals, general ability, flips (ids only) and the report's path.

    Raises:
        BadInputError: An argument, a file or a model cannot be used.
        NotAllowedError: Prompts would leave the machine without approval.
        RunFailedError: The process that runs a local model broke.

    Source: arXiv 2411.00640, arXiv 2503.01747 (checked 2026-11-20); knowledge: evaluation.md
    """
    given = dict(locals())
    from finetuning.evaluation.call import Call
    from finetuning.evaluation.comparison import run_comparison

    return run_comparison(Call(**given))
