"""The fast detector: what it finds, what it leaves alone, and that it never runs away."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as rules_of_the_game
from hypothesis import strategies as st

from finetuning.errors import UnknownNameError
from finetuning.pii import TYPES, Span, detect, find_personal_data, settle
from finetuning.pii.detect import RULES
from finetuning.pii.rules import checks as check
from finetuning.pii.rules import is_json_container
from finetuning.pii.rules.contact import phone_quality

B64 = "MIIEowIBAAKCAQEA7bq9Ck0pXz1Yy3"
PEM = f"-----BEGIN RSA {'PRIVATE'} KEY-----"
END = f"-----END RSA {'PRIVATE'} KEY-----"


def spans(text: str, *types: str) -> list[tuple[str, str]]:
    (found,) = find_personal_data([text], types=types or None)
    return [(text[s.start : s.end], s.type) for s in found]


def secret(*parts: str) -> str:
    """Join a fake credential at run time, so that no scanner meets one in this file."""
    return "".join(parts)


FOUND = [
    ("email", "write to john.smith+tag@mail.example.org.", "john.smith+tag@mail.example.org"),
    ("email", "邮箱zhang@example.cn谢谢", "zhang@example.cn"),
    ("us_ssn", "SSN: 825-60-\n4899", "825-60-\n4899"),
    ("br_cpf", "CPF: 529.982.247-\n25", "529.982.247-\n25"),
    ("credit_card", "card 4111-\n1111-1111-1111", "4111-\n1111-1111-1111"),
    ("date_of_birth", "born on April 18,\n1974", "April 18,\n1974"),
    ("date_of_birth", "nací el 21 de\noctubre de 1969", "21 de\noctubre de 1969"),
    ("password", "db_password: hunter2x", "hunter2x"),
    ("email", "jane [at] example [dot] org", "jane [at] example [dot] org"),
    ("email", "bob.k (at) mail.example.org", "bob.k (at) mail.example.org"),
    ("email", "ask jo_99 at example dot com", "jo_99 at example dot com"),
    ("phone", "call +1 415-555-0123 now", "+1 415-555-0123"),
    ("phone", "dial 0044 20 7946 0958 now", "0044 20 7946 0958"),
    ("phone", "(415) 555-0199 x", "(415) 555-0199"),
    ("phone", "415.555.0199", "415.555.0199"),
    ("phone", "07700 900123", "07700 900123"),
    ("phone", "020 7946 0958", "020 7946 0958"),
    ("phone", "0171/1234567", "0171/1234567"),
    ("phone", "01 23 45 67 89", "01 23 45 67 89"),
    ("phone", "电话13812345678谢谢", "13812345678"),
    ("phone", "办公室 010-62345678", "010-62345678"),
    ("phone", "98765 43210", "98765 43210"),
    ("phone", "(11) 91234-5678", "(11) 91234-5678"),
    ("phone", "612 34 56 78", "612 34 56 78"),
    ("phone", "347 123 4567", "347 123 4567"),
    ("phone", "03-1234-5678", "03-1234-5678"),
    ("phone", "0412 345 678", "0412 345 678"),
    ("phone", "my phone is 4155550123", "4155550123"),
    ("phone", "１３８１２３４５６７８", "１３８１２３４５６７８"),
    ("ip_v4", "from 203.0.113.7 to", "203.0.113.7"),
    ("ip_v4", "dns 8.8.8.8", "8.8.8.8"),
    ("ip_v6", "at 2001:db8::ff00:42:8329.", "2001:db8::ff00:42:8329"),
    ("mac", "00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
    ("mac", "001a.2b3c.4d5e", "001a.2b3c.4d5e"),
    ("credit_card", "4111 1111 1111 1111", "4111 1111 1111 1111"),
    ("credit_card", "card 3782 822463 10005", "3782 822463 10005"),
    ("credit_card", "5555555555554444", "5555555555554444"),
    ("iban", "IBAN DE89 3704 0044 0532 0130 00 AND", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432", "GB82WEST12345698765432"),
    ("bank_account", "account number: 12345678901", "12345678901"),
    ("bank_account", "routing number 021000021", "021000021"),
    ("bank_account", "sort code 20-00-00", "20-00-00"),
    ("bank_account", "银行账号：6222021234567", "6222021234567"),
    ("us_ssn", "it is 123-45-6789", "123-45-6789"),
    ("us_ssn", "ssn: 123456789", "123456789"),
    ("us_itin", "912-70-1234", "912-70-1234"),
    ("us_itin", "itin 912701234", "912701234"),
    ("uk_nino", "AB 12 34 56 C", "AB 12 34 56 C"),
    ("uk_nino", "nino: ab123456c", "ab123456c"),
    ("br_cpf", "529.982.247-25", "529.982.247-25"),
    ("br_cpf", "cpf 52998224725", "52998224725"),
    ("in_aadhaar", "2341 2341 2346", "2341 2341 2346"),
    ("in_aadhaar", "aadhaar 234123412346", "234123412346"),
    ("cn_resident_id", "身份证11010519491231002X。", "11010519491231002X"),
    ("passport", "passport number C01X00T47", "C01X00T47"),
    ("passport", "护照号码：E12345678", "E12345678"),
    ("driving_licence", "driver's license: D1234567", "D1234567"),
    ("date_of_birth", "born on March 4, 1985", "March 4, 1985"),
    ("date_of_birth", "DOB: 03/04/85", "03/04/85"),
    ("date_of_birth", "geboren am 4. März 1985", "4. März 1985"),
    ("date_of_birth", "出生日期：1985年3月4日", "1985年3月4日"),
    ("date_of_birth", "birthdate 19850304", "19850304"),
    ("postal_address", "at 221B Baker Street, London NW1 6XE", "221B Baker Street, London NW1 6XE"),
    ("postal_address", "1600 Amphitheatre Pkwy", "1600 Amphitheatre Pkwy"),
    ("postal_address", "PO Box 1234", "PO Box 1234"),
    ("postal_address", "Hauptstraße 12, 10115 Berlin", "Hauptstraße 12, 10115 Berlin"),
    ("postal_address", "12 rue de la Paix, 75002 Paris", "12 rue de la Paix, 75002 Paris"),
    ("postal_address", "Calle Mayor 12, 28013 Madrid", "Calle Mayor 12, 28013 Madrid"),
    ("postal_address", "北京市海淀区中关村大街27号", "北京市海淀区中关村大街27号"),
    ("postal_address", "postcode: SW1A 1AA", "SW1A 1AA"),
    ("person_name", "my name is Zorblax Quux", "Zorblax Quux"),
    ("person_name", "I'm John.", "John"),
    ("person_name", "Mr. Okonkwo called", "Okonkwo"),
    ("person_name", "Customer: Ada Byron", "Ada Byron"),
    ("person_name", "first name: Zed", "Zed"),
    ("person_name", "then Priya Sharma wrote", "Priya Sharma"),
    ("person_name", "Mark Johnson wrote", "Mark Johnson"),
    ("person_name", "我叫张伟，", "张伟"),
    ("person_name", "王先生", "王"),
    ("medical_record", "MRN: 00123456", "00123456"),
    ("health_plan", "member ID: XYZ123456789", "XYZ123456789"),
    ("health_plan", "1EG4-TE5-MK73", "1EG4-TE5-MK73"),
    ("crypto_address", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (
        "crypto_address",
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
    ),
    (
        "crypto_address",
        "to 0x52908400098527886E0F7030069857D2E4169EE7",
        "0x52908400098527886E0F7030069857D2E4169EE7",
    ),
    ("password", "password: hunter2", "hunter2"),
    ("password", "my password is Tr0ub4dor&3.", "Tr0ub4dor&3"),
    ("password", "密码是abc12345，ok", "abc12345"),
    ("password", '"passwd": "letmein"', "letmein"),
    ("password", "PIN is 4821", "4821"),
]  # fmt: skip

SECRETS = [
    ("url_credentials", secret("https://user:", "pa55w0rd", "@host.example/x")),
    ("connection_string", secret("postgres://u:", "p4ss", "@db.example:5432/x")),
    ("connection_string", secret("Server=db;Database=x;User Id=sa;Password=", "Sup3r")),
    ("private_key", f"{PEM}\n{B64}\n{END}"),
    ("private_key", f"{PEM}\\n{B64}{B64}"),
    ("jwt", secret("eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0", ".abcDEF123_-x")),
    ("api_key", secret("sk-", "ant-api03-", "abcdefghij1234567890ABCDEFG")),
    ("api_key", secret("sk-", "proj-", "abcd1234efgh5678ijkl9012")),
    ("api_key", secret("sk-", "abcd1234efgh5678ijkl9012mnop3456")),
    ("api_key", secret("AKIA", "IOSFODNN7EXAMPLE")),
    ("api_key", secret("AIza", "SyA1234567890abcdefghijklmnopqrstuv")),
    ("api_key", secret("gh", "p_", "abcdefghijklmnopqrstuvwxyz0123456789")),
    ("api_key", secret("hf", "_", "abcdefghijklmnopqrstuvwxyz01234567")),
    ("api_key", secret("xox", "b-", "1234567890-abcdefghij")),
    ("api_key", secret("sk", "_live_", "abcdefghij1234567890")),
    ("api_key", secret("https://hooks.", "slack.com/services/T000/B000/", "abcdefgh12345678")),
    ("api_key", secret("xyz123", "abc456def789ghi0")),
    ("api_key", secret("12345678:", "AAabcdefghijklmnopqrstuvwxyz1234567")),
]

LEFT_ALONE = [
    "order 4155550123 and ORD-4111111111111111",
    "isbn 978-3-16-148410-0, uuid 550e8400-e29b-41d4-a716-446655440000",
    "sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
    "version v1.2.3.4, release 10.2.3.4, section 1.2.3.4, 127.0.0.1",
    "at 12:30:45 std::cafe a::b ::1",
    "git@github.com:a/b icon@2x.png @handle user@localhost",
    "2024-01-15 10:30, 01/02/2024, 1700000000",
    "card 4111 1111 1111 1112 and 0000 0000 0000 0000",
    "ssn 000-12-3456, 666-12-3456, 900-12-3456",
    "the password is required; password: required; password = getpass(); password: ****",
    "api_key = os.environ['OPENAI_API_KEY'], token: sample-words-sample-words",
    "sk-learn-pipelines-and-more-of-them",
    f"the header {PEM} looks like that",
    "eyJabcdefgh.eyJabcdefgh.sig",
    "born yesterday; birthday party on the 3rd; born 13/13/1985; born in the 1985-1990 years",
    "GB82WEST12345698765433 XX12345678901234567",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
    "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcq",
    "I'm Sorry. Dear All, thanks Everyone. This is Important. Hi There",
    "Jan Feb Mar Apr; Mark Complete; River Jordan; Will Call",
    "5 Way better, 12 Monkeys",
    "date+2024, x=+35236450.6, at +35236450.6, +1234, +999 999 9999, 0000 000 0000, 300 000 0000",
    "DE893704004405320130001",
    "911-555-0123; my phone since 2024-01-15",
    "Mr. Monday, Customer: Account",
    "his password stolen, a passphrase hunter",
    "born in\nBerlin,\n1985-03-04",
    "00:00:00:00:00:00 1234.5678.9012",
    "AB123456E GB123456A 123456789",
    "123.456.789-00 11010519491331002X 11010519491231002Y",
]  # fmt: skip


@pytest.mark.parametrize(("type_", "text", "value"), FOUND)
def test_finds_each_type_where_it_stands(type_: str, text: str, value: str) -> None:
    assert (value, type_) in spans(text)


@pytest.mark.parametrize(("type_", "value"), SECRETS)
def test_finds_each_secret_with_its_whole_extent(type_: str, value: str) -> None:
    assert spans(f"secret: {value} please") == [(value, type_)]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_leaves_decoys_alone(text: str) -> None:
    assert spans(text) == []


def test_every_type_of_the_contract_has_a_rule_and_a_test() -> None:
    tested = {type_ for type_, *_ in FOUND} | {type_ for type_, _ in SECRETS}
    assert {rule.type for rule in RULES} == tested == set(TYPES)


def test_only_the_wanted_types_are_reported() -> None:
    text = "mail a@b.org or call +1 415-555-0123"
    assert [type_ for _, type_ in spans(text, "phone")] == ["phone"]


@pytest.mark.parametrize(("types", "near"), [(["emial"], "email"), (["ssn"], "us_ssn")])
def test_an_unknown_type_names_the_nearest(types: list[str], near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        find_personal_data(["x"], types=types)


def test_an_unknown_detector_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="presidio"):
        find_personal_data(["x"], detector="presido")


def test_no_texts_and_empty_texts_find_nothing() -> None:
    assert find_personal_data([]) == []
    assert find_personal_data(["", " "]) == [[], []]


def test_values_behind_json_escapes_are_found_at_their_place_in_the_text() -> None:
    text = r'{"to": "\u006aohn\u0040example.org", "cc": "\njane@example.org", "n": 1}'
    assert spans(text) == [
        (r"\u006aohn\u0040example.org", "email"),
        ("jane@example.org", "email"),
    ]
    assert is_json_container(text)
    assert not is_json_container('{"a": }')


def test_json_inside_json_inside_a_text_is_read() -> None:
    inner = json.dumps({"mail": "jo\u00e9@example.org\nx"})
    text = json.dumps({"arguments": inner})
    assert [type_ for _, type_ in spans(text)] == ["email"]


def test_a_backslash_in_prose_is_read_as_it_stands_and_decoded() -> None:
    assert spans(r"path C:\notes\nick@example.org") == [("nick@example.org", "email")]
    assert spans(r"line one\nbob@example.org") == [("nbob@example.org", "email")]


def test_tags_of_an_earlier_redaction_are_no_findings() -> None:
    tags = " ".join(f"{t}: [{t.upper()}] [{t.upper()}_0123456789ab]" for t in TYPES)
    assert spans(f"password: [PASSWORD] my name is [PERSON_NAME] phone [PHONE] {tags}") == []


def test_lone_surrogates_do_not_stop_the_search() -> None:
    texts = ["\ud800 a@b.org"] * 20_000
    found = find_personal_data(texts)
    assert all(len(one) == 1 for one in found)


def test_a_span_inside_a_longer_one_of_higher_rank_is_absorbed_and_one_that_sticks_out_is_cut() -> (
    None
):
    inside = [Span(0, 30, "connection_string", 0.9), Span(10, 20, "email", 0.9)]
    assert settle(inside) == [inside[0]]
    across = settle([Span(0, 10, "email", 0.9), Span(5, 15, "person_name", 0.9)])
    assert across == [Span(0, 10, "email", 0.9), Span(10, 15, "person_name", 0.9)]
    around = settle([Span(5, 10, "email", 0.9), Span(0, 15, "person_name", 0.9)])
    assert [(s.start, s.end, s.type) for s in around] == [
        (0, 5, "person_name"),
        (5, 10, "email"),
        (10, 15, "person_name"),
    ]


def _span(start: int, length: int, type_: str) -> Span:
    return Span(start, start + length, type_, 0.5)


@given(
    st.lists(
        st.builds(
            _span,
            st.integers(0, 40),
            st.integers(1, 12),
            st.sampled_from(TYPES),
        )
    )
)
def test_settled_spans_cover_the_same_places_without_overlap(found: list[Span]) -> None:
    settled = settle(found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(settled))
    covered = {place for span in found for place in range(span.start, span.end)}
    assert {place for span in settled for place in range(span.start, span.end)} == covered


SNIPPETS = st.sampled_from(
    [text for _, text, _ in FOUND]
    + [value for _, value in SECRETS]
    + LEFT_ALONE
    + ['{"a": "', '"}', "\\n", "\\u0040", "[EMAIL]", "\n", " ", "：", "名", "é", "\0", "ſsn", "K"]
)
TEXTS = st.lists(st.one_of(SNIPPETS, st.text(max_size=12)), max_size=6).map("".join)


@given(st.lists(TEXTS, max_size=5))
@rules_of_the_game(max_examples=300, deadline=None)
@example([" ".join(text for _, text, _ in FOUND)])
@example([text for _, text, _ in FOUND])
def test_the_prefilter_loses_nothing(texts: list[str]) -> None:
    """Whatever a rule finds without its trigger it finds with it."""
    with pytest.MonkeyPatch.context() as change:
        change.setattr(detect, "_TINY_BATCH", 1 << 40)
        change.setattr(detect, "_SMALL_BATCH", 1 << 40)
        alone = find_personal_data(texts)
        change.setattr(detect, "_TINY_BATCH", 0)
        change.setattr(detect, "_SMALL_BATCH", 0)
        assert find_personal_data(texts) == alone


ADVERSARIAL = [  # the first four, the slowest per character, at the whole megabyte
    "DE89 ", "a@b.co ", "born 1 ", "中路",
    "a.", "a@", "1 ", "+1", "0 1", "ab:", "eyJa.", f"{PEM}\n{B64[:16]}", "password:a ", "a://b:c",
    "host=a;", "James Ab Cd Ef ", "1 A ", "rue de ", "phone - 1 ", "token-",
    "api_key: ", "1.1.1.", "ssn 1 ", "\\u0061", '{"a":', "[EMAIL_", "a [at] b ",
    "x@a.", "Dr. Anna Smith ", "1-1 ",
]  # fmt: skip
HUNT = """
import sys
from finetuning.pii import find_personal_data, redact_rows
for place, unit in enumerate(sys.stdin.read().split("\\x1e")):
    size = 1_000_000 if place < 4 else 100_000
    find_personal_data([unit * (size // len(unit))])
    redact_rows([{"content": unit * (10_000 // len(unit))}], "mask")
"""


def test_a_megabyte_of_anything_is_searched_in_linear_time(tmp_path: Path) -> None:
    """Under a second each; quadratic work would take hours, so the bound is generous."""
    done = subprocess.run(
        [sys.executable, "-c", HUNT],
        input="\x1e".join(ADVERSARIAL),
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_iban_lengths_agree_with_the_registry_of_stdnum() -> None:
    from stdnum import iban

    good = ["DE89370400440532013000", "GB82WEST12345698765432", "NO9386011117947"]
    for value in good:
        assert iban.is_valid(value)
        assert check.iban_length(value) == len(value)
        assert check.is_iban(value.lower())
    assert check.iban_length("ZZ00") is None


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (check.is_card, "378282246310005", "1111111111111111"),
        (check.is_card, "6304000000000000", "9999999999999995"),
        (check.is_aba_routing, "021000021", "021000022"),
        (check.is_bitcoin, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "bc1pxx"),
        (check.is_cn_resident_id, "11010519491231002X", "11010519490230002X"),
    ],
)
def test_check_digits_decide(function: object, good: str, bad: str) -> None:
    assert callable(function)
    assert function(good)
    assert not function(bad)


def test_a_number_outside_every_plan_has_no_quality() -> None:
    assert phone_quality("+999999", None) == 0
    assert phone_quality("abc", "US") == 0
    assert phone_quality("+1 415 555 0123", None) == 2
