"""Redaction: nothing is left, JSON stays JSON, twice changes nothing, pseudonyms agree."""

import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as rules_of_the_game
from hypothesis import strategies as st

from finetuning.errors import BadInputError
from finetuning.pii import (
    RedactMode,
    Span,
    canonical,
    find_personal_data,
    keyed_digest,
    redact_rows,
    redact_texts,
)
from finetuning.settings import settings

KEY_CODE = "from finetuning.pii import keyed_digest; print(keyed_digest('a@b.org'))"


def masked(value: object) -> object:
    (row,), _ = redact_rows([{"x": value}], "mask")
    return row["x"]


def test_a_mask_names_the_type_and_keeps_the_rest() -> None:
    texts = ["mail a@b.org and c@d.org!", "nothing"]
    spans = find_personal_data(texts)
    assert redact_texts(texts, spans, "mask") == ["mail [EMAIL] and [EMAIL]!", "nothing"]


def test_a_pseudonym_is_the_same_for_the_same_value_however_it_is_written() -> None:
    texts = ["4111 1111 1111 1111 then 4111111111111111 then 5555555555554444", "A@b.org a@B.org"]
    cards, mails = redact_texts(texts, find_personal_data(texts), "pseudonym")
    first, second, third = (word for word in cards.split() if word.startswith("[CREDIT_CARD_"))
    assert first == second != third
    assert len(set(mails.split())) == 1


def test_secrets_differ_by_case_and_values_by_type() -> None:
    assert canonical("password", "Abc1") != canonical("password", "abc1")
    assert canonical("phone", "1") != canonical("us_ssn", "1")
    assert canonical("email", r"jo\u0040x.org") == canonical("email", "Jo@x.org")
    assert canonical("password", r"a\x") == r"password:a\x"


def test_the_key_is_made_once_for_its_owner_only_and_other_processes_use_it(
    tmp_path: Path,
) -> None:
    first = keyed_digest("a@b.org")
    path = settings().pseudonym_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = subprocess.run(
        [sys.executable, "-c", KEY_CODE], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == first
    assert len(first) == 16


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", KEY_CODE], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({run.communicate()[0] for run in runs}) == 1
    assert [file.name for file in settings().pseudonym_key.parent.iterdir()] == ["pseudonym.key"]


@pytest.mark.parametrize("content", ["", "zz", "ab" * 31])
def test_a_damaged_key_is_an_error_and_is_not_replaced(content: str) -> None:
    path = settings().pseudonym_key
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(BadInputError, match="does not hold a key"):
        keyed_digest("x")
    assert path.read_text() == content


def test_all_texts_of_a_row_are_searched_and_the_row_given_is_not_changed() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "mail a@b.org"},
            {"role": "assistant", "content": "ok", "weight": 0.5},
        ],
        "deep": [[{"x": ["call +1 415-555-0123", None, True, 7]}]],
    }
    before = json.dumps(row)
    (out,), counts = redact_rows([row], "mask")
    assert out == {
        "messages": [
            {"role": "user", "content": "mail [EMAIL]"},
            {"role": "assistant", "content": "ok", "weight": 0.5},
        ],
        "deep": [[{"x": ["call [PHONE]", None, True, 7]}]],
    }
    assert counts == Counter({"email": 1, "phone": 1})
    assert json.dumps(row) == before


def test_the_name_of_a_field_is_context_for_its_value() -> None:
    row = {
        "phone": 4155550123,
        "phoneNumbers": ["4155550199"],
        "password": "hunter2",
        "customer_name": "Zorblax Quux",
        "name": "get_weather",
        "DateOfBirth": "1985-03-04",
        "id": 4155550123,
        "flag": True,
    }
    (out,), _ = redact_rows([row], "mask")
    assert out == {
        "phone": "[PHONE]",
        "phoneNumbers": ["4155550199"],
        "password": "[PASSWORD]",
        "customer_name": "[PERSON_NAME]",
        "name": "get_weather",
        "DateOfBirth": "[DATE_OF_BIRTH]",
        "id": 4155550123,
        "flag": True,
    }
    (listed,), _ = redact_rows([{"phone": ["4155550199", "x"]}], "mask")
    assert listed == {"phone": ["[PHONE]", "x"]}


def test_personal_data_in_keys_goes_too_and_no_value_is_lost() -> None:
    rows = [{"a@b.org": 1, "c@d.org": {"e@f.org": 2}, "g@h.org": 0}, {"a@b.org": 3}]
    out, counts = redact_rows(rows, "mask")
    assert out == [
        {"[EMAIL]": 1, "[EMAIL]#2": {"[EMAIL]": 2}, "[EMAIL]#3": 0},
        {"[EMAIL]": 3},
    ]
    assert counts == Counter({"email": 4})  # each key once, however many rows have it
    (named,), _ = redact_rows([{"a@b.org": 1}], "pseudonym")
    assert next(iter(named)).startswith("[EMAIL_")


def test_json_inside_a_text_stays_json_with_numbers_as_tags() -> None:
    arguments = json.dumps(
        {"to": "a@b.org", "card": 4111111111111111, "note": "l1\nbob@z.org \u00e9", "n": -1.5}
    )
    out = masked(arguments)
    assert isinstance(out, str)
    assert json.loads(out) == {
        "to": "[EMAIL]",
        "card": "[CREDIT_CARD]",
        "note": "l1\n[EMAIL] é",
        "n": -1.5,
    }


def test_a_span_across_json_tokens_is_cut_at_their_quotes() -> None:
    text = '{"a": "12 Main", "b": 5, "c": "x\\ny", "d": "kept"}'
    span = Span(text.index("12"), text.index("ny"), "postal_address", 0.5)
    out = redact_texts([text], [[span]], "mask")[0]
    assert out == (
        '{"a": "[POSTAL_ADDRESS]", "[POSTAL_ADDRESS]": "[POSTAL_ADDRESS]", '
        '"[POSTAL_ADDRESS]": "[POSTAL_ADDRESS]y", "d": "kept"}'
    )


def test_a_value_that_another_one_hid_is_found_in_the_next_round_at_its_own_place() -> None:
    text = "4111111111111111john@example.org"
    (row,), counts = redact_rows([{"x": text}], "mask")
    assert "4111" not in str(row["x"])
    assert "john" not in str(row["x"])
    assert sum(counts.values()) >= 1


def test_only_the_wanted_types_are_replaced() -> None:
    (row,), counts = redact_rows(
        [{"x": "a@b.org +1 415-555-0123", "c@d.org": 1}], "mask", types=["phone"]
    )
    assert row == {"x": "a@b.org [PHONE]", "c@d.org": 1}
    assert counts == Counter({"phone": 1})


PARTS = st.sampled_from(
    [
        "a@b.org", "+1 415-555-0123", "4111111111111111", "password: hunter2", "DOB: 1985-03-04",
        "Dr. Anna Smith", "12 Main Street", "\\n", "\\", '"', "{", "}", "[", "]", ":", ",", " ",
        "\n", "[EMAIL]", "é", "电话13812345678", "\\u0040", "1.1.1.1", "ip ", "x", "123-45-6789",
        "1", "-", ".", "/", "https://u:p@h.org",
    ]
)  # fmt: skip
DIRTY = st.lists(PARTS, max_size=9).map("".join)
VALUES = st.recursive(
    st.one_of(DIRTY, st.integers(10**6, 10**16), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(DIRTY, st.sampled_from(["phone", "name"])), inner, max_size=3),
    ),
    max_leaves=6,
)
ROWS = st.dictionaries(st.sampled_from(["content", "phone", "x", "a@b.org"]), VALUES, max_size=3)


@given(ROWS, st.sampled_from(["mask", "pseudonym"]))
@rules_of_the_game(max_examples=120, deadline=None)
@example({"x": '{"k": "\\n4111111111111111john@b.org", "n": 4111111111111111}'}, "mask")
def test_redacting_twice_changes_nothing_and_json_stays_json(
    row: dict[str, object], mode: RedactMode
) -> None:
    for text in ("content", "x"):
        if not isinstance(row.get(text), str):
            row[text] = json.dumps(row.get(text))
    once, _ = redact_rows([row], mode)
    twice, counts = redact_rows(once, mode)
    assert twice == once
    assert counts == Counter()
    for key, value in row.items():
        if isinstance(value, str) and _is_json(value) and key in once[0]:
            assert _is_json(str(once[0][key]))


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
