"""Two partitions of the same rows: what agrees, what moved, what split or merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skleiden._blocks.frames import frame_of
from skleiden._fitting import final_step
from skleiden._kernels import partitions

from ._communities import Communities
from ._cross_table import listed
from ._members import check_labels

if TYPE_CHECKING:
    import pandas as pd

# Ids that an error names.
_SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """How two partitions, a and b, agree on the rows that both have.

    Made by `compare`.

    Attributes
    ----------
    ami, ari : float
        Adjusted mutual information and adjusted Rand index, 1 for equal partitions and
        about 0 for unrelated ones. A row in no community counts as one of its own.

    ids : ndarray of shape (n_common,)
        Rows that both have, in the order of a: their ids, or else their numbers.

    labels_a, labels_b : ndarray of shape (n_common,), dtype int64
        Their communities in a and in b; -1 is noise.

    partner : ndarray of shape (n_clusters of a,), dtype int64
        Community of b that each community of a is matched with, -1 for none. Each is
        matched at most once, and such that the most rows stay together.

    moved : ndarray of shape (n_common,), dtype bool
        Rows that are not in matched communities; a row in none is one that moved unless
        it is in none in both.

    splits : dict of {int: list of int}
        Communities of a that became several of b, and these, largest part first.

    merges : dict of {int: list of int}
        Communities of b that several of a became, and these, largest part first.

    n_only_a, n_only_b : int
        Rows that only one of them has.

    table : dict of {str: ndarray}
        All pairs of a community of a and one of b that have rows in common: "a", "b",
        "n_common", "share_of_a", "share_of_b", "jaccard" and "matched".
    """

    ami: float
    ari: float
    ids: np.ndarray
    labels_a: np.ndarray
    labels_b: np.ndarray
    partner: np.ndarray
    moved: np.ndarray
    splits: dict[int, list[int]]
    merges: dict[int, list[int]]
    n_only_a: int
    n_only_b: int
    table: dict[str, np.ndarray]

    def to_frame(self) -> pd.DataFrame:
        """Return `table` as a pandas DataFrame.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def describe(self) -> list[str]:
        """Say in words what agrees and what changed.

        Returns
        -------
        lines : list of str
        """
        n, n_moved = self.ids.size, int(np.count_nonzero(self.moved))
        lines = [
            f"AMI {self.ami:.3f}, ARI {self.ari:.3f} on {n} rows; {n_moved} of them "
            f"({n_moved / n:.1%}) moved"
        ]
        for which, n_only in (("first", self.n_only_a), ("second", self.n_only_b)):
            if n_only:
                lines.append(f"{n_only} rows are in the {which} alone")
        lines += [
            f"community {a} split into {listed(parts)}"
            for a, parts in self.splits.items()
        ]
        lines += [
            f"communities {listed(parts)} merged into {b}"
            for b, parts in self.merges.items()
        ]
        return lines

    def __repr__(self) -> str:
        return f"<Comparison: {self.describe()[0]}>"


def compare(a: Any, b: Any, *, min_share: float = 0.1) -> Comparison:
    """Compare two partitions: of two runs, layers, models, checkpoints or seeds.

    Parameters
    ----------
    a, b : Communities, fitted clusterer or pipeline, or array-like of int
        What to compare. Rows of two `Communities` are found by their ids, and those
        that only one has are left out; else they are the same rows in the same order.
        Files are read by :func:`skleiden.io.load_communities`.

    min_share : float, default=0.1
        Smallest part, as a share of the rows of a community, by which it is said to be
        split or merged, above 0 and at most 0.5.

    Returns
    -------
    comparison : Comparison
        Agreement, matched communities, rows that moved, splits and merges, with
        `to_frame()` and `describe()`.

    Raises
    ------
    TypeError
        If one of them holds no labels.

    ValueError
        If they have no row in common, or, without ids, not the same number of rows; if
        ids repeat; if labels are not integers of at least -1, or `min_share` is out of
        range.

    See Also
    --------
    skleiden.model_selection.community_stability : How well each community comes again.

    Notes
    -----
    Agreement is the adjusted mutual information, by the mean of both entropies [1]_,
    and the adjusted Rand index [2]_. A community is split if at least two of the other
    partition hold a share of it of `min_share` or more and have most of their rows from
    it; a merge is a split the other way round.

    References
    ----------
    .. [1] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for
       clusterings comparison", Journal of Machine Learning Research 11, 2010.
    .. [2] L. Hubert, P. Arabie, "Comparing partitions", Journal of Classification 2,
       1985.

    Examples
    --------
    >>> from skleiden.inspection import compare
    >>> found = compare([0, 0, 1, 1, 1, 2, 2], [1, 1, 0, 0, 0, 0, 0])
    >>> found.merges, found.partner.tolist(), int(found.moved.sum())
    ({0: [1, 2]}, [1, 0, -1], 2)
    >>> found.describe()[-1]
    'communities 1 and 2 merged into 0'
    """
    if not 0 < min_share <= 0.5:
        raise ValueError(f"min_share must be in (0, 0.5]; got {min_share!r}.")
    one, other = (_labels_of(value, name) for value, name in ((a, "a"), (b, "b")))
    ids, in_a, in_b = _common(a, b, one.size, other.size)
    labels_a, labels_b = one[in_a], other[in_b]
    partner = partitions.match(labels_a, labels_b)
    pairs = _pairs(labels_a, labels_b, partner)
    return Comparison(
        ami=partitions.adjusted_mutual_information(labels_a, labels_b),
        ari=partitions.adjusted_rand(labels_a, labels_b),
        ids=ids,
        labels_a=labels_a,
        labels_b=labels_b,
        partner=partner,
        moved=~partitions.kept_together(labels_a, labels_b),
        splits=_parts(pairs, "a", "b", min_share),
        merges=_parts(pairs, "b", "a", min_share),
        n_only_a=one.size - ids.size,
        n_only_b=other.size - ids.size,
        table=pairs,
    )


def _labels_of(value: Any, name: str) -> np.ndarray:
    """Give the labels of whatever has some."""
    if isinstance(value, Communities):
        return value.labels
    last = final_step(value)[1]
    if hasattr(last, "get_params"):
        if not hasattr(last, "labels_"):
            raise TypeError(
                f"{name} must be a fitted clusterer, Communities, or labels; got "
                f"{type(value).__name__} without labels_. Fit it first."
            )
        value = last.labels_
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        raise TypeError(
            f"{name} must be Communities, a fitted clusterer or labels; got the path "
            f"{value!r}. Load it with skleiden.io.load_communities."
        )
    try:
        return check_labels(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _common(
    a: Any, b: Any, n_a: int, n_b: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the ids of the rows that both have, and their numbers in each."""
    if not (isinstance(a, Communities) and isinstance(b, Communities)):
        if n_a != n_b:
            raise ValueError(
                f"a and b must have the same rows; got {n_a} and {n_b} labels. Give "
                "Communities, whose rows are found by their ids."
            )
        known = next((of.ids for of in (a, b) if isinstance(of, Communities)), None)
        every = np.arange(n_a)
        return every if known is None else known, every, every
    numbers = []
    for of, name in ((a, "a"), (b, "b")):
        numbers.append({of_row: row for row, of_row in enumerate(of.ids.tolist())})
        if len(numbers[-1]) < of.ids.size:
            raise ValueError(
                f"ids of {name} must not repeat, so that rows are found by them; got "
                f"{len(numbers[-1])} different ones for {of.ids.size} rows."
            )
    in_a, in_b = numbers
    shared = [row for of_row, row in in_a.items() if of_row in in_b]
    if not shared:
        shown = [[*of][:_SHOWN] for of in numbers]
        raise ValueError(
            f"a and b have no row in common; got ids such as {shown[0]} and {shown[1]}."
            " Give both the same ids, as strings or as numbers."
        )
    rows = np.array(shared)
    ids = a.ids[rows]
    return ids, rows, np.array([in_b[of_row] for of_row in ids.tolist()])


def _pairs(a: np.ndarray, b: np.ndarray, partner: np.ndarray) -> dict[str, np.ndarray]:
    """Give all pairs of communities with rows in common, by community of a."""
    table = partitions.contingency(a, b).tocoo()
    order = np.lexsort((table.col, table.row))
    one, other = table.row[order].astype(np.int64), table.col[order].astype(np.int64)
    shared = table.data[order]
    in_a, in_b = partitions.sizes(a)[one], partitions.sizes(b)[other]
    return {
        "a": one,
        "b": other,
        "n_common": shared,
        "share_of_a": shared / in_a,
        "share_of_b": shared / in_b,
        "jaccard": shared / (in_a + in_b - shared),
        "matched": partner[one] == other,
    }


def _parts(
    pairs: dict[str, np.ndarray], whole: str, part: str, min_share: float
) -> dict[int, list[int]]:
    """Give the communities of one partition that are several of the other."""
    is_part = pairs[f"share_of_{whole}"] >= min_share
    is_part &= pairs[f"share_of_{part}"] > 0.5
    rows = np.flatnonzero(is_part)
    rows = rows[np.lexsort((pairs[part][rows], -pairs["n_common"][rows]))]
    found: dict[int, list[int]] = {}
    for row in rows.tolist():
        found.setdefault(int(pairs[whole][row]), []).append(int(pairs[part][row]))
    return {of: parts for of, parts in sorted(found.items()) if len(parts) > 1}
