"""The benchmark of personal data runs; disguises, labels in six languages and decoys are judged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning.pii import find_personal_data
from finetuning.pii.rules.contact import phone_quality

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "personal_data.py"


def spans(text: str) -> list[tuple[str, str]]:
    (found,) = find_personal_data([text])
    return [(text[s.start : s.end], s.type) for s in found]


def test_the_benchmark_runs_and_its_small_corpus_is_read_almost_whole() -> None:
    pytest.importorskip("scrubadub", reason="the peer comes with it, and so does the generator")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(precision|recall|recall of secrets) +([0-9.]+)", done.stdout, re.M))
    assert float(found["precision"]) >= 0.99
    assert float(found["recall"]) >= 0.98
    assert float(found["recall of secrets"]) >= 0.97


DISGUISED = [
    ("email", "mail to nоrdwind@ехample.org now", "nоrdwind@ехample.org"),
    ("email", "mail to jo\u200bhn@exam\u00adple.org now", "jo\u200bhn@exam\u00adple.org"),
    ("iban", "IBAN DЕ89 3704 0044 0532 0130 00.", "DЕ89 3704 0044 0532 0130 00"),
    ("credit_card", "card 4111 1111\n1111 1111.", "4111 1111\n1111 1111"),
    ("phone", "call +49 171\n2345678 now", "+49 171\n2345678"),
    (
        "credit_card",
        "card ４１１１ １１１１ １１１１ １１１１",
        "４１１１ １１１１ １１１１ １１１１",
    ),
]
LABELLED = [
    ("medical_record", "Numéro de dossier médical : MR-029052", "MR-029052"),
    ("medical_record", "número do prontuário 64415031", "64415031"),
    ("health_plan", "Versichertennummer: A217130690", "A217130690"),
    ("bank_account", "Konto-Nr. 6503127600", "6503127600"),
    ("bank_account", "número da conta é 6827910642", "6827910642"),
    ("driving_licence", "permis de conduire n° 351154679086", "351154679086"),
    ("date_of_birth", "né le 2008-03-15", "2008-03-15"),
    ("date_of_birth", "Ich bin am 28.07.1971 geboren.", "28.07.1971"),
    ("password", "minha senha é Coffee47.", "Coffee47"),
    ("phone", "Ligue para 11964389500.", "11964389500"),
    ("phone", "You can text 07712485392 any time.", "07712485392"),
    ("person_name", "Merci de transmettre à Oriane Quéméré.", "Oriane Quéméré"),
    ("person_name", "Mit freundlichen Grüßen\nWiebke Tjarks\n", "Wiebke Tjarks"),
    ("person_name", "Bitte leiten Sie das an T. Barth weiter.", "T. Barth"),
    ("person_name", "Oriel Vancroft has already approved it.", "Oriel Vancroft"),
    ("person_name", "昨天我和傅海燕谈过。", "傅海燕"),
    ("person_name", "Rhys Butler wrote", "Rhys Butler"),
    ("postal_address", "6321 Andrea Underpass Suite 210\nPennymouth, KY 95193", ""),
    ("postal_address", "H.No. 61, Ganesh Street, Kollam 691001", ""),
    ("postal_address", "Paseo Encarnación Ibáñez 74, Cuenca, 33441", ""),
    ("postal_address", "Vale da Conceição, Centro, 66556-576 Aragão / AC", ""),
    ("postal_address", "chemin Nicole Guilbert\n28358 Aubry", ""),
    ("postal_address", "Leyla-Kostolzin-Straße 68, 27390 Erbisdorf", ""),
]


@pytest.mark.parametrize(("type_", "text", "value"), DISGUISED + LABELLED)
def test_a_value_is_found_in_disguise_and_behind_the_labels_of_six_languages(
    type_: str, text: str, value: str
) -> None:
    assert (value or text, type_) in spans(text)


@pytest.mark.parametrize(
    "text",
    [
        "EAN 5034277624833 and EAN 4094765343941",
        "Order 2312761255941300 and 订单号5778844333396406已发货",
        "The tracking number is 31339976237482.",
        "Request id 43ba7421-ec1c-4e3e-ad13-c4b86cf63424 timed out",
        "Veja a seção 3.1.2.8, 见第3.1.2.0节",
        "密码至少要12位。",
        "05/12/2026 20:23",
        "She works for Ralph Lauren. Sie arbeitet bei Morgan Stanley.",
        "Bestellung 0612345678",
        "rue de la lumière et avenue des arts",
        "王国的历史很长。高级会员可以退货。",
    ],
)
def test_numbers_of_things_and_names_of_companies_are_left_alone(text: str) -> None:
    assert spans(text) == []


@pytest.mark.parametrize(
    ("number", "region", "quality"),
    [
        ("+80012345678", None, 2),
        ("+0491715518389", None, 0),
        ("01715518389", "DE", 2),
        ("1715518389", "DE", 2),
        ("+49171551", None, 1),
    ],
)
def test_a_number_is_judged_by_the_plan_of_its_country(
    number: str, region: str | None, quality: int
) -> None:
    assert phone_quality(number, region) == quality


def test_numbers_are_judged_as_the_library_of_the_plans_judges_them() -> None:
    import phonenumbers

    for region in ("DE", "FR", "GB", "ES", "BR", "CN", "IN", "JP", "AU", "NG"):
        sample = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        assert sample is not None
        written = phonenumbers.format_number(sample, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
        assert phone_quality(written, None) == 2, region
        assert phone_quality(written + "99999", None) < 2, region
