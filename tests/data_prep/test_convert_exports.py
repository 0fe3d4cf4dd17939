"""Exports of help desks and logs of assistants become chats; what is no turn is named."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data_prep import inspect_data, prepare_data, validate_jsonl
from finetuning.data_prep.convert.codes import NOTES
from finetuning.data_prep.convert.exports import export_kind, open_source, slack_text
from finetuning.data_prep.convert.transcripts import REPAIRS, html_text, without_quotes
from finetuning.errors import BadInputError
from finetuning.records import Finding, Record

Write = Callable[..., Path]
EXPORTS = Path(__file__).parents[1] / "data" / "exports"
KINDS = {
    "claude_code": "claude_code",
    "codex.jsonl": "codex",
    "intercom.json": "intercom",
    "openclaw.jsonl": "openclaw",
    "slack": "slack",
    "zendesk.jsonl": "zendesk",
    "zendesk_api.json": "zendesk",
    "zendesk_comments.csv": "zendesk",
}


def chats(path: Path, **roles: str) -> list[Record]:
    rows = list(open_source(path, path.name, roles))
    return [row for row in rows if isinstance(row, Record)]


def said(row: Record) -> list[tuple[str, str]]:
    return [(turn["role"], turn.get("content") or "") for turn in row.data["messages"]]


def roles(row: Record) -> str:
    return "".join(turn["role"][0] for turn in row.data["messages"])


def notes(row: Record) -> list[str]:
    return row.data[REPAIRS]


# --- every export ----------------------------------------------------------------------------


def test_every_fixture_is_tested() -> None:
    assert {path.name for path in EXPORTS.iterdir()} == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_export_is_told_and_its_suggested_call_gives_a_clean_file(
    name: str, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / name
    (shutil.copytree if (EXPORTS / name).is_dir() else shutil.copy)(EXPORTS / name, place)
    assert export_kind(place) == kind
    found = inspect_data(str(place))
    assert found.shape == kind
    assert found.suggested_target == "trl_messages"
    made = prepare_data(**found.suggested_args)
    rows = made.rows
    assert rows.read == found.n_rows
    assert rows.train + rows.validation + rows.test == found.n_examples > 0
    assert rows.read == rows.train + rows.validation + rows.test + rows.rejected
    assert made.validation.n_errors == 0
    assert set(made.repairs) <= set(NOTES)
    checked = validate_jsonl(made.files["train"], target="trl_messages")
    assert checked.valid


@pytest.mark.parametrize("name", KINDS)
def test_tool_calls_that_a_target_cannot_hold_are_a_named_rejection(
    name: str, tmp_path: Path
) -> None:
    source = EXPORTS / name
    calls = sum("t" in roles(row) for row in chats(source))
    made = prepare_data(
        sources=[str(source)], target="bedrock_converse", output_dir=str(tmp_path / "out")
    )
    assert made.reasons.get("tools_not_allowed", 0) == calls


def test_a_person_cannot_smuggle_notes_in_through_a_data_file(write_lines: Write) -> None:
    row = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        REPAIRS: ["secret words", "events_left_out", 7],
    }
    path = write_lines("in.jsonl", json.dumps(row))
    made = prepare_data(
        sources=[str(path)], target="openai_chat", output_dir=str(path.parent / "out")
    )
    assert made.repairs == {"events_left_out": 1}


# --- Zendesk ---------------------------------------------------------------------------------


def test_zendesk_ticket_keeps_what_was_said_in_public_without_quotes_and_signature() -> None:
    lamp, invoice, merged, deleted, moved = chats(EXPORTS / "zendesk.jsonl")
    assert roles(lamp) == "uaua"
    assert [text for _, text in said(lamp)] == [
        "Hello,\n\nthe lamp from my order has a crack in its foot. Can I send it back?",
        "I am sorry about the crack. A prepaid label is on its way to you; put the lamp in "
        "any box.",
        "Thank you, does the bulb go back too?",
        "No, please keep the bulb, we replace the whole lamp.",
    ]
    assert set(notes(lamp)) == {
        "quotes_left_out",
        "internal_notes_left_out",
        "attachments_left_out",
    }
    assert lamp.data["satisfaction"] == "good"
    assert lamp.data["title"] == "Lamp arrived broken"
    assert (roles(invoice), notes(invoice)) == ("ua", ["roles_by_requester"])
    assert (roles(merged), notes(merged)) == ("u", ["events_left_out"])
    assert (roles(deleted), roles(moved)) == ("", "ua")
    assert [row.line for row in (lamp, invoice, merged, deleted, moved)] == [1, 2, 3, 4, 5]


def test_zendesk_users_tell_who_is_staff() -> None:
    _, invoice = chats(EXPORTS / "zendesk_api.json")
    assert notes(invoice) == []
    assert invoice.line == 2


def test_zendesk_comments_as_a_table_are_gathered_by_ticket() -> None:
    rows = chats(EXPORTS / "zendesk_comments.csv")
    assert [roles(row) for row in rows] == ["uaua", "ua", "u", "ua"]
    assert said(rows[0]) == said(chats(EXPORTS / "zendesk.jsonl")[0])


def test_zendesk_tickets_and_comments_in_two_files_are_joined(tmp_path: Path) -> None:
    lines = (EXPORTS / "zendesk.jsonl").read_text(encoding="utf-8").splitlines()
    tickets = [json.loads(line) for line in lines]
    comments = [
        {**comment, "ticket_id": ticket["id"]}
        for ticket in tickets
        for comment in ticket.pop("comments")
    ]
    comments.append({**comments[0], "ticket_id": 999})
    users = [{"id": 11, "role": "end-user"}, {"id": 21, "role": "agent"}]
    for name, rows in (("tickets", tickets), ("comments", comments), ("users", users)):
        (tmp_path / f"{name}.json").write_text(json.dumps({name: rows}), encoding="utf-8")
    assert export_kind(tmp_path) == "zendesk"
    made = chats(tmp_path)
    assert [roles(row) for row in made] == ["uaua", "ua", "u", "", "ua", "u"]
    assert made[0].source.endswith("tickets.json")


def test_zendesk_ticket_printed_over_many_lines_is_one_chat(tmp_path: Path) -> None:
    first = (EXPORTS / "zendesk.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "ticket.json").write_text(json.dumps(json.loads(first), indent=2), "utf-8")
    assert [roles(row) for row in chats(tmp_path / "ticket.json")] == ["uaua"]


def test_zendesk_author_can_be_named_by_role_map() -> None:
    rows = chats(EXPORTS / "zendesk.jsonl", **{"22": "user"})
    assert roles(rows[1]) == "uu"


# --- Intercom --------------------------------------------------------------------------------


def test_intercom_html_becomes_text_and_notes_bots_and_deleted_parts_go() -> None:
    export, invoice, sale = chats(EXPORTS / "intercom.json")
    assert said(export)[1] == (
        "assistant",
        "Go to Contacts (https://example.com/contacts), then:\n\n- choose All\n\n"
        "- press Export & confirm",
    )
    assert roles(export) == "uaua"
    assert set(notes(export)) == {
        "bots_left_out",
        "internal_notes_left_out",
        "attachments_left_out",
    }
    assert (roles(invoice), notes(invoice)) == ("ua", ["deleted_left_out"])
    assert (roles(sale), notes(sale)) == ("", ["bots_left_out"])
    assert [row.line for row in (export, invoice, sale)] == [1, 2, 3]


def test_intercom_bot_answers_stay_where_the_person_says_so() -> None:
    assert roles(chats(EXPORTS / "intercom.json", bot="assistant")[0]) == "uaaua"


def test_intercom_says_when_parts_are_missing_from_the_export(tmp_path: Path) -> None:
    page = json.loads((EXPORTS / "intercom.json").read_text(encoding="utf-8"))
    one = page["conversations"][1]
    one["conversation_parts"]["total_count"] = 9
    path = tmp_path / "one.json"
    path.write_text(json.dumps(one), encoding="utf-8")
    (row,) = chats(path)
    assert "parts_not_in_export" in notes(row)


# --- Slack -----------------------------------------------------------------------------------


def test_slack_threads_run_over_days_and_direct_messages_split_at_pauses() -> None:
    access, report, build, lunch, shard = chats(EXPORTS / "slack")
    assert [roles(row) for row in (access, report, build, lunch, shard)] == [
        "ua", "ua", "uaua", "u", "ua",
    ]  # fmt: skip
    assert said(build)[:2] == [
        ("user", "@Ben the nightly build fails with exit code 137 & no log, any idea?"),
        (
            "assistant",
            "137 means that it was killed for memory. Set the limit to 6 GB in the runner "
            "settings (https://example.com/ci).",
        ),
    ]
    assert set(notes(build)) == {"bots_left_out", "deleted_left_out"}
    assert notes(shard) == ["attachments_left_out"]
    assert (build.source, build.line) == ("slack/help-build/2026-03-02.json", 2)


def test_slack_zip_and_single_day_read_like_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for file in sorted((EXPORTS / "slack").rglob("*.json")):
            made.write(file, file.relative_to(EXPORTS / "slack").as_posix())
    assert [row.data for row in chats(archive)] == [row.data for row in chats(EXPORTS / "slack")]
    day = tmp_path / "2026-03-03.json"
    shutil.copy(EXPORTS / "slack" / "help-build" / "2026-03-03.json", day)
    assert export_kind(day) == "slack"
    assert [roles(row) for row in chats(day)] == ["ua", "ua"]


def test_slack_people_can_be_named_by_role_map() -> None:
    rows = chats(EXPORTS / "slack", ana="assistant", ben="user", bot="assistant")
    assert [roles(row) for row in rows] == ["au", "ua", "aauau", "a", "au"]


def test_slack_day_that_is_no_json_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    place = tmp_path / "slack"
    shutil.copytree(EXPORTS / "slack", place)
    (place / "help-build" / "2026-03-04.json").write_text("[{", encoding="utf-8")
    rows = list(open_source(place, "slack"))
    assert [row.code for row in rows if isinstance(row, Finding)] == ["json_invalid"]
    assert len(rows) == 6


def test_slack_edits_and_deletions_listed_as_messages_are_applied(tmp_path: Path) -> None:
    def post(ts: str, user: str, text: str, **more: Any) -> dict[str, Any]:
        return {"type": "message", "ts": ts, "user": user, "text": text, **more}

    root = {"thread_ts": "1.0"}
    edited = post("1.0", "U1", "the question", **root)
    posts = [
        post("1.0", "U1", "teh question", **root),
        post("2.0", "U2", "the answer", **root),
        post("3.0", "U2", "oops", **root),
        post("4.0", "", "", subtype="message_changed", message=edited),
        post("5.0", "", "", subtype="message_deleted", deleted_ts="3.0"),
    ]  # fmt: skip
    path = tmp_path / "day.json"
    path.write_text(json.dumps(posts), encoding="utf-8")
    (row,) = chats(path)
    assert said(row) == [("user", "the question"), ("assistant", "the answer")]
    assert notes(row) == ["deleted_left_out"]


def test_slack_export_without_any_message_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "channels.json").write_text("[]", encoding="utf-8")
    (tmp_path / "c" / "2026-01-01.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BadInputError, match="no conversation"):
        open_source(tmp_path, "x")


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("<@U1> and <@U9|zoe>", "@Ana and @zoe"),
        ("see <#C1|general>, <!here> <!subteam^S1|@ops>", "see #general, @here @ops"),
        ("<https://a.example|https://a.example>", "https://a.example"),
        ("<mailto:a@b.example|a@b.example> &lt;3", "a@b.example <3"),
    ],
)
def test_slack_marks_become_words(marked: str, plain: str) -> None:
    assert slack_text(marked, {"U1": "Ana"}) == plain


# --- assistants' logs ------------------------------------------------------------------------


def test_claude_code_session_keeps_calls_with_their_results_and_drops_what_is_no_turn() -> None:
    agent, session = chats(EXPORTS / "claude_code")
    assert roles(agent) == "uata"
    assert roles(session) == "uattataua"
    first = session.data["messages"][1]
    assert [call["id"] for call in first["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {
        "file_path": "tests/test_dates.py"
    }
    assert first["reasoning"] == "Look at both files."
    assert [turn["tool_call_id"] for turn in session.data["messages"][2:4]] == [
        "toolu_1",
        "toolu_2",
    ]
    assert notes(session) == ["branches_left_out", "events_left_out", "unanswered_calls_left_out"]
    everything = json.dumps(session.data)
    for noise in ("why does the date test fail", "API Error", "Caveat", "/cost", "interrupted"):
        assert noise not in everything
    assert session.line == 3


def test_codex_rollout_keeps_function_and_custom_calls() -> None:
    (row,) = chats(EXPORTS / "codex.jsonl")
    assert roles(row) == "uatata"
    calls = [call for turn in row.data["messages"] for call in turn.get("tool_calls", ())]
    assert [call["function"]["name"] for call in calls] == ["exec_command", "apply_patch"]
    assert json.loads(calls[1]["function"]["arguments"])["input"].startswith("*** Begin Patch")
    assert "environment_context" not in json.dumps(row.data)


def test_old_codex_rollout_without_payloads_is_read(write_lines: Write) -> None:
    path = write_lines(
        "old.jsonl",
        '{"id":"1","timestamp":"2025-08-01T00:00:00Z","instructions":null}',
        '{"record_type":"state"}',
        '{"type":"message","role":"user","content":[{"type":"input_text","text":"list"}]}',
        '{"type":"local_shell_call","call_id":"c","action":{"type":"exec","command":["ls"]}}',
        '{"type":"function_call_output","call_id":"c","output":{"content":"a b","success":true}}',
        '{"type":"web_search_call","status":"completed"}',
        '{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a, b"}]}',
    )
    assert export_kind(path) == "codex"
    (row,) = chats(path)
    assert said(row) == [
        ("user", "list"),
        ("assistant", ""),
        ("tool", "a b"),
        ("assistant", "a, b"),
    ]
    assert notes(row) == ["events_left_out"]


def test_openclaw_session_follows_the_living_branch() -> None:
    (row,) = chats(EXPORTS / "openclaw.jsonl")
    assert roles(row) == "uata"
    assert said(row)[0] == ("user", "What is the weather in Rome tomorrow?")
    assert notes(row) == ["branches_left_out", "events_left_out"]
    assert row.data["id"] == "0c1a"


def test_first_openclaw_format_without_a_tree_is_read_in_order(write_lines: Write) -> None:
    path = write_lines(
        "v1.jsonl",
        '{"type":"session","id":"1","cwd":"/srv"}',
        '{"type":"message","message":{"role":"user","content":[{"type":"text","text":"hi"},'
        '{"type":"image","data":"QQ==","mimeType":"image/png"}]}}',
        '{"type":"message","message":{"role":"bashExecution","command":"ls","output":""}}',
        '{"type":"message","message":{"role":"assistant","content":"hello"}}',
    )
    (row,) = chats(path)
    assert row.data["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,QQ=="},
    }
    assert said(row)[1] == ("assistant", "hello")
    assert notes(row) == ["events_left_out"]


def test_results_without_a_call_and_pictures_in_results_are_named(write_lines: Write) -> None:
    path = write_lines(
        "odd.jsonl",
        '{"type":"session","id":"1","version":3}',
        '{"type":"message","message":{"role":"toolResult","toolCallId":"gone","content":"x"}}',
        '{"type":"message","message":{"role":"user","content":[{"type":"audio"}]}}',
        '{"type":"message","message":{"role":"user","content":"draw"}}',
        '{"type":"message","message":{"role":"assistant","content":[{"type":"toolCall","id":"c",'
        '"name":"draw","arguments":{}},{"type":"toolCall","name":"no id"}]}}',
        '{"type":"message","message":{"role":"toolResult","toolCallId":"c","content":'
        '[{"type":"text","text":"done"},{"type":"image","data":"QQ==","mimeType":"image/png"}]}}',
        '{"type":"message","message":{"role":"assistant","content":"there"}}',
    )
    (row,) = chats(path)
    assert roles(row) == "uata"
    assert set(notes(row)) == {
        "attachments_left_out",
        "events_left_out",
        "unmatched_results_left_out",
    }


def test_folder_of_logs_may_hold_other_json_lines_and_broken_lines(tmp_path: Path) -> None:
    shutil.copy(EXPORTS / "codex.jsonl", tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"broken\n')
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": chat}) + "\n", encoding="utf-8")
    rows = list(open_source(tmp_path, "logs"))
    assert [row.code for row in rows if isinstance(row, Finding)] == ["json_invalid"]
    assert [row.source for row in rows if isinstance(row, Record)] == [
        "logs/a.jsonl",
        "logs/b.jsonl",
    ]


# --- text freed of its wrapping --------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail", "kept"),
    [
        ("Yes.\n\nOn 2 Mar 2026, at 10:10, Shop wrote:\n> is it?\n", "Yes."),
        ("Ja.\n\nAm 2. März 2026 um 10:10 schrieb Laden:\n> wirklich?\n", "Ja."),
        ("Yes.\n-----Original Message-----\nFrom: a\nSent: b\nTo: c", "Yes."),
        ("Yes.\n\nFrom: Shop\nSent: Monday\nTo: me\nis it?", "Yes."),
        ("Yes.\n> is it?\n> really?\n", "Yes."),
        ("Yes.\n-- \nAda\nShop", "Yes."),
        ("> is it?\nYes, inline.\n> and this?\nThat too.", None),
        ("> only a quote", None),
        ("On the table wrote nobody anything.", None),
        ("a -- b", None),
    ],
)
def test_quotes_at_the_end_go_and_answers_between_them_stay(mail: str, kept: str | None) -> None:
    noted: list[str] = []
    assert without_quotes(mail, noted) == (mail if kept is None else kept)
    assert noted == ([] if kept is None else ["quotes_left_out"])


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>a&nbsp;b</p><p>c</p>", "a b\n\nc"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<div>1 &lt; 2</div>", "1 < 2"),
        ('<p>x</p><div class="gmail_quote"><div>old<br>er</div></div><p>y</p>', "x\n\ny"),
        ("<style>p{}</style><p>x</p><script>1</script>", "x"),
        ('<p>see <a href="https://a.example/b">https://a.example/b/</a></p>', "see https://a.example/b/"),
        ("if a < b and c > d", "if a < b and c > d"),
        ("List<String> x", "List<String> x"),
    ],
)  # fmt: skip
def test_html_becomes_text_and_other_text_stays(markup: str, text: str) -> None:
    assert html_text(markup, []) == text


@given(st.text(max_size=200))
def test_any_text_can_be_freed_of_its_wrapping(text: str) -> None:
    noted: list[str] = []
    assert isinstance(without_quotes(html_text(f"<p>{text}", noted), noted), str)
    slack_text(text, {})
