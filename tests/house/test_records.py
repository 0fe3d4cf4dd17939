from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetuning.errors import BadInputError
from finetuning.records import Finding, Model, NextCall, ToolResult, Usd, page


class Price(Model):
    usd: Usd


def test_dollars_are_decimal_strings_in_json_and_read_from_strings_or_numbers() -> None:
    assert Price(usd=Decimal("1E-7")).model_dump_json() == '{"usd":"0.0000001"}'
    assert Price.model_validate({"usd": "2.50"}).usd == Decimal("2.50")
    assert Price.model_validate({"usd": 3}).usd == Decimal(3)
    schema = Price.model_json_schema(mode="serialization")["properties"]["usd"]
    assert schema["type"] == "string"


def test_shapes_are_frozen_and_know_their_fields() -> None:
    finding = Finding(line=1, field="/a", code="c", severity="error", message="m", fix="f")
    with pytest.raises(ValidationError):
        finding.line = 2
    with pytest.raises(ValidationError):
        Finding.model_validate({**finding.model_dump(), "extra": 1})


def test_a_result_is_fine_by_default_and_holds_at_most_three_next_calls() -> None:
    result = ToolResult()
    assert (result.exit_code(), result.summary()) == (0, "ToolResult")
    with pytest.raises(ValidationError):
        ToolResult(next=[NextCall(tool="t", why="w")] * 4)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_pages_joined_are_the_list(items: list[int], limit: int) -> None:
    joined: list[int] = []
    offset: int | None = 0
    while offset is not None:
        part, offset = page(items, limit, offset, where="t")
        assert len(part) <= limit
        joined += part
    assert joined == items
    assert page(items, None, 0, where="t") == (items, None)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (5, -1), (-1, 0)])
def test_a_page_that_cannot_be_is_refused(limit: int, offset: int) -> None:
    with pytest.raises(BadInputError, match="cannot be paged"):
        page([1], limit, offset, where="t")
