"""All that is known of a clustering, in one object that can be saved and shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.utils import check_random_state

from skleiden._blocks.frames import as_html, frame_of, refuse_other_order
from skleiden._fitting import fitted_clusterer, fitted_sketcher
from skleiden._ids import as_id_array
from skleiden._input import as_layer_stack
from skleiden._layers import LayerStack
from skleiden._sketcher import MultiLayerTfidfSketcher
from skleiden._text import encodable, refuse_unencodable, texts_of

from ._activity import NeuronActivity, activity_of
from ._belonging import cohesion, second_communities
from ._cross_table import CrossTable
from ._features import CommunitySums, TopFeature, community_sums, named
from ._firing import firing_in, firing_of
from ._graph import (
    CommunityMap,
    Representatives,
    community_map,
    graph_summary,
    representatives,
)
from ._keywords import keywords, keywords_of
from ._layers import check_fitted_rows, fitted_embedding, layer_agreement
from ._members import (
    check_integer,
    check_labels,
    check_positive_integer,
    count,
    member_rows,
)
from ._names import Namer, check_names, name_communities

if TYPE_CHECKING:
    import pandas as pd

    from ._tree import CommunityTree

# Strongest prompts of a group of neurons whose words are read, and words that are kept.
_N_READ, _N_KEYWORDS = 20, 5
# What rows may be called, if they are not neurons.
ROWS = ("prompts", "tokens", "rows")
# Features of a community that its row of a table names.
_N_NAMED = 3
# Attributes that have one value for each row, where they are known.
_OF_ROWS = ("confidence", "attached", "strength", "second")

# Packages whose versions labels may depend on.
_PACKAGES = (
    "skleiden",
    "numpy",
    "scipy",
    "scikit-learn",
    "faiss-cpu",
    "igraph",
    "leidenalg",
)


# Gives so many features of each community.
_Top: TypeAlias = Callable[[int], dict[int, list[TopFeature]]]


@dataclass(frozen=True, eq=False, repr=False)
class Communities:
    """All that is known of a clustering.

    It is made by `describe_communities`, saved and loaded by
    :func:`skleiden.io.save_communities` and :func:`skleiden.io.load_communities`, and
    shown by :func:`skleiden.report.write_report`. Only `labels` and `ids` are always
    there.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), dtype int64
        Communities, numbered from 0; -1 is noise.

    ids : ndarray of shape (n_samples,)
        Identifiers of the rows; their numbers if None is given.

    texts : list of str of length n_samples, or None
        The prompts. U+FFFD stands for each lone half of a surrogate pair, which no file
        can hold.

    confidence : ndarray of shape (n_samples,), or None
        How sure each row is of its community, in [0, 1], from
        :class:`~skleiden.model_selection.StableLeiden`.

    attached : ndarray of shape (n_samples,), dtype bool, or None
        Which rows came from a small community, and were attached to another.

    stability : ndarray of shape (n_clusters,), or None
        How well each community is found again, in [0, 1], see
        :func:`~skleiden.model_selection.community_stability`; nan where this is not
        known.

    top_features : dict of {int: list of TopFeature}
        Neurons that set each community apart, see `top_features`.

    neurons : list of NeuronActivity
        For each of these neurons, the rows and communities in which it fires most.

    representatives : dict of {int: Representatives}
        Most central and most borderline rows, see `representatives`.

    layer_agreement : dict of {str: ndarray of shape (n_clusters,)}
        How well each layer alone keeps each community together, see `layer_agreement`;
        nan where this is not known.

    strength : ndarray of shape (n_samples,), or None
        How strongly each row is tied to its community, in [0, 1], to six decimals, see
        `strength_` of :class:`~skleiden.MutualKNNLeiden`.

    second : ndarray of shape (n_samples,), dtype int64, or None
        For a row that lies between two communities, the other of them: it has at least
        half as much weight of edges to it as to its own. -1 for any other row.

    cohesion : ndarray of shape (n_clusters,), or None
        Share of the weight of the members' edges that leads to other members, in [0,
        1]; nan without edges. A community below .5 hangs together loosely: it is not a
        community even in the weak sense of [1]_.

    keywords : dict of {int: list of str}
        Words that tell the texts of each community from those of the others, see
        `keywords`. If the rows are neurons, the texts are those of the group's
        strongest prompts.

    names : dict of {int: str}
        Name of each community, see `describe_communities`.

    tree : dict or None
        Communities within communities, as `to_dict` of a `CommunityTree` gives them. A
        `CommunityTree` that is given is converted.

    layer_share : dict of {str: ndarray of shape (n_clusters,)}
        Share of each layer in each community, if the rows are neurons.

    map : CommunityMap or None
        Positions of rows in the plane, see `community_map`.

    neuron_groups : Communities or None
        Groups of the neurons of the same layers, described in the same way.

    cross_table : CrossTable or None
        Table of which of these groups drive which communities, see `cross_table`.

    summary : dict of {str: number or str}
        Facts about the graph and the fit, such as "modularity" and "n_isolated".

    parameters : dict
        Parameters of the estimator, as JSON can hold them.

    versions : dict of {str: str}
        Versions of the libraries that took part.

    fingerprint : str or None
        Hash of the input, which tells whether two results are of the same data.

    Raises
    ------
    ValueError
        If labels are not one-dimensional integers of at least -1, or lengths differ; if
        an id or the name of a layer has a lone half of a surrogate pair; if a name is
        given to a number that is not a community.

    TypeError
        If names are not strings, or their keys not numbers; if `tree` is not a tree.

    References
    ----------
    .. [1] F. Radicchi, C. Castellano, F. Cecconi, V. Loreto, D. Parisi, "Defining and
       identifying communities in networks", PNAS 101(9), 2004.
    """

    labels: np.ndarray
    ids: Any = None
    texts: Sequence[str] | None = None
    confidence: np.ndarray | None = None
    attached: np.ndarray | None = None
    strength: np.ndarray | None = None
    second: np.ndarray | None = None
    stability: np.ndarray | None = None
    cohesion: np.ndarray | None = None
    top_features: Mapping[int, Sequence[TopFeature]] = field(default_factory=dict)
    neurons: Sequence[NeuronActivity] = ()
    representatives: Mapping[int, Representatives] = field(default_factory=dict)
    layer_agreement: Mapping[str, np.ndarray] = field(default_factory=dict)
    keywords: Mapping[int, Sequence[str]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    tree: Any = None
    layer_share: Mapping[str, np.ndarray] = field(default_factory=dict)
    map: CommunityMap | None = None
    neuron_groups: Communities | None = None
    cross_table: CrossTable | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # frozen for everybody else

        given_ids = None if self.ids is None else as_id_array(self.ids)
        for name in ("labels", "texts", *_OF_ROWS):
            refuse_other_order(getattr(self, name), name, given_ids)
        settle("labels", check_labels(self.labels))
        ids = np.arange(self.labels.size) if given_ids is None else given_ids
        if ids.ndim != 1 or np.ma.is_masked(ids):
            kind = "a masked array" if np.ma.is_masked(ids) else "an array"
            raise ValueError(
                "ids must be one-dimensional, one for each label, and not masked; got "
                f"{kind} of shape {ids.shape}. Pass them with .ravel(), and fill "
                "those that are missing."
            )
        settle("ids", ids)
        if self.texts is not None:
            settle("texts", texts_of(self.texts, ids))
        check_encodable(self.ids, _layer_names(self))
        for name in ("summary", "parameters", "versions", "fingerprint"):
            settle(name, encodable(getattr(self, name)))
        n = self.labels.size
        dtypes = {
            "confidence": float,
            "attached": bool,
            "strength": float,
            "second": np.int64,
            "stability": float,
            "cohesion": float,
        }
        for name, dtype in dtypes.items():
            if getattr(self, name) is None:
                continue
            given = np.asarray(getattr(self, name))
            try:
                settle(name, given.astype(dtype))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{name} must be an array of {np.dtype(dtype)}: {error}."
                ) from error
            kept = getattr(self, name)
            if given.dtype.kind in "iuf" and kept.dtype.kind in "bi":
                lost = np.flatnonzero(kept != given)
                if lost.size:
                    raise ValueError(
                        f"{name} must be an array of {np.dtype(dtype)}; got "
                        f"{given[lost[0]]} in row {lost[0]}."
                    )
        for name in ("ids", "texts", *_OF_ROWS):
            given = getattr(self, name)
            if given is not None and len(given) != n:
                raise ValueError(
                    f"{name} must have one entry per label; got {len(given)} for {n} "
                    "labels."
                )
        n_clusters = int(self.labels.max()) + 1
        by_community = {
            f"{what} of {name!r}": values
            for what in ("layer_agreement", "layer_share")
            for name, values in getattr(self, what).items()
        }
        for name in ("stability", "cohesion"):
            if getattr(self, name) is not None:
                by_community[name] = getattr(self, name)
        if hasattr(self.tree, "to_dict"):
            settle("tree", self.tree.to_dict())
        if self.tree is not None and (
            not isinstance(self.tree, Mapping) or "node_of_row" not in self.tree
        ):
            raise TypeError(
                "tree must be a CommunityTree, or what its to_dict gives; got "
                f"{type(self.tree).__name__}. Make one by community_tree."
            )
        if self.tree is not None and len(self.tree["node_of_row"]) != n:
            raise ValueError(
                "tree must be of the same rows; got one of "
                f"{len(self.tree['node_of_row'])} rows for {n} labels. Give the "
                "community_tree of the same estimator."
            )
        settle("names", check_names(self.names, self.labels))
        self._check_cross_table(n_clusters)
        for name, values in by_community.items():
            if np.shape(values) != (n_clusters,):
                raise ValueError(
                    f"{name} must have one value for each of {n_clusters} communities; "
                    f"got shape {np.shape(values)}."
                )

    @property
    def table(self) -> dict[str, np.ndarray]:
        """Columns that describe each community, largest community first.

        "community", "size" and "share" of all rows, and, where known, "name",
        "strength" (mean over its rows), "cohesion", "stability", "keywords" (joined),
        "strongest" (neurons as "layer:number" or, if rows are neurons, prompts) and
        "central" (text or id of the most central row).
        """
        listed = member_rows(self.labels, min_size=1)
        numbers = np.array([*listed], dtype=np.int64)
        sizes = np.array([rows.size for rows in listed.values()], dtype=np.int64)
        columns = {
            "community": numbers,
            "size": sizes,
            "share": sizes / self.labels.size,
        }
        if self.names:
            columns["name"] = np.array(
                [self.names.get(c, "") for c in listed], dtype=object
            )
        if self.strength is not None:
            means = [self.strength[rows].mean() for rows in listed.values()]
            columns["strength"] = np.array(means, dtype=np.float64)
        for name in ("cohesion", "stability"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)[numbers]
        named = self.ids.tolist() if self.texts is None else self.texts
        words: list[tuple[str, Mapping[int, Any], Callable[[Any], str]]] = [
            ("keywords", self.keywords, ", ".join),
            ("strongest", self.top_features, _strongest),
            ("central", self.representatives, lambda of: str(named[of.central[0].row])),
        ]
        for name, known, of in words:
            if known:
                told = [of(known[c]) if known.get(c) else "" for c in listed]
                columns[name] = np.array(told, dtype=object)
        return columns

    def to_frame(self) -> pd.DataFrame:
        """Return `table` as a pandas DataFrame, one row for each community.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> from skleiden.inspection import Communities
        >>> print(Communities([0, 0, 1, -1]).to_frame().to_string(index=False))
         community  size  share
                 0     2   0.50
                 1     1   0.25
        """
        return frame_of(self.table)

    def _repr_html_(self) -> str:
        """Give the communities as a table, the largest first, for notebooks."""
        return as_html(self, self.table)

    def _check_cross_table(self, n_clusters: int) -> None:
        """Refuse a cross table that is not of these communities and groups."""
        table, groups = self.cross_table, self.neuron_groups
        if table is None:
            return
        n_groups = -1 if groups is None else int(groups.labels.max()) + 1
        if table.effects.shape != (n_groups, n_clusters):
            of = "no groups" if groups is None else f"{n_groups} groups"
            raise ValueError(
                "cross_table must have a row for each of neuron_groups and a column "
                f"for each community; got shape {table.effects.shape} for {of} and "
                f"{n_clusters} communities. Give both, of the same labels."
            )

    def __repr__(self) -> str:
        counts = count(self.labels)
        known = [
            name
            for name in ("texts", "confidence", "stability", "top_features", "map")
            if getattr(self, name) is not None and len(getattr(self, name)) > 0
        ]
        return (
            f"<Communities: {counts['n_samples']} rows in {counts['n_communities']} "
            f"communities, {counts['n_noise']} in none; known: "
            f"{', '.join(known) or 'labels alone'}>"
        )


def _strongest(features: Sequence[TopFeature]) -> str:
    """Name the strongest features of a community."""
    return ", ".join(
        feature.text or f"{feature.layer}:{feature.neuron}"
        for feature in features[:_N_NAMED]
    )


def describe_communities(
    estimator: Any,
    X: Any,
    *,
    ids: Iterable[Any] | None = None,
    texts: Mapping[Any, str] | Iterable[str] | None = None,
    names: Mapping[int, str] | None = None,
    namer: Namer | None = None,
    tree: CommunityTree | None = None,
    rows: str | None = None,
    n_features: int = 10,
    n_strongest: int = 5,
    n_representatives: int = 5,
    stability: np.ndarray | None = None,
    max_map_rows: int = 3000,
    random_state: int | np.random.RandomState | None = 0,
) -> Communities:
    """Describe fitted communities in every way, to save the result or show it.

    Parameters
    ----------
    estimator : estimator
        A fitted pipeline that ends in a `MutualKNNLeiden`, the clusterer itself, or a
        `StableLeiden` of either.

    X : LayerStack, mapping of {name: matrix}, or matrix
        Data that the estimator was fitted on; top neurons are found in it, unsketched.
        It is read once, if the clusterer still holds the embedding.

    ids : sequence of length n_samples, default=None
        Identifiers of the rows. If None, those of X, or else the row numbers.

    texts : sequence of str of length n_samples, or mapping of {id: str}, default=None
        The prompts. A mapping may hold other prompts, too. An id that is not in it is
        looked up as a string, since JSON and CSV have no other ids. If the rows are
        neurons, the prompts are the columns, and texts go with the columns and their
        ids.

    names : mapping of {int: str}, default=None
        Names of all or some communities. If texts are given, a community without a name
        is called by its first three keywords, or "no words in common" if it has none.

    namer : callable, default=None
        A function that names the other communities instead, for example by asking a
        language model: ``namer(texts, keywords) -> str``. It is called once for each of
        them, largest first, with a list of its most central texts (if the rows are
        neurons, of its strongest prompts) and a list of its keywords. Needs texts.

    tree : CommunityTree, default=None
        Tree from :func:`~skleiden.inspection.community_tree`, to be saved and shown
        with the communities.

    rows : {"prompts", "tokens", "rows"}, default=None
        Word that the page has for rows, if they are not neurons. None is "prompts" if
        texts are given, and "rows" if not.

    n_features : int, default=10
        Number of top neurons of each community; if the rows are neurons, of strongest
        prompts.

    n_strongest : int, default=5
        Number of rows listed in which each of the top neurons fires most. With 0, and
        if the rows are neurons, nothing is told of what neurons fire on.

    n_representatives : int, default=5
        Number of central and of borderline rows listed for each community.

    stability : array-like of shape (n_clusters,), default=None
        Result of :func:`~skleiden.model_selection.community_stability`, which takes
        many fits and is not computed here.

    max_map_rows : int, default=3000
        Largest number of rows shown on the map, see `community_map`; 0 for no map.

    random_state : int, RandomState instance or None, default=0
        Determines the map, and the rows by which layers are compared.

    Returns
    -------
    communities : Communities
        With layer agreement if the estimator has a `MultiLayerTfidfSketcher` and rows
        are not neurons.

    Raises
    ------
    TypeError
        If the estimator has no graph; if a name is not a string.

    ValueError
        If X, ids, texts or stability do not fit the estimator; if a mapping of texts
        lacks an id; if a name is given to a number that is not a community; if there is
        a namer, but no texts; if `rows` is unknown or a number is out of range; if an
        id or the name of a layer has a lone half of a surrogate pair, which no file can
        hold.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import describe_communities
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... ).fit(stack)
    >>> communities = describe_communities(pipeline, stack)
    >>> len(communities.top_features), communities.summary["n_communities"]
    (4, 4)
    >>> texts = ["bread", "trains", "chess", "copper"]
    >>> named = describe_communities(
    ...     pipeline,
    ...     stack,
    ...     texts=[texts[label] for label in pipeline[-1].labels_],
    ...     names={3: "metals"},
    ...     namer=lambda texts, keywords: f"about {keywords[0]}",
    ... )
    >>> named.names
    {0: 'about bread', 1: 'about trains', 2: 'about chess', 3: 'metals'}
    """
    return describe(
        estimator,
        X,
        ids=ids,
        texts=texts,
        names=names,
        namer=namer,
        tree=tree,
        rows=rows,
        n_features=n_features,
        n_strongest=n_strongest,
        n_representatives=n_representatives,
        stability=stability,
        max_map_rows=max_map_rows,
        random_state=random_state,
    )[0]


def describe(
    estimator: Any,
    X: Any,
    *,
    ids: Iterable[Any] | None = None,
    texts: Mapping[Any, str] | Iterable[str] | None = None,
    names: Mapping[int, str] | None = None,
    namer: Namer | None = None,
    tree: CommunityTree | None = None,
    rows: str | None = None,
    n_features: int = 10,
    n_strongest: int = 5,
    n_representatives: int = 5,
    stability: np.ndarray | None = None,
    max_map_rows: int = 3000,
    random_state: int | np.random.RandomState | None = 0,
) -> tuple[Communities, CommunitySums]:
    """Describe communities, and also give the sums that figures are drawn from."""
    clusterer = fitted_clusterer(estimator)
    labels = check_labels(clusterer.labels_)
    sketcher = fitted_sketcher(estimator)
    layout = None if sketcher is None else sketcher._by_layer(sketcher.layer_widths_)
    stack = as_layer_stack(X, layout)
    if ids is None:
        ids = np.arange(len(stack)) if stack.ids is None else stack.ids
    ids = as_id_array(ids)
    check_encodable(ids, stack.names)
    refuse_other_order(texts, "texts", ids if stack.prompts is None else stack.prompts)
    check_fitted_rows(estimator, stack, labels.size)
    check_positive_integer(n_features, "n_features")
    if n_strongest != 0:
        check_positive_integer(n_strongest, "n_strongest")
    check_positive_integer(n_representatives, "n_representatives")
    check_integer(max_map_rows, "max_map_rows", 0)
    given = check_names({} if names is None else names, labels)
    if namer is not None and texts is None:
        raise ValueError(
            "namer names communities by their texts; got texts=None. Give the texts, "
            "or names instead."
        )
    if rows not in (None, *ROWS):
        raise ValueError(
            f"rows must be one of {', '.join(map(repr, ROWS))}, or None; got {rows!r}."
        )
    rng = check_random_state(random_state)
    agreement: dict[str, np.ndarray] = {}
    if sketcher is not None and labels.max() >= 0 and stack.row_layers is None:
        embedding, components = fitted_embedding(estimator, stack)
        agreement = layer_agreement(embedding, labels, components, random_state=rng)
    digest = hashlib.blake2b(digest_size=16)
    firing = firing_in(stack) if sketcher is None else firing_of(sketcher, stack)
    kept = 0 if stack.prompts is not None else n_strongest
    sums = community_sums(stack, labels, firing, digest, kept)
    if stack.ids is not None:
        digest.update(repr(stack.ids.tolist()).encode())
    affinity = clusterer.affinity_matrix_
    prompts, told = ids, _of_prompts
    if stack.prompts is not None:
        prompts, told = stack.prompts, _of_neurons
    found = Communities(
        labels=labels,
        ids=ids,
        **told(stack, labels, texts_of(texts, prompts), sums.top_features, n_features),
        confidence=getattr(estimator, "confidence_", None),
        attached=clusterer.attached_,
        strength=_strength_of(clusterer),
        second=second_communities(clusterer.membership_, labels),
        stability=stability,
        cohesion=cohesion(affinity, labels),
        representatives=representatives(clusterer, n_representatives),
        layer_agreement=agreement,
        tree=tree,
        map=community_map(affinity, max_rows=max_map_rows, random_state=rng)
        if max_map_rows
        else None,
        summary=_facts(estimator, clusterer, stack, sketcher, rows),
        parameters=estimator.get_params(),
        versions=_versions(),
        fingerprint=digest.hexdigest(),
    )
    if texts is not None:
        central = _central_texts(found)
        given = name_communities(central, found.keywords, given, namer)
    active = activity_of(sums, found.top_features) if kept else []
    return replace(found, names=given, neurons=active), sums


def _strength_of(clusterer: Any) -> np.ndarray | None:
    """Give strengths, in digits that mean something; files of 0.1.0 have none."""
    if not hasattr(clusterer, "strength_"):
        return None
    return np.asarray(clusterer.strength_, dtype=np.float64).round(6)


def _central_texts(found: Communities) -> dict[int, list[str]]:
    """Give texts that stand for each community, largest community first."""
    texts = found.texts
    if texts is None:  # rows are neurons, and their prompts have the texts
        return {
            c: [of.text or "" for of in found.top_features.get(c, ())]
            for c in found.representatives
        }
    return {
        c: [texts[one.row] for one in of.central]
        for c, of in found.representatives.items()
    }


def _of_prompts(
    stack: LayerStack,
    labels: np.ndarray,
    texts: list[str] | None,
    top: _Top,
    n_features: int,
) -> dict[str, Any]:
    """Tell what neurons and words set communities of prompts apart."""
    words = {}
    if texts is not None and len(texts) == labels.size:  # else `Communities` tells
        words = keywords(texts, labels, n_keywords=_N_KEYWORDS)
    return {
        "texts": texts,
        "keywords": words,
        "top_features": named(top(n_features), stack),
    }


def _of_neurons(
    stack: LayerStack,
    labels: np.ndarray,
    texts: list[str] | None,
    top: _Top,
    n_features: int,
) -> dict[str, Any]:
    """Tell what prompts, words and layers set groups of neurons apart."""
    n_prompts, words = stack.shape[1], {}
    if texts is not None:
        if len(texts) != n_prompts:
            raise ValueError(
                "texts must have one entry for each prompt, which is a column where "
                f"rows are neurons; got {len(texts)} for {n_prompts} prompts."
            )
        strongest = {
            c: np.array([feature.neuron for feature in of_c], dtype=np.int64)
            for c, of_c in top(_N_READ).items()
        }
        words = keywords_of(texts, strongest, _N_KEYWORDS)
    return {
        "keywords": words,
        "top_features": named(top(n_features), stack, texts),
        "layer_share": _shares_of_layers(labels, stack),
    }


def _shares_of_layers(labels: np.ndarray, stack: LayerStack) -> dict[str, np.ndarray]:
    """Give the share of each layer in each group of neurons."""
    row_layers = np.asarray(stack.row_layers)
    names = list(dict.fromkeys(row_layers.tolist()))
    n_clusters = int(labels.max()) + 1
    sizes = np.maximum(np.bincount(labels[labels >= 0], minlength=n_clusters), 1)
    return {
        name: np.bincount(
            labels[(labels >= 0) & (row_layers == name)], minlength=n_clusters
        )
        / sizes
        for name in names
    }


def check_encodable(ids: np.ndarray, layers: Iterable[Any]) -> None:
    """Refuse ids of rows and names of layers that no file can hold."""
    refuse_unencodable(ids.tolist(), "ids")
    refuse_unencodable(layers, "Names of layers")


def _layer_names(found: Communities) -> set[str]:
    layers = found.summary.get("layers", ())
    features = (of for each in found.top_features.values() for of in each)
    return {
        *found.layer_agreement,
        *(feature.layer for feature in features),
        *(layers if isinstance(layers, Mapping) else ()),
    }


def _facts(
    estimator: Any,
    clusterer: Any,
    stack: LayerStack,
    sketcher: MultiLayerTfidfSketcher | None,
    rows: str | None,
) -> dict[str, Any]:
    graph = graph_summary(clusterer.affinity_matrix_)
    facts = count(clusterer.labels_)
    facts["n_attached"] = int(np.count_nonzero(clusterer.attached_))
    facts["modularity"] = clusterer.modularity_
    facts["resolution"] = clusterer.resolution_
    if hasattr(estimator, "stability_"):
        facts["stability"] = estimator.stability_
    facts["algorithm"] = clusterer.algorithm_
    facts["knn_recall"] = clusterer.knn_recall_
    facts |= {name: value for name, value in graph.items() if name != "n_vertices"}
    facts["layers"] = dict(zip(stack.names, stack.widths, strict=True))
    if rows is not None:
        facts["rows"] = rows
    if stack.row_layers is not None:
        facts["rows"] = "neurons"
        if sketcher is not None:
            facts["n_silent"] = sketcher.n_zero_rows_
    if sketcher is not None:
        facts["n_components"] = list(sketcher.n_components_)
        facts["layer_weights"] = sketcher._by_layer(sketcher.layer_weights_.tolist())
        if hasattr(sketcher, "layer_replicability_"):
            found = sketcher.layer_replicability_.tolist()
            facts["layer_replicability"] = sketcher._by_layer(found)
    return facts


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # installed under another name, or not at all
            continue
    return found
