"""Optional engines say which package is missing and how to get it."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from finetuning.data_prep.duplicates import Rows, Search, find_duplicates
from finetuning.data_prep.duplicates.candidates import (
    band_keys,
    candidates,
    daft_candidates,
    n_bands,
    signed_rows,
)
from finetuning.data_prep.duplicates.finding import semantic_twins
from finetuning.data_prep.examples import Content
from finetuning.errors import BadInputError, MissingExtraError


def content(key: int = 0, family: int = 0) -> Content:
    return Content(exact=1, prompt="a b c", answer="d", asked=1, key=key, family=family)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("daft", "semhash", "model2vec"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without")
def test_missing_packages_are_named_with_the_pip_line() -> None:
    signatures, keys = signed([content(), content()])
    with pytest.raises(MissingExtraError, match=r"pip install 'fine-tuning-skill\[scale\]'"):
        daft_candidates(signatures, keys)
    with pytest.raises(MissingExtraError, match=r"pip install 'fine-tuning-skill\[semantic\]'"):
        semantic_twins([content(), content()])


def signed(contents: list[Content]) -> tuple[Any, Any]:
    rows = Rows.of(contents)
    signatures = Search(rows, 0.5).signatures
    chosen = signed_rows(signatures, np.arange(len(rows)))
    return signatures[chosen], rows.key[chosen]


def test_meaning_counts_only_for_the_same_label_and_other_conversations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _install_semhash(monkeypatch, [(1, 0), (2, 1), (4, 3)])
    hub = SimpleNamespace(snapshot_download=_folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", cast("ModuleType", hub))
    keys, families = (5, 5, 7, 5, 5), (0, 0, 0, 2, 2)
    rows = [
        Content(n, f"{word} {n}", "yes", n, key, family)
        for n, (word, key, family) in enumerate(zip("abcde", keys, families, strict=True))
    ]
    found = find_duplicates(rows, threshold=0.9, rank=[(1.0,)] * 5, semantic=True)
    assert found.near == {1: 0}


def test_large_files_get_wider_bands_and_fewer_candidates() -> None:
    assert [n_bands(n) for n in (10, 400_001, 10_000_000)] == [42, 32, 25]
    few = np.zeros((10, 128), dtype=np.uint16)
    assert len(set(band_keys(few, np.arange(10, dtype=np.uint64), 41).tolist())) == 10
    assert len(set(band_keys(few, np.zeros(10, dtype=np.uint64), 41).tolist())) == 1


def test_rows_without_words_of_their_own_are_no_candidates() -> None:
    line = "all of these rows have the very same words and nothing else"
    signatures, keys = signed([Content(n, line, line, 1, 0) for n in range(12)])
    assert len(signatures) == 0
    assert candidates(signatures, keys).tolist() == []
    assert signed([])[0].shape == (0, 128)


class Column:
    """Stands for an expression of Daft: what is aggregated or asked of a column."""

    def list_agg(self) -> Column:
        return self

    def list_count(self) -> Column:
        return self

    def alias(self, name: str) -> Column:
        return self

    def __gt__(self, other: int) -> int:
        return other


def _column(name: str) -> Column:
    return Column()


class Table:
    """Groups like Daft 0.7, with the rows of a group in no order that one may rely on."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def groupby(self, *names: str) -> Table:
        groups: dict[tuple[int, ...], list[int]] = {}
        keys = zip(*(self.columns[name].tolist() for name in names), strict=True)
        for key, row in zip(keys, self.columns["row"].tolist(), strict=True):
            groups.setdefault(key, []).insert(0, row)
        return Table({"rows": list(groups.values())})

    def agg(self, column: Column) -> Table:
        return self

    def where(self, more_than: int) -> Table:
        return Table({"rows": [rows for rows in self.columns["rows"] if len(rows) > more_than]})

    def to_pydict(self) -> dict[str, Any]:
        return self.columns


def texts(count: int) -> list[Content]:
    draw = random.Random(2)
    words = [f"word{number}" for number in range(60)]
    return [
        Content(exact=n, prompt=" ".join(draw.choices(words, k=9)), answer="yes", asked=n, key=5)
        for n in range(count)
    ]


@pytest.fixture
def daft(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the real Daft where it is installed, else what stands for it."""
    if importlib.util.find_spec("daft") is None:
        stand_in = SimpleNamespace(from_pydict=Table, col=_column)
        monkeypatch.setitem(sys.modules, "daft", cast("ModuleType", stand_in))
        return "stand-in"
    return "real"


def test_daft_engine_gives_the_pairs_that_this_one_gives(daft: str) -> None:
    rows = texts(60)
    rows += [
        Content(c.exact + 100, c.prompt + " so", c.answer, c.asked + 100, 5) for c in rows[:20]
    ]
    signatures, keys = signed(rows)
    assert len(candidates(signatures, keys)) >= 20
    assert daft_candidates(signatures, keys).tolist() == candidates(signatures, keys).tolist()
    ranks = [(1.0,)] * len(rows)
    local = find_duplicates(rows, threshold=0.5, rank=ranks)
    assert len(local.near) >= 20, daft
    assert find_duplicates(rows, threshold=0.5, rank=ranks, engine="daft") == local
    assert daft_candidates(*signed([])).tolist() == []


def _install_semhash(monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[int, int]]) -> None:
    def from_records(records: list[dict[str, str]], columns: list[str], model: Any) -> Any:
        assert columns == ["text"]
        found = [
            SimpleNamespace(record=records[copy], duplicate_of=records[kept])
            for copy, kept in pairs
        ]

        def self_deduplicate(threshold: float) -> Any:
            assert 0 < threshold <= 1
            return SimpleNamespace(filtered=found)

        return SimpleNamespace(self_deduplicate=self_deduplicate)

    semhash = SimpleNamespace(SemHash=SimpleNamespace(from_records=from_records))
    model2vec = SimpleNamespace(StaticModel=SimpleNamespace(from_pretrained=str))
    monkeypatch.setitem(sys.modules, "semhash", cast("ModuleType", semhash))
    monkeypatch.setitem(sys.modules, "model2vec", cast("ModuleType", model2vec))


def test_encoder_that_is_not_on_this_machine_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_semhash(monkeypatch, [])
    hub = SimpleNamespace(snapshot_download=_nothing)
    monkeypatch.setitem(sys.modules, "huggingface_hub", cast("ModuleType", hub))
    with pytest.raises(BadInputError, match="hf download minishlab/potion-base-8M"):
        semantic_twins(texts(3))


def _nothing(name: str, *, local_files_only: bool) -> str:
    assert local_files_only
    raise FileNotFoundError(name)


def _folder(name: str, *, local_files_only: bool) -> str:
    assert local_files_only
    return f"cache/{name}"


def test_rows_that_mean_the_same_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_semhash(monkeypatch, [(3, 1), (2, 0)])
    hub = SimpleNamespace(snapshot_download=_folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", cast("ModuleType", hub))
    rows = texts(4)
    rows[2] = Content(2, rows[2].prompt, "no", 2, key=6)
    found = find_duplicates(rows, threshold=0.9, rank=[(1.0,)] * 4, near=False, semantic=True)
    assert found.near == {3: 1}
    assert found.cluster == [0, 1, 2, 1]
    assert semantic_twins(rows[:1]) == set()
