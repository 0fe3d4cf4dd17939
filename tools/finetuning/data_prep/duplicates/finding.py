"""Which rows are copies of which, which of them stay, and which belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep import Engine
from finetuning.data_prep.duplicates import components, without
from finetuning.data_prep.duplicates.rows import Rows, Template, as_rows, many_rows
from finetuning.data_prep.duplicates.twins import Search, comparable
from finetuning.data_prep.examples import Content
from finetuning.errors import BadInputError, require
from finetuning.runs import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates import Flags, Pairs, Places

    Ranks = Sequence[tuple[float, ...]] | NDArray[np.float64]

_ROUNDS: Final = 8
"""Removing rows can make text constant no longer, or only then; twins are sought again so often."""

_FULLY_COMPARED: Final = 256
"""In a larger cluster a row is compared with those it shares a band with, not with every other."""

SAME_MEANING: Final = 0.9
"""Cosine similarity from which two rows mean the same; semhash's own default."""

ENCODER: Final = "minishlab/potion-base-8M"
"""Static sentence vectors, 8 M parameters, English first; semhash 0.5 (checked 2026-11-20)."""


def order_of(rank: Ranks, n_rows: int) -> Places:
    """Return the place of each row from the one most worth keeping, 0, downwards."""
    import numpy as np

    columns = np.asarray(rank, dtype=np.float64).reshape(n_rows, -1 if n_rows else 0)
    place = np.empty(n_rows, dtype=np.int64)
    keys = [np.arange(n_rows), *(-columns[:, at] for at in range(columns.shape[1] - 1, -1, -1))]
    place[np.lexsort(keys)] = np.arange(n_rows)
    return place


def copies(
    rows: Places, cluster: Places, twins: Callable[[Pairs], Flags], known: Pairs
) -> dict[int, int]:
    """Return the rows that can go, each with the row that stays in its place.

    In each cluster the best row stays and takes away its own twins; what is left is judged
    again, so that a chain of small differences never removes a row without a twin that stays.

    Args:
        rows: The rows, the best ones first.
        cluster: Cluster of each of these.
        twins: Says which pairs of rows are twins.
        known: Pairs that are.
    """
    import numpy as np

    kept_for: dict[int, int] = {}
    n_rows = int(rows.max()) + 1 if len(rows) else 0
    sure = np.unique(np.concatenate([known @ [n_rows, 1], known[:, ::-1] @ [n_rows, 1]]))
    while len(rows):
        _, first, member, sizes = np.unique(
            cluster, return_index=True, return_inverse=True, return_counts=True
        )
        best = rows[first][member]
        others = rows != best
        pairs = np.stack([best, rows], axis=1)
        gone = np.isin(pairs @ [n_rows, 1], sure) & others
        unsure = np.flatnonzero(others & ~gone & (sizes[member] <= _FULLY_COMPARED))
        gone[unsure] = twins(np.sort(pairs[unsure], axis=1))
        kept_for.update(zip(rows[gone].tolist(), best[gone].tolist(), strict=True))
        left = others & ~gone
        rows, cluster = rows[left], cluster[left]
    return kept_for


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among rows.

    Attributes:
        exact: Copy → the row that stays for it.
        near: Near copy → the row that stays for it.
        cluster: Per row, the first row of its cluster: rows of one cluster are copies of each
            other, or ask the same, and belong on one side of a split.
        sizes: Sizes of the clusters of near copies, largest first (exact copies not counted).
        template: The text that many rows share when all copies are gone.
    """

    exact: dict[int, int]
    near: dict[int, int]
    cluster: list[int]
    sizes: list[int]
    template: Template = field(compare=False, repr=False)


def exact_copies(rows: Rows, place: Places) -> Pairs:
    """Return pairs of a copy and the row that stays for it."""
    import numpy as np

    order = np.lexsort([place, rows.exact[:, 1], rows.exact[:, 0]])
    ordered = rows.exact[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    kept = order[fresh][np.cumsum(fresh) - 1]
    return np.stack([order[~fresh], kept[~fresh]], axis=1)


def same_question(rows: Rows, left: Places) -> Pairs:
    """Return pairs of rows that ask the same, unless so many do that it is a constant prompt."""
    import numpy as np

    _, first, member, sizes = np.unique(
        rows.asked[left], return_index=True, return_inverse=True, return_counts=True
    )
    pairs: Pairs = np.stack([left[first][member], left], axis=1)
    few = sizes[member] < many_rows(len(left))
    chosen: Pairs = pairs[few & (pairs[:, 0] != pairs[:, 1])]
    return chosen


def _encoder() -> Any:
    """Load the encoder from this machine's model cache; no connection is opened.

    Raises:
        MissingExtraError: The package is not installed.
        BadInputError: The model is not on this machine.
    """
    feature = "semantic_duplicates=true"
    model2vec: Any = require("model2vec", feature=feature, extra="semantic")
    hub: Any = require("huggingface_hub", feature=feature, extra="semantic")
    try:
        folder = hub.snapshot_download(ENCODER, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInputError(
            "prepare_data: semantic_duplicates",
            f"the encoder {ENCODER} is not on this machine",
            "the encoder in the local Hugging Face cache",
            f"Run once where a connection is allowed: hf download {ENCODER}",
        ) from error
    return model2vec.StaticModel.from_pretrained(folder)


def semantic_twins(contents: Sequence[Content]) -> set[tuple[int, int]]:
    """Return the pairs of rows that mean the same, smaller number first.

    Raises:
        MissingExtraError: The packages of the extra ``semantic`` are not installed.
        BadInputError: The encoder is not on this machine.
    """
    semhash: Any = require("semhash", feature="semantic_duplicates=true", extra="semantic")
    encoder = _encoder()
    progress(0, len(contents), "comparing meanings")
    if len(contents) < 2:
        return set()
    rows = [
        {"text": f"{content.prompt}\n{content.answer}", "row": str(number)}
        for number, content in enumerate(contents)
    ]
    index = semhash.SemHash.from_records(records=rows, columns=["text"], model=encoder)
    found = index.self_deduplicate(threshold=SAME_MEANING)
    both = [(int(copy.record["row"]), int(copy.duplicate_of["row"])) for copy in found.filtered]
    return {(min(pair), max(pair)) for pair in both}


class _Finding:
    """Rows that are left while copies are sought and, if wanted, taken away."""

    def __init__(self, rows: Rows, place: Places, left: Places) -> None:
        self.rows, self.place, self.left = rows, place, left
        self.gone: dict[int, int] = {}
        self.pairs: list[Pairs] = []

    def take(self, pairs: Pairs, twins: Callable[[Pairs], Flags]) -> tuple[Places, int]:
        """Remove copies; return the rows that went and the size of the largest cluster."""
        import numpy as np

        cluster = components(len(self.rows), pairs)
        sizes = np.bincount(cluster)
        inside = np.flatnonzero(sizes[cluster] > 1)
        inside = inside[np.argsort(self.place[inside])]
        gone = copies(inside, cluster[inside], twins, pairs)
        self.gone |= gone
        went = np.array(sorted(gone), dtype=np.int64)
        self.left = without(self.left, went, len(self.rows))
        return went, int(sizes.max(initial=0))

    def near(self, threshold: float, engine: Engine, *, remove: bool) -> None:
        """Seek near copies until taking some away brings no new ones to light."""
        import numpy as np

        gone = without(np.arange(len(self.rows)), self.left, len(self.rows))
        search = Search(self.rows, threshold, engine=engine, gone=gone)
        self.template = search.template
        changed: Places | None = None
        for _ in range(_ROUNDS):
            pairs = search.twins(self.left, changed=changed)
            self.pairs.append(pairs)
            if not remove or not len(pairs):
                break
            went, largest = self.take(pairs, search.compare.twins)
            changed = search.without(went)
            if largest > _FULLY_COMPARED:
                changed = self.left
            if not len(changed):
                break

    def semantic(self, contents: Sequence[Content]) -> None:
        """Seek rows that mean the same in other words."""
        import numpy as np

        left: list[int] = self.left.tolist()
        found = semantic_twins([contents[row] for row in left])
        pairs = self.left[np.array(sorted(found), dtype=np.int64).reshape(-1, 2)]
        pairs = pairs[comparable(self.rows, pairs)]
        codes = pairs @ [len(self.rows), 1]
        self.pairs.append(pairs)
        went, _ = self.take(pairs, lambda asked: np.isin(asked @ [len(self.rows), 1], codes))
        self.template.without(went)


def find_duplicates(
    rows: Rows | Sequence[Content],
    *,
    threshold: float,
    rank: Ranks,
    near: bool = True,
    engine: Engine = "local",
    semantic: bool = False,
    contents: Sequence[Content] | None = None,
) -> Duplicates:
    """Find exact and near copies, and what belongs together.

    Args:
        rows: The rows, as columns or one by one.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
        rank: Per row, how much it is worth keeping, the most important number first; the
            highest of a cluster stays, the earliest among equals.
        near: Take near copies away; false only puts them into one cluster.
        engine: What groups the bands.
        semantic: Take away rows that mean the same in other words, too.
        contents: The rows with their texts, which ``semantic`` reads, where ``rows`` has none.

    Returns:
        Copies with the rows that stay for them, and clusters. Calling again with the rows
        that stay finds nothing more.

    Raises:
        MissingExtraError: The package of the engine or of the semantic search is missing.
        BadInputError: The encoder of the semantic search is not on this machine.
    """
    import numpy as np

    columns = as_rows(rows)
    n_rows = len(columns)
    place = order_of(rank, n_rows)
    exact = exact_copies(columns, place)
    finding = _Finding(columns, place, without(np.arange(n_rows), exact[:, 0], n_rows))
    finding.near(threshold, engine, remove=near)
    if semantic:
        finding.semantic(contents or () if isinstance(rows, Rows) else rows)
    twins = np.concatenate(finding.pairs)
    alike = components(n_rows, twins)
    sizes = np.bincount(np.delete(alike, exact[:, 0]), minlength=n_rows) if n_rows else alike
    together = np.concatenate([exact, twins, same_question(columns, finding.left)])
    return Duplicates(
        exact={int(copy): int(kept) for copy, kept in exact.tolist()},
        near=_final(finding.gone),
        cluster=components(n_rows, together).tolist(),
        sizes=sorted(sizes[sizes > 1].tolist(), reverse=True),
        template=finding.template,
    )


def _final(near: dict[int, int]) -> dict[int, int]:
    """Point every copy at a row that stays to the end (a later round may take one away)."""

    def last(row: int) -> int:
        while row in near:
            row = near[row]
        return row

    return {row: last(kept) for row, kept in near.items()}
