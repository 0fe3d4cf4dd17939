from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import argument_model, check_arguments, describe
from finetuning_skill import compact, dispatch


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt_score: Annotated[float, Field(ge=0, le=1)] | None = None
    has_eval: bool | None = None


def sample(
    path: str,
    target: Literal["openai_chat", "trl_text"] = "trl_text",
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    limit: int | None = 50,
    facts: Facts | None = None,
    names: list[str] | None = None,
) -> None:
    """Return nothing, politely.

    A second paragraph.

    Args:
        path: A file, which is
            named on two lines.
        target: The ``format``.
        share: A fraction.

    Returns:
        Nothing.
    """


MODEL = argument_model(sample, "sample")


def check(**arguments: Any) -> dict[str, Any]:
    return check_arguments("sample", MODEL, arguments)


def test_docstring_gives_the_description_and_one_text_per_argument() -> None:
    text, arguments = describe(sample)
    assert text == "Return nothing, politely.\n\nA second paragraph."
    assert arguments == {
        "path": "A file, which is named on two lines.",
        "target": "The ``format``.",
        "share": "A fraction.",
    }


def test_function_without_docstring_has_no_description() -> None:
    def bare(x: int) -> None: ...

    assert describe(bare) == ("", {})


def test_only_given_arguments_are_passed_on_and_strings_become_numbers() -> None:
    assert check(path="a.jsonl", limit="7") == {"path": "a.jsonl", "limit": 7}


def test_nested_models_arrive_as_models() -> None:
    assert check(path="a", facts={"has_eval": True})["facts"] == Facts(has_eval=True)


def test_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"sample: unknown argument 'targets'.*'target'"):
        check(path="a", targets="trl_text")


def test_unknown_fact_names_the_nearest_fact() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown name 'promt_score'.*prompt_score"):
        check(path="a", facts={"promt_score": 0.5})


def test_unknown_listed_value_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"sample: target: unknown value 'openai'.*openai_c"):
        check(path="a", target="openai")


def test_missing_argument_is_named() -> None:
    with pytest.raises(BadInputError, match="the argument 'path' is missing; expected a value"):
        check()


@pytest.mark.parametrize(("given", "meant"), [(92, "0.92"), (50.5, "0.505")])
def test_percent_for_a_fraction_is_answered_with_the_fraction(given: float, meant: str) -> None:
    with pytest.raises(BadInputError, match=rf"share: .* expected 0\.\.1; {meant}\?"):
        check(path="a", share=given)
    with pytest.raises(BadInputError, match=rf"expected 0\.\.1; {meant}\?"):
        check(path="a", facts={"prompt_score": given})


def test_negative_fraction_is_not_taken_for_a_percent() -> None:
    with pytest.raises(BadInputError, match=r"value is -3; expected greater than or equal"):
        check(path="a", share=-3)


def test_wrong_type_shows_the_type_not_a_long_value() -> None:
    with pytest.raises(BadInputError, match="text of 300 characters"):
        check(path="a", limit="x" * 300)
    with pytest.raises(BadInputError, match="the value is a dict"):
        check(path={"a": 1})


def test_titles_leave_the_schema_but_a_property_called_title_stays() -> None:
    schema = {"title": "T", "properties": {"title": {"title": "Title", "type": "string"}}, "a": [1]}
    assert compact(schema) == {"properties": {"title": {"type": "string"}}, "a": [1]}


VALUES: list[Any] = [None, True, 0, -1, 7, 0.5, 9e9, "", "x", "0.2", [], ["a"], [1], {}, {"a": 1}]


@pytest.mark.parametrize("name", dispatch.TOOLS)
def test_a_compact_schema_accepts_what_the_long_one_does(name: str) -> None:
    long = dispatch.arguments_of(name).model_json_schema()
    short = compact(long)
    assert long["properties"].keys() == short["properties"].keys()
    assert long.get("required") == short.get("required")
    for argument in long["properties"]:
        validators: list[Any] = [
            Draft202012Validator(
                {**schema["properties"][argument], "$defs": schema.get("$defs", {})}
            )
            for schema in (long, short)
        ]
        for value in VALUES:
            before, after = (validator.is_valid(value) for validator in validators)
            assert before == after, (argument, value)


def test_alternatives_of_one_type_stay_apart() -> None:
    both = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "number", "maximum": 0}]}
    assert compact(both) == both
    named = {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}], "default": None}
    assert compact(named) == {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}


def test_descriptions_reach_the_schema() -> None:
    properties = MODEL.model_json_schema()["properties"]
    assert properties["target"]["description"] == "The `format`."
