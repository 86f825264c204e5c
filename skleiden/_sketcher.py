"""TF-IDF weighted count sketch of layered data."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from ._blocks.checks import as_float_dtype
from ._blocks.layout import Layers, Layout
from ._blocks.runner import Local, Runner
from ._blocks.sources import check_only
from ._fitting import all_or_nothing
from ._input import as_layer_stack, open_layers
from ._kernels import countsketch
from ._stages import replicate, sketch

__all__ = ["MultiLayerTfidfSketcher"]


class MultiLayerTfidfSketcher(TransformerMixin, BaseEstimator):
    """Embed layered data: weight, sketch and normalise each layer, then join them.

    The columns of each layer are weighted (see `weighting`) and added up, with random
    signs, in `n_components` buckets: a count sketch, which keeps inner products in
    expectation [1]_ [2]_. Then each row of each layer is scaled to the length
    ``sqrt(layer weight)``, the layers are put side by side, and each row is scaled to
    unit length.

    A row is active in a layer if any of its entries there is not zero. The inner
    product of two rows of the embedding estimates a sum over the layers in which both
    are active: of layer weight times cosine similarity, divided by ``sqrt(a * b)``,
    where ``a`` and ``b`` are the total weights of the layers in which the first and the
    second row is active. For rows that are active in the same layers this is the
    weighted mean of their cosine similarities.

    Parameters
    ----------
    n_components : int or sequence of int, default=64
        Columns of the embedding per layer: one number for all layers on average, or a
        number for each layer. With one number, the columns of all layers together are
        divided among the layers in proportion to their weights, at least one for each.
        Rows that are neurons (`LayerStack.neurons`) have a single layer, which gets the
        columns of all layers that the neurons come from. The variance of an inner
        product is about ``1 / n_components``.

    layers : sequence of int, mapping of {name: width} or None, default=None
        Widths of the layers (their numbers of columns), if X is one matrix with the
        layers side by side. With None, one matrix is one layer. A `LayerStack` brings
        its own layout.

    layer_weights : "auto", sequence of float, mapping of {name: weight} or None, \
            default="auto"
        Weight of each layer in the similarity of two rows, at least 0 and not all 0;
        only their ratios matter. None gives every layer the weight 1. "auto" weighs
        layers by their *replicability*, which is how well two halves of a layer's
        columns find the same communities on 1,000 rows. The best layer, and those less
        replicable by up to half a nat, have the weight 1; beyond that, the weight falls
        by the factor e for each further quarter of a nat, but not below 0.001.
        ``partial_fit`` decides by the rows of its first call. This takes four
        clusterings of 1,000 rows for each layer; see
        :func:`~skleiden.model_selection.layer_profile`, which tells more.

    weighting : {"auto", "idf", "zscore", "correlation", "none"}, default="auto"
        Weighting of the columns, learnt in ``fit``:

        - "auto": decided for each layer by its lowest and highest value, and told by
          `weighting_`. A layer after ReLU, GELU or the like is taken by its positive
          part with "idf": one that has no value below -0.31, and none further below
          zero than a quarter of its highest value. Any other layer is taken with
          "zscore". Rows that are neurons (`LayerStack.neurons`) are compared by
          "correlation", of the positive part by the same rule. ``partial_fit`` decides
          by the rows of its first call.
        - "idf": multiplied by the inverse document frequency, as
          :class:`~sklearn.feature_extraction.text.TfidfTransformer` defines it; for
          sparse, non-negative activations (ReLU or truncated GELU).
        - "zscore": centred and divided by the standard deviation, as by
          :class:`~sklearn.preprocessing.StandardScaler`; often better where most
          entries are active. Sparse input is not densified.
        - "correlation": each row has its mean over the layer's columns subtracted, so
          that the similarity of two rows is their Pearson correlation (of square roots,
          see `power`). Meant for rows that are neurons, whose means differ. Columns
          without any activity are left out, and constant rows count as rows without
          activity. Sparse input is not densified.
        - "none": unweighted.

    smooth_idf : bool, default=True
        For "idf", count as if there were one more row, in which every column is active.

    power : float or None, default=None
        Power in [0, 1] to which absolute values are raised before weighting: x becomes
        ``sign(x) * abs(x) ** power``. 1 leaves values as they are, 0.5 tames heavy
        tails, and 0 keeps nothing but signs. None is 1, or 0.5 with "correlation",
        which a few large values would decide otherwise.

    center : bool, default=False
        Subtract the mean of each column, after weighting, from the rows with any
        activity in the layer. "zscore" always does so. Sparse input is not densified.
        Not allowed with "correlation".

    zero_tol : float, default=0.0
        Entries count as zero if their absolute value is at most this.

    batch_size : int or None, default=None
        Number of rows read at once. None chooses blocks of about a million stored
        numbers or, from Zarr arrays and HDF5 datasets, whole chunks of rows of up to 16
        million numbers. This bounds the memory that is needed beside input and
        embedding.

    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Dtype of the embedding. Float64 input, integer input and standardised values are
        added up in float64, all other input in float32.

    random_state : int, RandomState instance or None, default=None
        Determines buckets and signs, and the rows and halves by which "auto" weighs
        layers. Pass an int for the same embedding every time.

    n_jobs : int or None, default=None
        Number of threads, which share layers and blocks of rows. None means 1 unless in
        a :func:`joblib.parallel_backend` context, -1 all processors. Results do not
        depend on it.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    Attributes
    ----------
    n_features_in_ : int
        Columns of all layers together.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X is a DataFrame with string column names. For a
        LayerStack in which some layers are such frames, they are ``layer__column``,
        with x0, x1, ... for the columns of the other layers.

    layer_names_ : tuple of str
        Names of the layers.

    layer_widths_ : tuple of int
        Columns of each layer.

    layer_weights_ : ndarray of shape (n_layers,)
        Weight of each layer.

    layer_replicability_ : ndarray of shape (n_layers,)
        Replicability of each layer: net information (see
        :func:`~skleiden.model_selection.make_stability_scorer`), in nats, between the
        communities that two halves of its columns find. Only with
        ``layer_weights="auto"`` and several layers.

    n_components_ : tuple of int
        Columns of the embedding for each layer.

    n_samples_seen_ : int
        Number of rows seen in ``fit``, or in all calls of ``partial_fit``.

    df_ : ndarray of shape (n_features_in_,), dtype int64
        Number of rows in which each column is active.

    weighting_ : tuple of str
        Weighting of each layer: "idf", "zscore", "correlation" or "none".

    positive_part_ : ndarray of shape (n_layers,), dtype bool
        Whether negative values of each layer count as zero, as "auto" may decide.

    idf_ : ndarray of shape (n_features_in_,)
        Inverse document frequencies; 1 in layers of other weightings. Only if a layer
        has the weighting "idf".

    mean_ : ndarray of shape (n_features_in_,)
        Mean of each column, after its values are raised to `power`. Only if a layer is
        centred.

    scale_ : ndarray of shape (n_features_in_,)
        Standard deviations (1 for a constant column, or for one below 2.3e-308); 1 in
        layers of other weightings. Only if a layer has the weighting "zscore".

    buckets_ : ndarray of shape (n_features_in_,), dtype int32
        Column of the embedding to which each input column is added.

    signs_ : ndarray of shape (n_features_in_,), dtype int8
        Sign, 1 or -1, with which each input column is added.

    n_zero_rows_ : int
        Number of rows seen so far that have no active entry or, with "correlation", are
        constant over all columns. Their embedding is zero. So is, uncounted, that of a
        row that is constant only over the columns which "correlation" does not leave
        out, as more rows may show more of these to be active.

    Raises
    ------
    TypeError
        If X is a list of matrices or a 3-D array, which must be wrapped in a
        `LayerStack`, or if X holds dates.

    ValueError
        If X is not finite, has no rows, or does not match the layers; if weights,
        widths or components do not fit the layers; if values are so large that sums of
        them overflow; if `center` is set with "correlation".

    Warns
    -----
    UserWarning
        If ``weighting="idf"`` weights nothing in a layer, because each of its columns
        is active in every row; if ``layer_weights="auto"`` found only 2 to 16 different
        rows to draw from an X of at least 17.

    See Also
    --------
    LayerStack : Layered input of one matrix per layer.
    MutualKNNLeiden : Find communities in the embedding.
    skleiden.model_selection.layer_profile : Compare layers by their replicability.
    sklearn.feature_extraction.text.TfidfTransformer : The weighting of one matrix.
    sklearn.kernel_approximation.PolynomialCountSketch : With ``degree=1``, the
        sketch of one dense or sparse matrix.

    Notes
    -----
    A row that is all zero in a layer stays zero there, under every weighting. A layer
    in which one of two rows is active and the other is not makes them less similar; to
    compare rows only by the layers that both have, leave out those that some rows lack.
    A row that is zero in all layers has a zero embedding.

    Sparse input is embedded in one pass over its stored entries, dense input by one
    product with the matrix of signs and weights; memory maps of both are read block by
    block. The embeddings of the same numbers in dense and in sparse storage differ by
    rounding at most.

    Rows are not scaled before the sketch, because the scaling after it would cancel
    that.

    With ``out``, an embedding larger than memory is written to a file, which
    ``numpy.load(path, mmap_mode="r")`` opens again, and from which `MutualKNNLeiden`
    reads it. The ``fit`` of a pipeline takes it as ``multilayertfidfsketcher__out``::

        out = np.lib.format.open_memmap(
            "embedding.npy", mode="w+", dtype=np.float32, shape=(n_samples, n_columns)
        )
        embedding = sketcher.fit_transform(stack, out=out)

    The file must stay as it is for as long as an estimator fitted on it is used. Until
    all rows are written, its first row is NaN, which every estimator refuses, so that a
    file that an error or a crash cut off is not taken for a whole one. With
    ``set_output``, the container is made from `out`, and may be a copy of it in memory.

    A Dask array, or a `LayerStack` of them, is counted block by block where its blocks
    are, in one pass, and the counts are merged in a tree. The embedding is a lazy Dask
    array; computing it reads X again. It equals the embedding of the same array in
    memory, with "zscore" up to rounding.

    With ``layer_weights="auto"``, rows are drawn by their content, not by their place
    in X, and equal rows at most once, so that the same rows in any order give the same
    weights. Replicability is the measure of Ben-Hur et al. [3]_ and Lange et al. [4]_,
    with columns in place of rows; partitions are compared as in Vinh et al. [5]_. It
    separates layers that differ much, but does not tell which of several good layers is
    nearest to what labels would say.

    A fitted sketcher keeps the parameters that it was fitted with. Those that are set
    later hold from the next ``fit``, except `batch_size`, `n_jobs` and `verbose`, which
    hold at once. A ``fit`` or ``partial_fit`` that fails changes nothing.

    References
    ----------
    .. [1] M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data
       streams", ICALP 2002.
    .. [2] K. Weinberger, A. Dasgupta, J. Langford, A. Smola, J. Attenberg, "Feature
       hashing for large scale multitask learning", ICML 2009.
    .. [3] A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for
       discovering structure in clustered data", Pacific Symposium on Biocomputing,
       2002.
    .. [4] T. Lange, V. Roth, M. L. Braun, J. M. Buhmann, "Stability-based validation of
       clustering solutions", Neural Computation 16(6), 2004.
    .. [5] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for
       clusterings comparison", Journal of Machine Learning Research 11, 2010.

    Examples
    --------
    >>> from skleiden import MultiLayerTfidfSketcher
    >>> from skleiden.datasets import make_layered_activations
    >>> stack, _ = make_layered_activations(200, n_layers=3, random_state=0)
    >>> sketcher = MultiLayerTfidfSketcher(n_components=16, random_state=0)
    >>> sketcher.fit_transform(stack).shape
    (200, 48)
    >>> sketcher.get_feature_names_out()[:2]
    array(['layer_0_0', 'layer_0_1'], dtype=object)
    """

    # What scikit-learn would route to other estimators' `out` is none of its business.
    __metadata_request__transform = {"out": UNUSED}

    _settings: sketch.Settings
    _statistics: countsketch.ColumnStatistics
    _prompts: str
    n_zero_rows_: int

    _parameter_constraints: dict[str, Any] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "layers": ["array-like", Mapping, None],
        "layer_weights": [StrOptions({"auto"}), "array-like", Mapping, None],
        "weighting": [StrOptions({"auto", "idf", "zscore", "correlation", "none"})],
        "smooth_idf": ["boolean"],
        "power": [Interval(Real, 0, 1, closed="both"), None],
        "center": ["boolean"],
        "zero_tol": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": "no_validation",  # checked in fit, where strings are allowed too
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int | Sequence[int] = 64,
        *,
        layers: Mapping[str, int] | Sequence[int] | None = None,
        layer_weights: str | Mapping[str, float] | Sequence[float] | None = "auto",
        weighting: str = "auto",
        smooth_idf: bool = True,
        power: float | None = None,
        center: bool = False,
        zero_tol: float = 0.0,
        batch_size: int | None = None,
        dtype: Any = np.float32,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.layers = layers
        self.layer_weights = layer_weights
        self.weighting = weighting
        self.smooth_idf = smooth_idf
        self.power = power
        self.center = center
        self.zero_tol = zero_tol
        self.batch_size = batch_size
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn column weights, and draw the hashes: buckets and signs.

        Parameters
        ----------
        X : LayerStack, mapping of {name: matrix}, or {array-like, sparse matrix} of \
                shape (n_samples, n_features)
            Layered data, which may be tensors of torch; see the parameter `layers` for
            a single matrix.

        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted sketcher.
        """
        with all_or_nothing(self):
            self._learn(X, first=True)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(
        self, X: Any, y: Any = None, *, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Learn column weights, draw the hashes, and embed the same rows.

        Parameters
        ----------
        X : as in ``fit``
            Layered data.

        y : Ignored
            Not used, present for API consistency.

        out : ndarray of shape (n_samples, sum(n_components_)) or None, default=None
            Where to write the embedding, as in NumPy: a writable, C-ordered array of
            the sketcher's dtype, such as a memory map. See Notes for embeddings larger
            than memory.

        Returns
        -------
        X_new : ndarray of shape (n_samples, sum(n_components_))
            The embedding, which is `out` itself if that is given. Rows have unit length
            or are zero. A Dask array if X is one.

        Raises
        ------
        TypeError, ValueError
            If `out` is not such an array, or shares memory or its place in a file with
            X; and as for the class.
        """
        with all_or_nothing(self):
            return self._embed(self._learn(X, first=True, out=out), out)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn column weights from further rows; the first call draws the hashes.

        Any number of calls gives the same counts, and so the same idf, as one ``fit``
        on all rows; means and standard deviations agree up to rounding in float64.

        Parameters
        ----------
        X : as in ``fit``
            Further rows of the same layers.

        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted sketcher.

        Raises
        ------
        ValueError
            If `weighting`, `smooth_idf`, `power`, `center`, `zero_tol` or `dtype` was
            changed since the first call; and as for the class.
        """
        with all_or_nothing(self):
            self._learn(X, first=not hasattr(self, "n_samples_seen_"))
        return self

    def transform(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Embed rows, by what was learnt.

        Parameters
        ----------
        X : as in ``fit``
            Rows of the same layers. A single matrix is split by the fitted layers.

        out : ndarray of shape (n_samples, sum(n_components_)) or None, default=None
            Where to write the embedding, as in NumPy: a writable, C-ordered array of
            the sketcher's dtype, such as a memory map. See Notes for embeddings larger
            than memory.

        Returns
        -------
        X_new : ndarray of shape (n_samples, sum(n_components_))
            The embedding, which is `out` itself if that is given. Rows have unit length
            or are zero. A Dask array if X is one.

        Raises
        ------
        TypeError, ValueError
            If `out` is not such an array, or shares memory or its place in a file with
            X; and as for the class.
        """
        check_is_fitted(self)
        layers = self._open(X, reset=False)
        self._check_out(out, layers)
        return self._embed(layers, out)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of the embedding, each by its layer and a number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Not used, present for API consistency.

        Returns
        -------
        feature_names_out : ndarray of str objects
        """
        check_is_fitted(self)
        layers = zip(self.layer_names_, self.n_components_, strict=True)
        names = [f"{name}_{i}" for name, d in layers for i in range(d)]
        return np.asarray(names, dtype=object)

    def _check_out(self, out: np.ndarray | None, layers: Layers) -> None:
        """Refuse an `out` that cannot take the embedding of the layers."""
        if out is not None:
            shape = layers.n_samples, sum(self.n_components_)
            layers.check_out(out, shape, self._settings.dtype)

    def _learn(self, X: Any, *, first: bool, out: np.ndarray | None = None) -> Layers:
        """Validate X and learn from it; return its layers."""
        self._settle(first)
        layers = self._open(X, reset=first)
        self._check_out(out, layers)  # before all of X is read
        # One layer has nothing to be weighed against.
        auto = first and _is_auto(self.layer_weights) and len(self.layer_names_) > 1
        n_rows, seed = (replicate.N_ROWS, self._draw_seed()) if auto else (0, 0)
        rows = self._count(layers, first, sketch.Sampling(n_rows, seed))
        if auto:
            self._weigh_layers(layers, rows, seed)
        if first:
            self._draw_hashes()
        return layers

    def _count(
        self, layers: Layers, first: bool, sampling: sketch.Sampling
    ) -> np.ndarray:
        """Learn the weights of the columns; return the rows that were drawn."""
        runner = layers.runner(self.verbose)
        activity, counts = sketch.learn(
            layers,
            self._settings,
            None if first else self._activity(),
            self._reading(runner),
            runner,
            sampling,
        )
        new, n_zero_rows = counts.columns, counts.n_zero_rows
        if first:
            # Of a fit with other weighting.
            for name in ("idf_", "mean_", "scale_", "layer_replicability_"):
                self.__dict__.pop(name, None)
            if activity.correlated and self._settings.center:
                raise ValueError(
                    "center=True is not for weighting='correlation', which rows that "
                    "are neurons have by default: their means are subtracted already. "
                    "Set center=False."
                )
            self.weighting_, self.positive_part_ = activity.weighting, activity.positive
        else:
            new = countsketch.merge(self._statistics, new)
            n_zero_rows += self.n_zero_rows_
        if not np.isfinite(new.spread).all():
            column = int(np.argmin(np.isfinite(new.spread)))
            largest = sketch.largest_value(layers, column, runner)
            raise ValueError(
                f"The standard deviation of column {column} of X, with values up to "
                f"{largest:.3g}, overflows float64. Scale X down, or use another "
                "weighting than 'zscore', and center=False."
            )
        self._statistics, self.n_zero_rows_ = new, n_zero_rows
        self.n_samples_seen_, self.df_ = new.n_samples, new.df
        self._set_weights(new, activity)
        return counts.sample.rows

    def _weigh_layers(self, layers: Layers, rows: np.ndarray, seed: int) -> None:
        """Weigh the layers by their replicability on some rows."""
        halving = replicate.Halving(seed=seed, n_jobs=self.n_jobs)
        found = []
        n_layers = len(self.layer_names_)
        with Local(self.verbose).progress("Replicability", n_layers) as progress:
            for layer in self._sampled_layers(layers, rows):
                halves = replicate.compare_halves(layer, halving)
                found.append(halves.of_splits.mean())
                progress(1)
        self.layer_replicability_ = np.array(found)
        self._set_layer_weights(replicate.weights_of(self.layer_replicability_))

    def _sampled_layers(
        self, layers: Layers, rows: np.ndarray
    ) -> Iterator[replicate.LayerSample]:
        """Give some rows of each layer, with the weights that were learnt."""
        runner, activity = layers.runner(self.verbose), self._activity()
        weights, centres = self._column_weights(activity)
        return replicate.sampled_layers(
            layers, activity, weights, centres, rows, runner
        )

    def _profiled_layers(
        self, X: Any, n_rows: int, seed: int
    ) -> Iterator[replicate.LayerSample]:
        """Learn from X, and give some rows of each layer, for `layer_profile`."""
        self._validate_params()
        self._settle(first=True)
        layers = self._open(X, reset=True)
        rows = self._count(layers, True, sketch.Sampling(n_rows, seed))
        return self._sampled_layers(layers, rows)

    def _set_weights(
        self, statistics: countsketch.ColumnStatistics, activity: sketch.Activity
    ) -> None:
        """Set the attributes by which columns are weighted and centred."""
        is_idf, is_zscore = (
            np.repeat([of == kind for of in activity.weighting], self.layer_widths_)
            for kind in ("idf", "zscore")
        )
        if is_idf.any():
            idf = countsketch.inverse_document_frequency(
                self.df_, self.n_samples_seen_, smooth=self._settings.smooth_idf
            )
            self.idf_ = np.where(is_idf, idf, 1.0)
            if self._settings.weighting == "idf":
                self._warn_of_constant_idf()
        if activity.centred.any():
            self.mean_ = statistics.mean
        if is_zscore.any():
            deviation = countsketch.standard_deviation(statistics)
            self.scale_ = np.where(is_zscore, deviation, 1.0)

    def _warn_of_constant_idf(self) -> None:
        starts = np.cumsum([0, *self.layer_widths_[:-1]])
        least = np.minimum.reduceat(self.df_, starts)
        same = [
            name
            for name, df in zip(self.layer_names_, least.tolist(), strict=True)
            if df == self.n_samples_seen_
        ]
        if same and self.n_samples_seen_ > 1:
            warnings.warn(
                "weighting='idf' weights nothing in the layers "
                f"{same}, where every column is active in every row. Use "
                "weighting='auto', which takes the positive part after GELU and the "
                "like and z-scores of signed layers, or 'none'.",
                UserWarning,
                stacklevel=5,
            )

    def _embed(self, layers: Layers, out: np.ndarray | None = None) -> Any:
        runner = layers.runner(self.verbose)
        return sketch.embed(layers, self._sketch(), self._reading(runner), runner, out)

    def _reading(self, runner: Runner) -> sketch.Reading:
        return sketch.Reading(self.batch_size, runner.threads(self.n_jobs))

    def _activity(self) -> sketch.Activity:
        """Tell how the fitted sketcher takes each layer."""
        centred = np.array([of == "zscore" for of in self.weighting_])
        return sketch.Activity(
            self._settings,
            self.weighting_,
            self.positive_part_,
            centred | self._settings.center,
        )

    def _column_weights(
        self, activity: sketch.Activity
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the factor of each column, and what is subtracted after it."""
        ones = np.ones(self.n_features_in_)
        weights = getattr(self, "idf_", ones) / getattr(self, "scale_", ones)
        if activity.correlated:
            weights = (self.df_ > 0).astype(np.float64)
        centred = np.repeat(activity.centred, self.layer_widths_)
        centres = np.where(centred, weights * getattr(self, "mean_", 0.0), 0.0)
        return weights, centres

    def _sketch(self) -> sketch.Sketch:
        """Give what the fitted sketcher embeds rows with."""
        activity = self._activity()
        weights, centres = self._column_weights(activity)
        shares = self.layer_weights_ / self.layer_weights_.max()  # a sum may overflow
        return sketch.Sketch(
            activity,
            self.n_components_,
            shares / shares.sum(),
            weights,
            centres,
            self.buckets_,
            self.signs_,
        )

    def _weighted_layers(self, X: Any) -> list[sketch.WeightedLayer]:
        """Give the layers of X as the fitted sketcher weighs them."""
        check_is_fitted(self)
        stack = as_layer_stack(X, self._by_layer(self.layer_widths_))
        layers = open_layers(stack, None, check_only)
        self._check_layout(layers)
        return sketch.weighted_layers(layers, self._sketch())

    def _settle(self, first: bool) -> None:
        """Keep the parameters of a fit; refuse a change of them in partial_fit."""
        dtype = as_float_dtype(self.dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(
                f"dtype must be numpy.float32 or numpy.float64; got {self.dtype!r}."
            )
        settings = sketch.Settings(
            self.weighting,
            self.smooth_idf,
            self.power,
            self.center,
            self.zero_tol,
            dtype,
        )
        if first:
            self._settings = settings
        for name, kept, now in zip(
            sketch.Settings._fields, self._settings, settings, strict=True
        ):
            if kept != now:
                raise ValueError(
                    f"{name} was changed from {kept!r} to {now!r} between calls of "
                    "partial_fit; call fit to start again."
                )

    def _open(self, X: Any, *, reset: bool) -> Layers:
        """Validate X, and find its layers; refuse others than those of the fit."""
        stated = self.layers if reset else self._by_layer(self.layer_widths_)
        layers = open_layers(X, stated, partial(validate_data, self, reset=reset))
        if reset:
            layers.layout.check(self.layers)
            self._set_layers(layers.layout, max(layers.of_neurons, 1))
            self.__dict__.pop("_prompts", None)
            if (prompts := _digest(layers.prompts)) is not None:
                self._prompts = prompts
        else:
            self._check_layout(layers)
        return layers

    def _check_layout(self, layers: Layers) -> None:
        """Refuse layers other than those of the fit, or neurons of other prompts."""
        names, widths = layers.layout.names, layers.layout.widths
        if (names, widths) != (self.layer_names_, self.layer_widths_):
            raise ValueError(
                "X must have the layers that the sketcher was fitted with, in their "
                f"order; got {dict(zip(names, widths, strict=True))}, fitted with "
                f"{self._by_layer(self.layer_widths_)}."
            )
        if layers.prompts is None:
            return
        known, given = getattr(self, "_prompts", None), _digest(layers.prompts)
        if None not in (known, given) and known != given:
            raise ValueError(
                "The prompts, which are columns where rows are neurons, must be those "
                "of the fit, in their order; got others, such as "
                f"{layers.prompts[:3].tolist()}. Select them by "
                "stack[rows].neurons()."
            )

    def _set_layers(self, layout: Layout, share: int) -> None:
        """Set the fitted layout, and the weight and columns of each layer.

        A layer of X gets the columns of `share` layers, where one number is stated for
        all.
        """
        names, widths = layout.names, layout.widths
        given: Any = self.n_components
        components = [given] * len(names) if _is_one(given) else [*given]
        valid = [isinstance(d, Integral) and int(d) >= 1 for d in components]
        if len(valid) != len(names) or not all(valid):
            raise ValueError(
                "n_components must be an integer of at least 1, or one for each of the "
                f"{len(names)} layers; got {self.n_components!r}."
            )
        each = [int(d) * share if _is_one(given) else int(d) for d in components]
        if sum(each) > np.iinfo(np.int32).max:
            raise ValueError(
                "n_components must add up to fewer than 2**31 columns of the embedding;"
                f" got {self.n_components!r} for {len(names)} layers."
            )
        stated: Any = None if _is_auto(self.layer_weights) else self.layer_weights
        weights = _weights_of_layers(stated, names)
        self.layer_names_, self.layer_widths_ = names, widths
        self.n_components_ = tuple(each)
        self._set_layer_weights(weights)

    def _set_layer_weights(self, weights: np.ndarray) -> None:
        """Set the weights of layers, and divide the columns by them."""
        self.layer_weights_ = weights
        if _is_one(self.n_components):
            self.n_components_ = (*_divided(sum(self.n_components_), weights),)

    def _draw_seed(self) -> int:
        """Draw a seed, without a change to the hashes that are drawn later."""
        rng = deepcopy(check_random_state(self.random_state))
        return int(rng.randint(2**31 - 1))

    def _draw_hashes(self) -> None:
        rng = check_random_state(self.random_state)
        starts = np.cumsum([0, *self.n_components_])
        buckets, signs = zip(
            *(
                countsketch.draw_hashes(width, d, rng)
                for width, d in zip(self.layer_widths_, self.n_components_, strict=True)
            ),
            strict=True,
        )
        self.buckets_ = np.concatenate(
            [start + b for start, b in zip(starts, buckets, strict=False)],
            dtype=np.int32,
        )
        self.signs_ = np.concatenate(signs)

    def _by_layer(self, values: Sequence[Any]) -> dict[str, Any]:
        """Give values, one for each layer, by the names of the layers."""
        return dict(zip(self.layer_names_, values, strict=True))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        dtype = as_float_dtype(self.dtype)
        tags.transformer_tags.preserves_dtype = [] if dtype is None else [dtype.name]
        return tags


def _digest(prompts: np.ndarray | None) -> str | None:
    """Hash the ids of prompts in their order; None if they have none but numbers."""
    if prompts is None:
        return None
    listed = prompts.tolist()
    if listed == [*range(len(listed))]:
        return None
    return hashlib.blake2b(repr(listed).encode(), digest_size=16).hexdigest()


def _is_auto(layer_weights: Any) -> bool:
    return isinstance(layer_weights, str)  # "auto" is the only one that is valid


def _is_one(n_components: Any) -> bool:
    """Whether one number of columns is stated for all layers."""
    return getattr(n_components, "ndim", 1) == 0 or isinstance(n_components, Integral)


def _divided(total: int, weights: np.ndarray) -> list[int]:
    """Divide columns in proportion to weights, at least one for each layer."""
    shares = weights / weights.max()  # a sum may overflow
    exact = (total - weights.size) * (shares / shares.sum())
    columns = 1 + np.floor(exact).astype(np.int64)
    # What is left goes to those that were rounded down the most.
    left = total - int(columns.sum())
    columns[np.argsort(np.floor(exact) - exact, kind="stable")[:left]] += 1
    found: list[int] = columns.tolist()
    return found


def _weights_of_layers(
    weights: Mapping[str, float] | Sequence[float] | None, names: tuple[str, ...]
) -> np.ndarray:
    if weights is None:
        return np.ones(len(names))
    values: Any = weights
    if hasattr(weights, "items"):  # a mapping or a Series
        by_name = [(str(name), weight) for name, weight in weights.items()]
        given = sorted(name for name, _ in by_name)
        if given != sorted(names):
            raise ValueError(
                f"layer_weights must name each layer once; got {given} for the layers "
                f"{list(names)}."
            )
        values = [dict(by_name)[name] for name in names]
    try:
        checked = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"layer_weights must be real numbers; got {weights!r} ({error})."
        ) from error
    if checked.shape != (len(names),):
        raise ValueError(
            f"layer_weights must give one weight for each of the {len(names)} layers; "
            f"got {weights!r}."
        )
    if not np.isfinite(checked).all() or checked.min() < 0 or checked.max() == 0:
        raise ValueError(
            "layer_weights must be finite, at least 0 and not all 0; got "
            f"{checked.tolist()}."
        )
    return checked
