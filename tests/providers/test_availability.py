"""Who can start a job, on which day, and until when."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.providers import CUSTOMERS, Customer, all_providers, availability

TODAY = dt.date(2026, 11, 20)


def test_openai_is_open_in_may_2026_and_closed_to_new_customers_today() -> None:
    before = availability("openai", "gpt-4.1", "new", dt.date(2026, 5, 1))
    after = availability("openai", "gpt-4.1", "new", TODAY)
    assert (before.status, before.can_start) == ("open", True)
    assert (after.status, after.can_start) == ("existing_only", False)
    assert after.dates["training_end_new"] == dt.date(2026, 5, 7)
    assert after.dates["training_end"] == dt.date(2027, 1, 6)
    assert after.base_retires_on == dt.date(2027, 1, 14)
    assert all(fact.url and fact.checked for fact in after.sources)


@pytest.mark.parametrize(
    ("customer", "day", "can_start"),
    [
        ("existing_active", TODAY, True),
        ("existing_dormant", dt.date(2026, 7, 1), True),
        ("existing_dormant", TODAY, False),
        ("existing_active", dt.date(2027, 1, 6), False),
        (None, TODAY, None),
        (None, dt.date(2027, 1, 6), False),
    ],
)
def test_openai_answers_by_customer_and_day(
    customer: Customer | None, day: dt.date, can_start: bool | None
) -> None:
    assert availability("openai", "gpt-4o-mini", customer, day).can_start is can_start


def test_what_was_announced_later_is_not_known_before() -> None:
    eve, day = dt.date(2026, 10, 13), dt.date(2026, 10, 14)
    before = availability("openai", "gpt-4.1", "existing_active", eve)
    after = availability("openai", "gpt-4.1", "existing_active", day)
    assert (before.base_retires_on, after.base_retires_on) == (None, dt.date(2027, 1, 14))


def test_a_provider_whose_every_customer_is_shut_out_is_closed() -> None:
    answer = availability("openai", "gpt-4o-mini", "existing_active", dt.date(2027, 1, 6))
    assert answer.status == "closed"
    assert availability("cohere", None, "existing_active", TODAY).status == "closed"
    assert availability("bedrock", "claude-3-haiku", "existing_active", TODAY).status == "closed"


def test_a_preview_says_since_when_it_is_one() -> None:
    answer = availability("vertex", "gemini-3.1-flash-lite", "new", TODAY)
    assert (answer.status, answer.can_start) == ("preview", True)
    assert answer.dates == {"preview_since": dt.date(2026, 5, 20)}
    assert "preview" in answer.why


def test_an_open_provider_without_dates_says_that_none_is_known() -> None:
    answer = availability("together", "Qwen/Qwen3.5-9B", "new", TODAY)
    assert (answer.status, answer.base_retires_on, answer.sources) == ("open", None, [])
    assert "no closing date" in answer.why


def test_a_model_event_says_nothing_about_the_provider_as_a_whole() -> None:
    assert availability("bedrock", None, "new", TODAY).status == "open"
    assert availability("bedrock", "nova-lite", "new", TODAY).status == "open"


def test_a_date_that_the_source_gives_only_roughly_is_said_to_be_rough() -> None:
    assert "on about 2026-08-21" in availability("mistral", "x", "new", TODAY).why


def test_without_a_day_the_answer_is_for_today() -> None:
    assert availability("cohere").as_of == dt.datetime.now(tz=dt.UTC).date()


@given(
    days=st.tuples(st.dates(dt.date(2024, 1, 1), dt.date(2028, 1, 1)), st.integers(0, 900)),
    provider=st.sampled_from([provider.id for provider in all_providers()]),
    customer=st.sampled_from(CUSTOMERS),
)
def test_what_has_closed_for_a_customer_never_opens_again(
    days: tuple[dt.date, int], provider: str, customer: Customer
) -> None:
    day, later = days[0], days[0] + dt.timedelta(days=days[1])
    for model in (None, *_models(provider)):
        first = availability(provider, model, customer, day)
        second = availability(provider, model, customer, later)
        assert not (second.can_start and not first.can_start)
        assert not (first.status == "closed" and first.can_start)


def _models(provider: str) -> list[str]:
    return [m.id for p in all_providers() if p.id == provider for m in p.models]
