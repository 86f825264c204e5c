"""Layers compared: which of them have communities, and which to trust."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skleiden._blocks.frames import as_html, frame_of
from skleiden._clusterer import MutualKNNLeiden
from skleiden._fitting import final_step
from skleiden._kernels import partitions
from skleiden._progress import progress
from skleiden._sketcher import MultiLayerTfidfSketcher
from skleiden._stages import replicate

if TYPE_CHECKING:
    import pandas as pd

    from ._plot import LayerProfileDisplay


@validate_params(
    {
        "estimator": "no_validation",
        "X": "no_validation",
        "n_rows": [Interval(Integral, 2, None, closed="left")],
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def layer_profile(
    estimator: Any,
    X: Any,
    *,
    n_rows: int = replicate.N_ROWS,
    n_splits: int = 4,
    n_permutations: int = 3,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> LayerProfile:
    """Tell whether two halves of each layer's columns find the same communities.

    The columns of a layer are divided at random into two halves. Each half is embedded,
    joined to a graph and partitioned by itself, at the resolutions 0.5, 1 and 2. The
    partitions of both halves are compared by their net information (see
    `make_stability_scorer`), which is taken at the resolution where it is highest. Its
    mean over `n_splits` such divisions is the *replicability* of the layer; no labels
    are needed [1]_ [2]_ [3]_. A half that finds fewer than two communities says
    nothing, which counts as the least there can be: minus the logarithm of the number
    of rows. Beside it stands the *null*: the same for the layer with permuted columns,
    which have no communities.

    Parameters
    ----------
    estimator : MultiLayerTfidfSketcher, pipeline that begins with one, or None
        Says how layers are taken, by its `layers`, `weighting`, `power` and `center`;
        its numbers of columns and its weights of layers do not matter. If the pipeline
        ends in a `MutualKNNLeiden`, the `n_neighbors` of that are used, else 15. It is
        cloned, not fitted. None stands for ``MultiLayerTfidfSketcher()``.

    X : LayerStack, mapping of {name: matrix}, or {array-like, sparse matrix} of shape \
            (n_samples, n_features)
        Layered data, as for ``MultiLayerTfidfSketcher.fit``.

    n_rows : int, default=1000
        Number of rows by which layers are judged, at least 2; all, if fewer rows
        differ. They are drawn by their content, not by their place in X. Columns are
        weighted as all rows have it.

    n_splits : int, default=4
        Number of divisions of the columns of each layer, at least 2.

    n_permutations : int, default=3
        Number of copies of the sample with permuted columns that are judged in the same
        way. Each takes as long as the real data; 0 leaves out the null. With 1 and two
        divisions, one in six layers without communities is above its null by chance;
        with the defaults no layer was in 75 profiles of permuted data.

    n_jobs : int or None, default=None
        Number of threads that search neighbours. None means 1 unless in a
        :func:`joblib.parallel_backend` context, -1 all processors. Results do not
        depend on it.

    random_state : int, RandomState instance or None, default=0
        Determines sample, divisions and permutations.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    Returns
    -------
    profile : LayerProfile
        Table, agreement of layers and suggested weights. If the work is interrupted
        (Ctrl-C) or runs out of memory, it stops with a warning, and the profile holds
        the layers done by then.

    Raises
    ------
    TypeError
        If the estimator does not begin with a `MultiLayerTfidfSketcher`; and as for its
        ``fit``.

    ValueError
        If a parameter is out of range; and as for ``MultiLayerTfidfSketcher.fit``.

    Warns
    -----
    UserWarning
        If layers are judged by only 2 to 16 different rows of an X of at least 17; if
        the profile stops early.

    See Also
    --------
    MultiLayerTfidfSketcher : With ``layer_weights="auto"``, weighs layers by this.
    resolution_profile : The same question for resolutions.
    skleiden.inspection.layer_agreement : In which layer each community lives.

    Notes
    -----
    Replicability compares layers of one data set with each other. It grows with the
    number of communities and with the width of a layer, and may be far above its null
    even if it is below 0. If all layers are about alike, it does not tell which of them
    is nearest to what labels would say.

    References
    ----------
    .. [1] A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for
       discovering structure in clustered data", Pacific Symposium on Biocomputing,
       2002.
    .. [2] T. Lange, V. Roth, M. L. Braun, J. M. Buhmann, "Stability-based validation of
       clustering solutions", Neural Computation 16(6), 2004.
    .. [3] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for
       clusterings comparison", Journal of Machine Learning Research 11, 2010.

    Examples
    --------
    >>> from skleiden import LayerStack
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import layer_profile, permute_columns
    >>> stack, _ = make_layered_activations(
    ...     400, n_layers=2, n_communities=4, signal=0.8, random_state=0
    ... )
    >>> noise = permute_columns(stack, random_state=0)
    >>> profile = layer_profile(
    ...     None, LayerStack({"mlp": stack.layers[0], "noise": noise.layers[1]}),
    ...     n_splits=2, n_permutations=1,
    ... )
    >>> profile.best()
    'mlp'
    >>> profile.table["above_null"].tolist()
    [True, False]
    """
    sketcher, n_neighbors = _taken_from(estimator)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    halving = replicate.Halving(n_splits, n_neighbors, seed, n_jobs)
    sketcher.set_params(layer_weights=None, random_state=seed)
    layers = sketcher._profiled_layers(X, n_rows, seed)
    names, done = sketcher.layer_names_, list[_Layer]()
    n_tasks = len(names) * (1 + n_permutations)
    with progress("Layers", n_tasks, shown=verbose > 0, unit="clustering") as update:
        try:
            for layer in layers:
                done.append(_profiled(layer, halving, n_permutations, update))
        except (KeyboardInterrupt, MemoryError) as problem:
            if not done:
                raise
            interrupted = isinstance(problem, KeyboardInterrupt)
            warnings.warn(
                f"{'Interrupted' if interrupted else 'Out of memory'}: the profile "
                f"holds {len(done)} of {len(names)} layers.",
                UserWarning,
                stacklevel=3,  # past the validation of parameters
            )
    return LayerProfile(done)


class LayerProfile:
    """Replicability, agreement and weights of layers, from `layer_profile`.

    Attributes
    ----------
    table : dict of {str: ndarray of shape (n_layers,)}
        Columns, with layers in their order:

        - "layer", "width": its name, and its number of columns;
        - "replicability": net information, in nats, between the communities that two
          halves of its columns find; the mean over the divisions;
        - "worst_split": the lowest net information of a division;
        - "null": the same mean for permuted columns; nan without permutations;
        - "above_null": whether the worst division exceeds the best one of all permuted
          copies; without permutations, whether it exceeds 0;
        - "resolution": the resolution at which halves agree most;
        - "n_communities": number of communities, of at least two rows of the sample,
          that all of its columns find at that resolution;
        - "weight": the weight that the layer gets from its replicability.

    agreement : ndarray of shape (n_layers, n_layers)
        Adjusted mutual information (Vinh, Epps and Bailey, 2010) between the
        communities that two layers find, each with all of its columns at its own
        resolution: 1 for the same communities, about 0 for no more in common than by
        chance.

    weights_ : dict of {str: float}
        Suggested `layer_weights` of a `MultiLayerTfidfSketcher`. The most replicable
        layer, and those less replicable by up to half a nat, have the weight 1; beyond
        that, the weight falls by the factor e for each further quarter of a nat, but
        not below 0.001.

    See Also
    --------
    layer_profile : Make one.
    """

    def __init__(self, layers: Sequence[_Layer]) -> None:
        splits = np.array([layer.splits for layer in layers])
        nulls = np.array([layer.nulls for layer in layers])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no mean without a null
            null = nulls.mean(axis=1)
        replicability = splits.mean(axis=1)
        weights = replicate.weights_of(replicability)
        bar = nulls.max(axis=1) if nulls.size else 0.0
        self.table: dict[str, np.ndarray] = {
            "layer": np.array([layer.name for layer in layers], dtype=object),
            "width": np.array([layer.width for layer in layers]),
            "replicability": replicability,
            "worst_split": splits.min(axis=1),
            "null": null,
            "above_null": splits.min(axis=1) > bar,
            "resolution": np.array([layer.resolution for layer in layers]),
            "n_communities": np.array(
                [partitions.sizes(layer.labels).size for layer in layers]
            ),
            "weight": weights,
        }
        self.weights_ = dict(zip(self.table["layer"], weights.tolist(), strict=True))
        self.agreement = _agreement([layer.labels for layer in layers])

    def best(self) -> str:
        """Name the most replicable layer that is above its null.

        Returns
        -------
        layer : str

        Raises
        ------
        ValueError
            If no layer is above its null.
        """
        above = np.flatnonzero(self.table["above_null"])
        if above.size == 0:
            r, null = self.table["replicability"], self.table["null"]
            raise ValueError(
                f"None of {r.size} layers is above its null: halves of the columns "
                f"agree by at most {r.max():.2f} nats, those of permuted columns by "
                f"{null.max():.2f}. There are no communities that other columns find "
                "again; look at the table, or try another weighting, more rows "
                "(n_rows), or other layers."
            )
        name: str = self.table["layer"][
            above[self.table["replicability"][above].argmax()]
        ]
        return name

    def plot(self, axes: Any = None) -> LayerProfileDisplay:
        """Draw the table and the agreement; needs matplotlib.

        Parameters
        ----------
        axes : array-like of 3 matplotlib Axes, default=None
            See :class:`~skleiden.plotting.LayerProfileDisplay`; new ones if None.

        Returns
        -------
        display : LayerProfileDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ._plot import LayerProfileDisplay

        return LayerProfileDisplay.from_profile(self, axes=axes)

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame, one row for each layer.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def _repr_html_(self) -> str:
        """Give `table`, for notebooks."""
        return as_html(self, self.table)

    def __repr__(self) -> str:
        n_above = int(self.table["above_null"].sum())
        found = f"best {self.best()!r}" if n_above else "none to trust"
        return (
            f"<LayerProfile: {self.table['layer'].size} layers, {n_above} above their "
            f"null, {found}>"
        )


class _Layer(NamedTuple):
    """Findings on one layer; `nulls` are those of all permutations and divisions."""

    name: str
    width: int
    splits: np.ndarray
    nulls: np.ndarray
    resolution: float
    labels: np.ndarray


def _taken_from(estimator: Any) -> tuple[MultiLayerTfidfSketcher, int]:
    """Give a clone of an estimator's sketcher, and its number of neighbours."""
    first, (_, last) = estimator, final_step(estimator)
    while type(first) is Pipeline:
        first = first.steps[0][1]
    if first is None:
        first = MultiLayerTfidfSketcher()
    if not isinstance(first, MultiLayerTfidfSketcher):
        raise TypeError(
            "layer_profile needs a MultiLayerTfidfSketcher, a pipeline that begins "
            f"with one, or None; got {type(first).__name__}. Give X as the steps "
            "before the sketcher make it."
        )
    if isinstance(last, MutualKNNLeiden):
        return clone(first), int(last.n_neighbors)
    return clone(first), replicate.N_NEIGHBORS


def _profiled(
    layer: replicate.LayerSample,
    halving: replicate.Halving,
    n_permutations: int,
    progress: Any,
) -> _Layer:
    found = replicate.compare_halves(layer, halving)
    rng = np.random.RandomState([halving.seed, layer.start])
    every = np.ones(layer.weights.size, dtype=bool)
    labels = replicate.partitions_of(layer, every, rng, halving)[found.best]
    progress()
    nulls = []
    for _ in range(n_permutations):
        permuted = replicate.permuted(layer, int(rng.randint(2**31 - 1)))
        nulls.append(replicate.compare_halves(permuted, halving).of_splits)
        progress()
    return _Layer(
        layer.name,
        layer.weights.size,
        found.of_splits,
        np.concatenate(nulls) if nulls else np.empty(0),
        replicate.RESOLUTIONS[found.best],
        labels,
    )


def _agreement(partitions_of_layers: Sequence[np.ndarray]) -> np.ndarray:
    """Compare each two layers; a row of noise is a community of its own."""
    n_layers = len(partitions_of_layers)
    labels = [
        np.where(one >= 0, one, one.size + np.arange(one.size))
        for one in partitions_of_layers
    ]
    scores = np.eye(n_layers)
    for i in range(n_layers):
        for j in range(i):
            both = adjusted_mutual_info_score(labels[i], labels[j])
            scores[i, j] = scores[j, i] = both
    return scores
