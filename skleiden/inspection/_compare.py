"""Two partitions of the same rows: what agrees, what moved, what split or merged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import Interval

from skleiden._blocks.frames import as_html, frame_of, refuse_other_order
from skleiden._fitting import final_step
from skleiden._kernels import partitions

from ._communities import Communities
from ._cross_table import listed
from ._features import ids_of
from ._members import Labels, number_labels

if TYPE_CHECKING:
    import pandas as pd

# Ids that an error names, and letters of a text.
_SHOWN, _LETTERS = 3, 40

# Shares of a community of which there may be two.
_PARTS = Interval(Real, 0, 0.5, closed="right")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Agreement of two partitions, a and b, on the rows that both have.

    It is made by `compare`, and shown by :func:`skleiden.report.write_comparison`.

    Attributes
    ----------
    ami, ari : float
        Adjusted mutual information and adjusted Rand index, 1 for equal partitions and
        about 0 for unrelated ones. A row in no community counts as one of its own.

    ids : ndarray of shape (n_common,)
        Ids of the rows that both have, or else their numbers, in the order of a.

    labels_a, labels_b : ndarray of shape (n_common,), dtype int64
        Communities of these rows in a and in b; -1 is noise.

    partner : ndarray of shape (n_clusters of a,), dtype int64
        Community of b that each community of a is matched with, -1 for none.
        Communities are matched one to one, so that the most rows stay together.

    moved : ndarray of shape (n_common,), dtype bool
        Which rows are not in matched communities. A row that is noise in one of both
        moved; a row that is noise in both did not.

    splits : dict of {int: list of int}
        For each community of a that became several of b, these parts, largest first.

    merges : dict of {int: list of int}
        For each community of b that several of a became, these parts, largest first.

    n_only_a, n_only_b : int
        Number of rows that only a, or only b, has.

    table : dict of {str: ndarray}
        All pairs of a community of a and a community of b with rows in common, as the
        columns "a", "b", "n_common", "share_of_a", "share_of_b", "jaccard" and
        "matched".

    names_a, names_b : dict of {int: str}
        Names of communities, where they are known; else their keywords, joined. Labels
        that are strings are numbered in their order, and are the names.

    texts : list of str of length n_common, or None
        The prompts, if a or b has them.

    rows : str
        Word for the rows: "prompts", "tokens" or "neurons", or else "rows".
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
    names_a: Mapping[int, str] = field(default_factory=dict)
    names_b: Mapping[int, str] = field(default_factory=dict)
    texts: Sequence[str] | None = None
    rows: str = "rows"

    @property
    def matches(self) -> dict[str, np.ndarray]:
        """Matched communities as columns, those that share the most rows first.

        "a", "b", "size_a" and "size_b" (of the rows that both partitions have),
        "n_common", "jaccard" (the rows in both communities over the rows in either),
        and "name_a" and "name_b" where communities of a, or of b, have names.
        """
        matched = np.flatnonzero(self.table["matched"])
        order = matched[np.argsort(-self.table["n_common"][matched], kind="stable")]
        one, other = self.table["a"][order], self.table["b"][order]
        columns = {
            "a": one,
            "b": other,
            "size_a": partitions.sizes(self.labels_a)[one],
            "size_b": partitions.sizes(self.labels_b)[other],
            "n_common": self.table["n_common"][order],
            "jaccard": self.table["jaccard"][order],
        }
        for which, names in (("a", self.names_a), ("b", self.names_b)):
            if names:
                told = [names.get(c, "") for c in columns[which].tolist()]
                columns[f"name_{which}"] = np.array(told, dtype=object)
        return columns

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

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison in types that JSON has.

        Returns
        -------
        plain : dict
            "ami", "ari", "n_rows", "n_moved", "n_only_a" and "n_only_b"; "matches", a
            list with a dict for each matched pair; "splits" and "merges", lists of a
            dict with "community" and "parts"; and "moved", a list of a dict with "id",
            "a" and "b" for each row that moved. An id that JSON has no form for becomes
            its string.
        """
        matches = {name: of.tolist() for name, of in self.matches.items()}
        changed = zip(
            self.ids[self.moved].tolist(),
            self.labels_a[self.moved].tolist(),
            self.labels_b[self.moved].tolist(),
            strict=True,
        )
        return {
            "ami": self.ami,
            "ari": self.ari,
            "n_rows": self.ids.size,
            "n_moved": int(np.count_nonzero(self.moved)),
            "n_only_a": self.n_only_a,
            "n_only_b": self.n_only_b,
            "matches": [
                dict(zip(matches, of, strict=True))
                for of in zip(*matches.values(), strict=True)
            ],
            "splits": _as_list(self.splits),
            "merges": _as_list(self.merges),
            "moved": [
                {"id": of if type(of) in (str, int) else str(of), "a": a, "b": b}
                for of, a, b in changed
            ],
        }

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
        one, other = self.names_a, self.names_b
        lines += [
            f"community {_told([a], one)} split into {_told(parts, other)}"
            for a, parts in self.splits.items()
        ]
        lines += [
            f"communities {_told(parts, one)} merged into {_told([b], other)}"
            for b, parts in self.merges.items()
        ]
        return lines

    def __repr__(self) -> str:
        return f"<Comparison: {self.describe()[0]}>"

    def _repr_html_(self) -> str:
        """Give the matched communities as a table, for notebooks."""
        return as_html(self, self.matches)


def _told(communities: Sequence[int], names: Mapping[int, str]) -> str:
    """List communities by their numbers, with names where there are some."""
    return listed(
        [f"{c} ({names[c]})" if names.get(c) else str(c) for c in communities]
    )


def _as_list(parts_of: Mapping[int, list[int]]) -> list[dict[str, Any]]:
    return [{"community": of, "parts": parts} for of, parts in parts_of.items()]


def compare(a: Any, b: Any, *, min_share: float = 0.1) -> Comparison:
    """Compare two partitions: of two runs, layers, models, checkpoints or seeds.

    Parameters
    ----------
    a, b : Communities, path, fitted clusterer or pipeline, or array-like of int or str
        Partitions to compare. A path is that of a file that
        :func:`skleiden.io.save_communities` or :func:`skleiden.io.save_labels` saved,
        or of a folder that ``skleiden cluster`` made. Rows of files and of
        `Communities` are matched by their ids, and rows that only one of both has are
        left out. Rows of anything else must be the same, in the same order. If the ids
        of one are all strings, as they are in CSV files, the ids of the other are taken
        as strings, too.

    min_share : float, default=0.1
        Smallest part, as a share of the rows of a community, by which it is said to be
        split or merged; above 0 and at most 0.5.

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
        If they have no row in common or, without ids, different numbers of rows; if ids
        repeat, or the texts that both have for an id differ for most ids; if one is of
        prompts and the other of neurons; if labels are not integers of at least -1, or
        strings; if a file holds no partition, or `min_share` is out of range.

    OSError
        If a file cannot be read.

    Warns
    -----
    UserWarning
        If the texts that both have for an id differ for some ids.

    See Also
    --------
    skleiden.report.write_comparison : Show it on a page.
    skleiden.model_selection.community_stability : Tell how stable each community is.

    Notes
    -----
    Agreement is measured by the adjusted mutual information, with the mean of both
    entropies [1]_, and by the adjusted Rand index [2]_. A community is split if at
    least two communities of the other partition each hold at least the share
    `min_share` of it, and have most of their own rows from it. A merge is a split the
    other way round.

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
    if not _PARTS.is_satisfied_by(min_share):
        raise ValueError(f"min_share must be in (0, 0.5]; got {min_share!r}.")
    for value, name, beside in ((b, "b", a), (a, "a", b)):
        refuse_other_order(value, name, ids_of(beside, beside))
    one, other = (_side_of(value, name) for value, name in ((a, "a"), (b, "b")))
    _check_kinds(one, other)
    in_a, in_b = _common(one, other)
    labels_a, labels_b = one.labels[in_a], other.labels[in_b]
    partner = partitions.match(labels_a, labels_b)
    pairs = _pairs(labels_a, labels_b, partner)
    known = one if one.ids is not None else other
    ids = np.arange(one.labels.size) if known.ids is None else known.ids
    ids = ids[in_a]
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
        n_only_a=one.labels.size - ids.size,
        n_only_b=other.labels.size - ids.size,
        table=pairs,
        names_a=one.names,
        names_b=other.names,
        texts=_texts(one, in_a, other, in_b, ids),
        rows=one.rows if one.rows is not None and one.rows == other.rows else "rows",
    )


class _Side(NamedTuple):
    """Labels of one of two partitions, and what else is known of it."""

    labels: np.ndarray
    ids: np.ndarray | None = None
    texts: Sequence[str] | None = None
    names: Mapping[int, str] = MappingProxyType({})
    rows: str | None = None


def _side_of(value: Any, name: str) -> _Side:
    """Read what is known of a partition, in any form that has labels."""
    if isinstance(value, (str, os.PathLike)):
        # Needs `Communities` and nothing of this module; both packages import all of
        # theirs, so that it cannot be imported above.
        from skleiden.io._partitions import load_partition

        value = load_partition(value)
    if isinstance(value, Communities):
        named = {c: ", ".join(words) for c, words in value.keywords.items() if words}
        # Files of older versions do not tell, but of neurons.
        usual = "rows" if value.texts is None else "prompts"
        rows = value.summary.get("rows", usual if value.summary else None)
        names = named | dict(value.names)
        labels = _numbered(value.labels, name).place_of_rows
        return _Side(labels, value.ids, value.texts, names, rows)
    last = final_step(value)[1]
    if hasattr(last, "get_params"):
        if not hasattr(last, "labels_"):
            raise TypeError(
                f"{name} must be a fitted clusterer, Communities, or labels; got "
                f"{type(value).__name__} without labels_. Fit it first."
            )
        value = last.labels_
    found = _numbered(value, name)
    texts = {c: of for c, of in enumerate(found.values) if isinstance(of, str)}
    return _Side(found.place_of_rows, names=texts)


def _numbered(labels: Any, name: str) -> Labels:
    """Enumerate labels; errors say whose they are."""
    try:
        found = number_labels(labels)
        found.check_places()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return found


def _check_kinds(a: _Side, b: _Side) -> None:
    """Refuse prompts beside neurons, whose ids might still be the same numbers."""
    kinds = a.rows, b.rows
    if None not in kinds and kinds.count("neurons") == 1:
        raise ValueError(
            f"a and b must have rows of one kind; got {kinds[0]} and {kinds[1]}. "
            "Compare communities of prompts with one another, or groups of neurons "
            "(neuron_groups, or neurons.csv of a run) with one another."
        )


def _common(a: _Side, b: _Side) -> tuple[np.ndarray, np.ndarray]:
    """Give the numbers of the rows that both have, in each."""
    n_a, n_b = a.labels.size, b.labels.size
    if a.ids is None or b.ids is None:
        if n_a != n_b:
            raise ValueError(
                f"a and b must have the same rows; got {n_a} and {n_b} labels. Give "
                "Communities, whose rows are found by their ids."
            )
        return np.arange(n_a), np.arange(n_a)
    ids = a.ids.tolist(), b.ids.tolist()
    only_text = [all(isinstance(one, str) for one in of) for of in ids]
    if any(only_text):  # as all ids are in CSV files
        ids = [*map(str, ids[0])], [*map(str, ids[1])]
    numbers = []
    for of, name in zip(ids, "ab", strict=True):
        numbers.append({of_row: row for row, of_row in enumerate(of)})
        if len(numbers[-1]) < len(of):
            raise ValueError(
                f"ids of {name} must not repeat, so that rows are found by them; got "
                f"{len(numbers[-1])} different ones for {len(of)} rows."
            )
    if n_a != n_b and (a.texts is None or b.texts is None) and _are_numbers(ids):
        raise ValueError(
            "a and b must have ids, or the same rows in the same order; got only the "
            f"numbers of {n_a} and of {n_b} rows. Give the rows ids, by which common "
            "rows are found, or texts, which tell whether rows are the same."
        )
    in_a, in_b = numbers
    shared = [row for of_row, row in in_a.items() if of_row in in_b]
    if not shared:
        shown = [of[:_SHOWN] for of in (a.ids.tolist(), b.ids.tolist())]
        raise ValueError(
            f"a and b have no row in common; got ids such as {shown[0]} and {shown[1]}."
            " Give both the same ids, as strings or as numbers."
        )
    return np.array(shared), np.array([in_b[ids[0][row]] for row in shared])


def _are_numbers(both: tuple[list[Any], list[Any]]) -> bool:
    """Whether all ids are row numbers, which rows without ids get."""
    return all([*map(str, some)] == [*map(str, range(len(some)))] for some in both)


def _texts(
    a: _Side, in_a: np.ndarray, b: _Side, in_b: np.ndarray, ids: np.ndarray
) -> list[str] | None:
    """Give the texts of the rows that both have; tell if these are not the same."""
    one, other = (
        None if of.texts is None else [of.texts[row] for row in rows.tolist()]
        for of, rows in ((a, in_a), (b, in_b))
    )
    if one is None or other is None:
        return one or other
    differ = [
        i for i, both in enumerate(zip(one, other, strict=True)) if len({*both}) > 1
    ]
    if differ:
        i = differ[0]
        found = (
            f"the texts of {len(differ)} of {len(one)} ids differ between a and b; got "
            f"{one[i][:_LETTERS]!r} and {other[i][:_LETTERS]!r} for "
            f"{ids[i : i + 1].tolist()[0]!r}"
        )
        if 2 * len(differ) > len(one):
            raise ValueError(
                f"Rows with the same id must be the same: {found}. Give both the same "
                "ids for the same rows."
            )
        warnings.warn(f"Texts have changed: {found}.", UserWarning, stacklevel=3)
    return one


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
