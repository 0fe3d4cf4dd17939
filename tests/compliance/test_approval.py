"""Approval: one person's yes, for exactly one call, up to one amount, once."""

import json
import stat
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules_of_the_game
from hypothesis import strategies as st

from finetuning.approval import (
    Plan,
    approve_plan,
    check_plan,
    create_plan,
    read_plan,
    use_plan,
)
from finetuning.errors import BadInputError, NotAllowedError, RunFailedError, UnknownNameError
from finetuning.settings import settings

ARGUMENTS = {"config": "training.json", "provider": "together", "max": 2, "note": None}
USER = """
import json, sys
from decimal import Decimal
from pathlib import Path
from finetuning.approval import use_plan
from finetuning.errors import NotAllowedError
try:
    use_plan(sys.argv[1], "launch_lora", arguments=json.loads(sys.argv[2]),
             files=[Path(sys.argv[3])], cost_usd=Decimal("4.20"))
    print("mine")
except NotAllowedError:
    print("refused")
"""


class Call:
    """A launch that costs $4.20 and sends one file."""

    def __init__(self, folder: Path, cost: str | None = "4.20") -> None:
        self.file = folder / "train.jsonl"
        self.file.write_text("{}\n")
        self.cost = None if cost is None else Decimal(cost)
        self.plan = create_plan(
            "launch_lora",
            arguments={**ARGUMENTS, "dry_run": True},
            files=[self.file],
            steps=["upload 1 file", "train"],
            cost_usd=self.cost,
            data_leaves_machine=True,
        )

    def check(self, **changes: Any) -> Plan:
        given: dict[str, Any] = {
            "arguments": {**ARGUMENTS, "dry_run": False, "plan_id": self.plan.plan_id},
            "files": [self.file],
            "cost_usd": self.cost,
        }
        tool = changes.pop("tool", "launch_lora")
        return check_plan(self.plan.plan_id, tool, **(given | changes))

    def use(self) -> Plan:
        return use_plan(
            self.plan.plan_id,
            "launch_lora",
            arguments=ARGUMENTS,
            files=[self.file],
            cost_usd=self.cost,
        )


@pytest.fixture
def launch(tmp_path: Path) -> Call:
    return Call(tmp_path)


def test_a_plan_states_price_steps_and_digests_and_approves_nothing(launch: Call) -> None:
    plan = launch.plan
    assert (plan.cost_usd, plan.approved, plan.data_leaves_machine) == (
        Decimal("4.20"),
        False,
        True,
    )
    assert plan.steps == ["upload 1 file", "train"]
    assert list(plan.files) == [str(launch.file)]
    assert read_plan(plan.plan_id) == plan


def test_a_plan_is_stored_for_its_owner_only_and_holds_no_arguments(launch: Call) -> None:
    (path,) = (settings().home / "plans").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "together" not in path.read_text()
    assert json.loads(path.read_text())["cost_usd"] == "4.20"


def test_without_approval_the_error_gives_the_exact_command(launch: Call) -> None:
    with pytest.raises(NotAllowedError) as refused:
        launch.check()
    command = f"fine-tuning approve {launch.plan.plan_id} --max-usd 4.20 ("
    assert command in refused.value.next_step
    assert "is not approved" in str(refused.value)


def test_an_approved_plan_may_go_ahead_and_says_who_approved(launch: Call) -> None:
    approved = approve_plan(launch.plan.plan_id, Decimal("5"), by="elicitation")
    assert (approved.approved, approved.approved_max_usd) == (True, Decimal("5"))
    plan = launch.check()
    assert (plan.approved_by, plan.plan_id) == ("elicitation", launch.plan.plan_id)
    assert plan.approved_at is not None


def test_numbers_that_mean_the_same_are_no_change(launch: Call) -> None:
    approve_plan(launch.plan.plan_id, Decimal("4.2"))
    assert launch.check(cost_usd=Decimal("4.2000")).approved
    assert launch.check(arguments={**ARGUMENTS, "idempotency_key": "k"}).approved


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tool": "compare_eval"}, "made for launch_lora"),
        ({"arguments": {**ARGUMENTS, "provider": "openai"}}, "an argument changed"),
        ({"arguments": {**ARGUMENTS, "extra": [1, {"a": Decimal(2)}]}}, "an argument changed"),
        ({"cost_usd": Decimal("4.21")}, r"from \$4.2 to \$4.21"),
        ({"cost_usd": Decimal("1")}, "the price changed"),
        ({"cost_usd": None}, "to unknown"),
        ({"files": []}, r"train.jsonl' changed"),
    ],
)
def test_whatever_changed_voids_the_plan_and_is_named(
    launch: Call, changes: dict[str, Any], named: str
) -> None:
    approve_plan(launch.plan.plan_id, Decimal(100))
    with pytest.raises(NotAllowedError, match=named):
        launch.check(**changes)


def test_a_changed_missing_or_added_file_voids_the_plan(launch: Call, tmp_path: Path) -> None:
    approve_plan(launch.plan.plan_id, Decimal(100))
    other = tmp_path / "other.jsonl"
    other.write_text("x")
    with pytest.raises(NotAllowedError, match=r"other.jsonl' changed"):
        launch.check(files=[launch.file, other])
    launch.file.write_text("{} \n")
    with pytest.raises(NotAllowedError, match=r"train.jsonl' changed"):
        launch.check()
    launch.file.unlink()
    with pytest.raises(NotAllowedError, match=r"train.jsonl' changed"):
        launch.check()


@pytest.mark.parametrize(
    ("variable", "cost", "allowed"),
    [
        (None, "0", False),
        (None, "4.20", False),
        ("0", "0", True),
        ("0", "0.01", False),
        ("4.20", "4.20", True),
        ("4.19", "4.20", False),
        ("1e3", "999.99", True),
        ("100", None, False),
    ],
)
def test_a_standing_amount_covers_known_prices_up_to_it_and_nothing_when_unset(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    cost: str | None,
    allowed: bool,
) -> None:
    call = Call(tmp_path, cost)
    if variable is not None:
        monkeypatch.setenv("FINE_TUNING_MAX_USD", variable)
    if allowed:
        plan = call.check()
        assert (plan.approved, plan.approved_by) == (True, "FINE_TUNING_MAX_USD")
        assert not read_plan(plan.plan_id).approved
        return
    with pytest.raises(NotAllowedError):
        call.check()


@pytest.mark.parametrize("value", ["five", "-1", "nan", "inf", "$5"])
def test_a_standing_amount_that_is_none_is_an_error(
    launch: Call, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FINE_TUNING_MAX_USD", value)
    with pytest.raises(BadInputError, match="FINE_TUNING_MAX_USD"):
        launch.check()


def test_a_standing_amount_below_the_price_is_named(
    launch: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_MAX_USD", "3")
    with pytest.raises(NotAllowedError, match=r"\$4.20 is above the approved \$3.00"):
        launch.check()


def test_an_unknown_price_is_approved_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call(tmp_path, None)
    monkeypatch.setenv("FINE_TUNING_MAX_USD", "1000000")
    with pytest.raises(NotAllowedError, match="unknown price"):
        approve_plan(call.plan.plan_id, Decimal(1_000_000))
    with pytest.raises(NotAllowedError, match="unknown price"):
        call.check()


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "4.19"])
def test_an_amount_below_the_price_or_none_at_all_approves_nothing(
    launch: Call, amount: str
) -> None:
    with pytest.raises(BadInputError, match="approve"):
        approve_plan(launch.plan.plan_id, Decimal(amount))
    assert not read_plan(launch.plan.plan_id).approved


@pytest.mark.parametrize("name", ["plan_000000000000", "../../etc/passwd", "", "plan_x/../y"])
def test_an_unknown_plan_names_the_known_ones_and_touches_no_other_file(
    launch: Call, name: str
) -> None:
    with pytest.raises(UnknownNameError, match=launch.plan.plan_id):
        read_plan(name)
    with pytest.raises(UnknownNameError):
        approve_plan(name, Decimal(1))


def test_where_no_plan_was_made_the_error_says_how_to_make_one() -> None:
    with pytest.raises(BadInputError, match="dry_run=true"):
        read_plan("plan_000000000000")


def test_a_damaged_plan_approves_nothing(launch: Call) -> None:
    path = settings().home / "plans" / f"{launch.plan.plan_id}.json"
    path.write_text('{"approved": true}')
    with pytest.raises(BadInputError, match="damaged"):
        launch.check()


def test_a_price_that_is_none_and_a_missing_file_make_no_plan(tmp_path: Path) -> None:
    rest: dict[str, Any] = {"arguments": {}, "steps": [], "data_leaves_machine": False}
    for cost in ("-1", "NaN"):
        with pytest.raises(BadInputError, match="the price is"):
            create_plan("t", files=[], cost_usd=Decimal(cost), **rest)
    with pytest.raises(BadInputError, match="cannot be read"):
        create_plan("t", files=[tmp_path / "no"], cost_usd=None, **rest)
    assert not (settings().home / "plans").exists()


def test_a_price_that_the_caller_stated_needs_a_person_whatever_was_set_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_MAX_USD", "100")
    plan = create_plan(
        "compare_eval",
        arguments={},
        files=[],
        steps=["send 4 prompts"],
        cost_usd=Decimal(0),
        data_leaves_machine=True,
        price_from_caller=True,
    )
    given: dict[str, Any] = {"arguments": {}, "files": [], "cost_usd": Decimal(0)}
    with pytest.raises(NotAllowedError, match="not approved"):
        check_plan(plan.plan_id, "compare_eval", **given)
    approve_plan(plan.plan_id, Decimal(1))
    assert check_plan(plan.plan_id, "compare_eval", **given).approved_by == "terminal"


def test_an_approval_pays_once(launch: Call) -> None:
    approve_plan(launch.plan.plan_id, Decimal(5))
    assert launch.use().used_at is not None
    for again in (launch.use, launch.check):
        with pytest.raises(NotAllowedError, match="already carried out"):
            again()
    with pytest.raises(NotAllowedError, match="already carried out"):
        approve_plan(launch.plan.plan_id, Decimal(5))


def test_what_is_about_to_be_sent_stands_in_the_log_before_it_is(
    launch: Call, isolated_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_MAX_USD", "5")
    used = launch.use()
    (line,) = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert record["event"] == "plan.used"
    details = record["details"]
    assert (details["plan_id"], details["tool"]) == (used.plan_id, used.tool)
    assert details["approved_by"] == "FINE_TUNING_MAX_USD"
    assert details["files"] == used.files


def test_without_a_log_nothing_is_carried_out(launch: Call, isolated_environment: Path) -> None:
    approve_plan(launch.plan.plan_id, Decimal(5))
    (isolated_environment / "audit.jsonl").write_text("no record\n", encoding="utf-8")
    with pytest.raises(RunFailedError, match="verify-audit-log"):
        launch.use()
    (isolated_environment / "audit.jsonl").unlink()
    assert launch.use().used_at is not None


def test_of_several_calls_at_once_only_one_gets_the_plan(launch: Call) -> None:
    approve_plan(launch.plan.plan_id, Decimal(5))
    words = [launch.plan.plan_id, json.dumps(ARGUMENTS), str(launch.file)]
    runs = [
        subprocess.Popen([sys.executable, "-c", USER, *words], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert sorted(run.communicate()[0].strip() for run in runs) == ["mine", *["refused"] * 3]


def test_a_plan_without_approval_is_not_used_up(launch: Call) -> None:
    with pytest.raises(NotAllowedError):
        launch.use()
    approve_plan(launch.plan.plan_id, Decimal(5))
    assert launch.use().used_at


@given(
    st.decimals(0, 10_000, places=4, allow_nan=False, allow_infinity=False),
    st.decimals(0, 10_000, places=4, allow_nan=False, allow_infinity=False),
)
@rules_of_the_game(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_above_the_approved_amount_ever_passes(
    tmp_path: Path, cost: Decimal, maximum: Decimal
) -> None:
    call = Call(tmp_path, str(cost))
    if cost > maximum:
        with pytest.raises(BadInputError, match="--max-usd"):
            approve_plan(call.plan.plan_id, maximum)
        with pytest.raises(NotAllowedError):
            call.check()
    else:
        approve_plan(call.plan.plan_id, maximum)
        assert call.check().approved
