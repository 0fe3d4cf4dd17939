"""The catalogue: sound files, exact names, and what an edited file is told."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from finetuning.errors import RunFailedError, UnknownNameError
from finetuning.providers import (
    PROVIDER_IDS,
    all_providers,
    find_model,
    load_provider,
    provider_ids,
)
from finetuning.providers.catalogue import (
    FOLDER,
    UNPRICED,
    Source,
    base_of,
    file_of,
    gpu_size,
    memory_gb,
    model_at,
    params_of,
    read_file,
    read_provider,
)


def test_every_entry_is_sound_and_found_by_its_own_id() -> None:
    assert [provider.id for provider in all_providers()] == list(provider_ids())
    assert set(provider_ids()) == set(PROVIDER_IDS)


def test_an_entry_read_alone_is_what_the_whole_file_says() -> None:
    for path in FOLDER.glob("*.toml"):
        for entry in read_file(path):
            assert entry == load_provider(entry.id)
            assert file_of(entry.id) == path.name


def test_only_entries_that_mention_a_word_are_read() -> None:
    named = [provider.id for provider in all_providers(mentioning="cny_per_usd")]
    assert named == ["alibaba"], "its neighbours in the file do not say it"


def test_every_row_has_a_source_with_a_day_and_a_confidence() -> None:
    for provider in all_providers():
        for source in provider.sources.values():
            assert dt.date(2024, 1, 1) <= source.checked_on <= dt.date(2026, 11, 20)
            assert source.url or source.confidence == "memory"


def test_closed_services_stay_in_the_catalogue_and_say_when_they_closed() -> None:
    closed = {provider.id for provider in all_providers() if provider.service == "closed"}
    assert closed == {"cohere", "gemini_api", "mistral", "predibase"}
    assert all(load_provider(name).lifecycle for name in closed)


def test_prices_from_memory_or_from_an_example_are_kept_but_marked() -> None:
    marked = [
        (provider.id, price.models[0])
        for provider in all_providers()
        for price in provider.prices
        if provider.sources[price.source].confidence in UNPRICED
    ]
    assert ("azure", "gpt-4.1-2025-04-14") in marked
    assert sum(name == "bedrock" for name, _ in marked) == 3


def test_a_model_is_found_by_alias_and_in_any_case() -> None:
    assert find_model("openai", "GPT-4.1").id == "gpt-4.1-2025-04-14"
    assert find_model("bedrock", "nova-lite").epochs_range == (1, 5)


def test_an_unknown_model_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Qwen/Qwen3\.5-9B"):
        find_model("together", "Qwen/Qwen3.5-9")
    with pytest.raises(UnknownNameError, match="together"):
        load_provider("togethr")


def test_own_and_rented_machines_take_any_base_model() -> None:
    assert find_model("local", "some/model").methods == ("sft", "dpo", "kto", "grpo", "cpt")
    assert find_model("wandb", "some/model").methods == ()


@pytest.mark.parametrize(
    ("checked", "day"),
    [
        ("2026", dt.date(2026, 1, 1)),
        ("2026-08", dt.date(2026, 8, 1)),
        ("2026-08-05", dt.date(2026, 8, 5)),
    ],
)
def test_a_day_known_only_roughly_counts_as_the_earliest_it_can_be(
    checked: str, day: dt.date
) -> None:
    assert Source(url="x", checked=checked, confidence="read").checked_on == day


def test_a_model_under_another_name_is_known_as_the_open_base_that_it_is() -> None:
    vertex = find_model("vertex", "qwen/qwen3@qwen3-32b")
    assert params_of(vertex) == 32
    assert base_of(find_model("openai", "gpt-4.1")) is None
    assert memory_gb(find_model("openai", "gpt-4.1"), "lora") is None
    crusoe = load_provider("crusoe")
    here = model_at(crusoe, find_model("local", "openai/gpt-oss-120b"))
    assert here is not None
    assert here.id == "GPT-OSS 120B"
    assert model_at(crusoe, find_model("local", "Qwen/Qwen3-8B")) is None
    assert gpu_size("no-such-device") is None


ALONE = """id = "wandb"
name = "a file of one provider"
service = "managed"
weights = "unknown"
sources.page = { url = "page", checked = "2026", confidence = "read" }
"""
BROKEN = {
    "not toml": ("id = ", "Invalid value"),
    "unknown key": ('colour = "red"\n', "colour"),
    "dangling source": (
        'prices = [{ models = ["*"], kind = "host", usd_per_hour = "1", source = "gone" }]\n',
        "no source 'gone'",
    ),
    "two units": (
        'prices = [{ models = ["*"], kind = "host", usd_per_hour = "1", usd_per_mtok = "1", '
        'source = "page" }]\n',
        "2 units",
    ),
    "upside down": (
        'prices = [{ models = ["*"], kind = "host", usd_per_job = "2", usd_per_job_high = "1", '
        'source = "page" }]\n',
        "2 to 1",
    ),
    "unknown model": (
        'prices = [{ models = ["m"], kind = "host", usd_per_hour = "1", source = "page" }]\n',
        "unknown model 'm'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_edited_file_that_breaks_the_schema_is_refused_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    addition, reason = BROKEN[name]
    path = tmp_path / "wandb.toml"
    path.write_text(ALONE, encoding="utf-8")
    assert read_provider(path).id == "wandb"
    path.write_text(ALONE + addition, encoding="utf-8")
    with pytest.raises(RunFailedError, match=reason):
        read_provider(path)


def test_a_file_under_another_name_or_a_source_without_address_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(ALONE.replace('url = "page"', 'url = ""'), encoding="utf-8")
    with pytest.raises(RunFailedError, match=r"no address.*id 'wandb' in the file of 'other'"):
        read_provider(path)


def test_the_package_loads_its_names_on_first_use_and_refuses_others() -> None:
    import finetuning.providers as package

    assert set(package.__all__) >= {"availability", "find_price"}
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = package.nothing_here  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType]  # the test is that it is absent
