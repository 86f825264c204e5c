"""TF-IDF weighted count sketch of layered data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial, reduce
from itertools import pairwise, product
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm import tqdm

from ._fitting import all_or_nothing, at_most_useful
from ._kernels import countsketch
from ._mapped import Output, check_size, share_memory
from .layers import (
    LayerStack,
    as_float_dtype,
    as_layer_stack,
    check_finite,
    check_layout,
    check_real,
    is_dask_array,
    is_stored,
    layer_layout,
    read_rows,
    refuse_layer_sequence,
    rows_at_once,
)

__all__ = ["MultiLayerTfidfSketcher"]

# Rows are read in blocks of about this many stored numbers: large enough to keep
# NumPy busy, small enough for the processor's cache and for streaming from disk.
_BLOCK_SIZE = 2**20


class _Part(NamedTuple):
    """Columns of the input in one storage: one layer, or a wide CSR's several.

    `start` is the number of its first row in X, of which it may be a block.
    """

    matrix: Any
    layers: range
    columns: slice
    start: int = 0


class Settings(NamedTuple):
    """The parameters that a fitted sketcher keeps to, whatever is set afterwards."""

    weighting: str
    smooth_idf: bool
    sublinear_tf: bool
    zero_tol: float
    dtype: np.dtype


class WeightedLayer(NamedTuple):
    """A layer as the sketch weighs it, before it is hashed.

    `read` gives float rows of a slice, dense or CSR as `matrix` is. Times `weight`,
    less `centre` where they have any activity, scaled to unit length and by the root
    of `share`, they are what the sketch stands for.
    """

    name: str
    matrix: Any
    read: Callable[[slice], Any]
    weight: np.ndarray
    centre: np.ndarray
    share: float


class MultiLayerTfidfSketcher(TransformerMixin, BaseEstimator):
    """Embed layered data: weight, sketch and normalise each layer, then join them.

    Each layer's columns are weighted (inverse document frequency by default) and
    added up into `n_components` buckets with random signs, a count sketch, which
    keeps inner products in expectation [1]_ [2]_. Each row of each layer is scaled to
    the length ``sqrt(layer weight)``, the layers are joined, and rows scaled to unit
    length. A row is active in a layer where any of its entries is not zero. The inner
    product of two rows of the embedding estimates the sum, over the layers in which
    both are active, of layer weight times cosine similarity, divided by
    ``sqrt(a * b)``, where ``a`` and ``b`` are the total weights of the layers in which
    the one and the other row is active. For rows that are active in the same layers
    this is the weighted mean of their cosine similarities.

    Parameters
    ----------
    n_components : int or sequence of int, default=64
        Columns of the embedding for each layer; one number for all layers, or one
        per layer. The variance of an inner product is about ``1 / n_components``.

    layers : sequence of int, mapping of {name: width} or None, default=None
        The layers' widths where X is one matrix with the layers side by side. None
        takes one matrix as one layer. A `LayerStack` brings its own layout.

    layer_weights : sequence of float, mapping of {name: weight} or None, default=None
        Weight of each layer in the similarity of two rows, at least 0 and not all 0.
        None weights all layers by 1; only their ratios matter.

    weighting : {"idf", "zscore", "none"}, default="idf"
        Weighting of the columns, learnt in ``fit``:

        - "idf": times the inverse document frequency, as
          :class:`~sklearn.feature_extraction.text.TfidfTransformer` defines it; for
          sparse, non-negative activations (ReLU or truncated GELU).
        - "zscore": centred and divided by the standard deviation, as
          :class:`~sklearn.preprocessing.StandardScaler`; often better where most
          entries are active. Sparse input is not densified.
        - "none": unweighted.

    smooth_idf : bool, default=True
        Add one row that has every column active when counting, for "idf".

    sublinear_tf : bool, default=False
        Replace each entry x by ``sign(x) * log(1 + abs(x))`` before weighting.

    zero_tol : float, default=0.0
        Entries with an absolute value up to this count as zero.

    batch_size : int or None, default=None
        Rows read at once. None chooses blocks of about a million stored numbers; of
        Zarr arrays and HDF5 datasets, whole chunks of rows, up to 16 million numbers.
        Bounds the working memory beside input and embedding.

    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Dtype of the embedding. Float64 and integer input and standardised values are
        added up in float64, all other input in float32.

    random_state : int, RandomState instance or None, default=None
        Determines buckets and signs. Pass an int for the same embedding every time.

    n_jobs : int or None, default=None
        Number of threads over layers and blocks of rows. None means 1 unless in a
        :func:`joblib.parallel_backend` context, -1 all processors. Results do not
        depend on it.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    Attributes
    ----------
    n_features_in_ : int
        Columns of all layers together.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a DataFrame with string column names.

    layer_names_ : tuple of str
        Names of the layers.

    layer_widths_ : tuple of int
        Columns of each layer.

    layer_weights_ : ndarray of shape (n_layers,)
        Weight of each layer.

    n_components_ : tuple of int
        Columns of the embedding for each layer.

    n_samples_seen_ : int
        Rows seen in ``fit`` or in all calls of ``partial_fit``.

    df_ : ndarray of shape (n_features_in_,), dtype int64
        Rows in which each column is active.

    idf_ : ndarray of shape (n_features_in_,)
        Inverse document frequencies. Only with ``weighting="idf"``.

    mean_, scale_ : ndarray of shape (n_features_in_,)
        Mean and standard deviation (1 for a constant column, and where it is below
        2.3e-308). Only with ``weighting="zscore"``.

    buckets_ : ndarray of shape (n_features_in_,), dtype int32
        Column of the embedding to which each input column is added.

    signs_ : ndarray of shape (n_features_in_,), dtype int8
        Sign with which it is added.

    n_zero_rows_ : int
        Rows without any active entry seen so far; their embedding is zero.

    Raises
    ------
    TypeError
        If X is a list of matrices or a 3-D array: wrap it in a `LayerStack`; if X
        holds dates.

    ValueError
        If X is not finite, has no rows, or does not match the layers; if weights,
        widths or components do not fit them; if values are so large that sums of them
        overflow.

    See Also
    --------
    LayerStack : Layered input of one matrix per layer.
    MutualKNNLeiden : Find communities in the embedding.
    sklearn.feature_extraction.text.TfidfTransformer : The weighting of one matrix.
    sklearn.kernel_approximation.PolynomialCountSketch : With ``degree=1``, the
        sketch of one dense or sparse matrix.

    Notes
    -----
    Rows that are all zero in a layer stay zero there, under every weighting. A layer in
    which one of two rows is active and the other is not makes them less similar; to
    compare rows in what both have, leave out the layers that some rows lack. Rows that
    are zero in all layers have a zero embedding.

    Sparse input is read in one pass over its stored entries, dense input by one product
    with the matrix of signs and weights; both read memory maps block by block. With
    dense and sparse storage of the same numbers the embeddings differ by rounding at
    most.

    A scaling of rows before the sketch would cancel in the scaling after it, so none
    is computed.

    An embedding larger than memory is written to a file by ``out``, and found again by
    ``numpy.load(path, mmap_mode="r")``. `MutualKNNLeiden` reads it from there, in a
    pipeline too, to whose ``fit`` it is given as ``multilayertfidfsketcher__out``::

        out = np.lib.format.open_memmap(
            "embedding.npy", mode="w+", dtype=np.float32, shape=(n_samples, n_columns)
        )
        embedding = sketcher.fit_transform(stack, out=out)

    The file must stay as it is for as long as an estimator fitted on it is used. Until
    all rows are written, the first one is NaN, which every estimator refuses: so a file
    whose writing was cut off, by an error or a crash, is not taken for a whole one.
    With ``set_output`` the container is made of `out`, and may be a copy of it in
    memory.

    Of Dask arrays, or a `LayerStack` of them, each block of rows is counted where it
    is, in one pass, and the counts are merged in a tree; the embedding is a lazy Dask
    array, for which X is read again. It is the same as of arrays, for "zscore" up to
    rounding.

    A fitted sketcher goes on with what it was fitted with: parameters set afterwards
    hold from the next ``fit``, but for `batch_size`, `n_jobs` and `verbose`. A ``fit``
    or ``partial_fit`` that fails changes nothing.

    References
    ----------
    .. [1] M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data
       streams", ICALP 2002.
    .. [2] K. Weinberger, A. Dasgupta, J. Langford, A. Smola, J. Attenberg, "Feature
       hashing for large scale multitask learning", ICML 2009.

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

    _settings: Settings
    _statistics: countsketch.ColumnStatistics
    n_zero_rows_: int

    _parameter_constraints: dict[str, Any] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "layers": ["array-like", Mapping, None],
        "layer_weights": ["array-like", Mapping, None],
        "weighting": [StrOptions({"idf", "zscore", "none"})],
        "smooth_idf": ["boolean"],
        "sublinear_tf": ["boolean"],
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
        layer_weights: Mapping[str, float] | Sequence[float] | None = None,
        weighting: str = "idf",
        smooth_idf: bool = True,
        sublinear_tf: bool = False,
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
        self.sublinear_tf = sublinear_tf
        self.zero_tol = zero_tol
        self.batch_size = batch_size
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn column weights and draw the hashes.

        Parameters
        ----------
        X : LayerStack, mapping of {name: matrix}, or {array-like, sparse matrix} of \
                shape (n_samples, n_features)
            Layered data; see the parameter `layers` for a single matrix.

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
        """Learn column weights, draw the hashes and embed the same rows.

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
            The embedding, `out` itself if given; rows have unit length or are zero. A
            Dask array if X is one.

        Raises
        ------
        TypeError, ValueError
            If `out` is no such array, or shares memory or its place in a file with X;
            and as the class has it.
        """
        with all_or_nothing(self):
            return self._embed(self._learn(X, first=True, out=out), out)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from some more rows; the hashes are drawn at the first call.

        All rows in any number of calls give the same counts, and so the same idf, as
        one ``fit``; means and standard deviations agree up to rounding in float64.

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
        """
        with all_or_nothing(self):
            self._learn(X, first=not hasattr(self, "n_samples_seen_"))
        return self

    def transform(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Embed rows.

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
            The embedding, `out` itself if given; rows have unit length or are zero. A
            Dask array if X is one.

        Raises
        ------
        TypeError, ValueError
            If `out` is no such array, or shares memory or its place in a file with X;
            and as the class has it.
        """
        check_is_fitted(self)
        parts = self._check_parts(X, reset=False)
        self._check_out(out, parts)
        return self._embed(parts, out)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embedding's columns: the layer's name and a number.

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

    def _check_out(self, out: np.ndarray | None, parts: list[_Part]) -> None:
        """Refuse an `out` that cannot take the embedding of the parts."""
        if out is None:
            return
        shape = parts[0].matrix.shape[0], sum(self.n_components_)
        dtype = self._settings.dtype
        wanted = f"numpy.empty({shape}, dtype=numpy.{dtype})"
        if is_dask_array(parts[0].matrix):
            raise TypeError(
                "out is not for Dask arrays, whose embedding is lazy; got "
                f"{type(out).__name__}. Store the embedding with its store method."
            )
        if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
            raise TypeError(
                f"out must be a NumPy array or memory map; got {type(out).__name__}. "
                f"Pass {wanted}, or one of numpy.lib.format.open_memmap."
            )
        if out.shape != shape:
            raise ValueError(
                "out must have one row per row of X and a column for each component of "
                f"all layers, shape {shape}; got shape {out.shape}. Pass {wanted}."
            )
        if out.dtype != dtype:
            raise ValueError(
                f"out must have the sketcher's dtype, {dtype}; got {out.dtype}. Pass "
                f"{wanted}, or set the sketcher's dtype and fit again."
            )
        if not out.flags.c_contiguous:
            raise ValueError(
                "out must be C-ordered and contiguous; got an array with strides "
                f"{out.strides}. Pass {wanted}."
            )
        if not out.flags.writeable:
            raise ValueError(
                "out must be writable; got a read-only array. Open a memory map with "
                "mode='r+' or 'w+'."
            )
        for part in parts:
            if share_memory(out, part.matrix):
                raise ValueError(
                    "out must not share memory, or its place in a file, with X; got "
                    f"{self._describe(part)}, which would be overwritten while it is "
                    f"read. Pass {wanted}, or a memory map of another file."
                )

    def _embed(self, parts: list[_Part], out: np.ndarray | None = None) -> Any:
        if is_dask_array(parts[0].matrix):
            return self._on_workers("_embed", parts)
        n_samples, n_layers = parts[0].matrix.shape[0], len(self.n_components_)
        starts = np.cumsum([0, *self.n_components_])
        if out is None:
            out = np.empty((n_samples, starts[-1]), dtype=self._settings.dtype)
        embedding = Output(out)
        present = np.empty((n_layers, n_samples), dtype=bool)
        weights, offset, rounding = self._column_weights()
        shares = self._shares()

        def embed(part: _Part, rows: slice) -> None:
            block = self._read(part, rows)
            first = starts[part.layers.start]
            weight = weights[part.columns]
            if offset is None:  # centring cancels digits, for which float64 has room
                weight = weight.astype(block.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # told below
                sketched = countsketch.sketch(
                    block,
                    weight,
                    self.buckets_[part.columns] - first,
                    starts[part.layers.stop] - first,
                )
            for layer in part.layers:
                columns = slice(starts[layer], starts[layer + 1])
                of_layer = sketched[:, columns.start - first : columns.stop - first]
                if offset is not None:
                    active = countsketch.active_rows(block, self._within(part, layer))
                    of_layer[active] -= offset[columns]
                    # What rounding alone may have left is nothing.
                    of_layer[np.abs(of_layer) <= rounding[columns]] = 0
                try:
                    present[layer, rows] = countsketch.scale_rows(
                        of_layer, np.sqrt(shares[layer])
                    )
                except OverflowError:
                    raise ValueError(
                        f"Values of X up to {np.abs(block).max():.3g} overflow "
                        f"{of_layer.dtype} in layer {self.layer_names_[layer]!r}. "
                        f"{self._overflow_remedy(of_layer.dtype)}"
                    ) from None
                embedding.write(rows, columns, of_layer)

        self._run(embed, parts, "Sketch")
        # Rows have unit length by now, but for those without activity in some layer.
        partial = np.flatnonzero(~present[shares > 0].all(axis=0))
        filled = shares @ present[:, partial]
        lengths = np.sqrt(np.where(filled > 0, filled, 1))
        # In blocks, because rows so chosen are copied to memory.
        step = max(1, _BLOCK_SIZE // int(starts[-1]))
        for start in range(0, partial.size, step):
            block = slice(start, start + step)
            embedding.divide(partial[block], lengths[block])
        return embedding.finish()

    def _learn(
        self, X: Any, *, first: bool, out: np.ndarray | None = None
    ) -> list[_Part]:
        """Validate X and learn from it; returns its parts."""
        self._settle(first)
        weighting = self._settings.weighting
        parts = self._check_parts(X, reset=first)
        self._check_out(out, parts)  # before all of X is read
        new, n_zero_rows = self._count(parts)
        if first:
            self._draw_hashes()
            for name in ("idf_", "mean_", "scale_"):  # of a fit with other weighting
                self.__dict__.pop(name, None)
        else:
            new = countsketch.merge(self._statistics, new)
            n_zero_rows += self.n_zero_rows_
        self._statistics, self.n_zero_rows_ = new, n_zero_rows
        self.n_samples_seen_, self.df_ = new.n_samples, new.df
        if weighting == "idf":
            self.idf_ = countsketch.inverse_document_frequency(
                self.df_, self.n_samples_seen_, smooth=self._settings.smooth_idf
            )
        elif weighting == "zscore":
            if not np.isfinite(new.spread).all():
                column = int(np.argmin(np.isfinite(new.spread)))
                part = next(part for part in parts if part.columns.stop > column)
                largest = _largest(part.matrix, column - part.columns.start)
                raise ValueError(
                    f"The standard deviation of column {column} of X, with values up "
                    f"to {largest:.3g}, overflows float64. Scale X down, or use "
                    "another weighting than 'zscore'."
                )
            self.mean_ = new.mean
            self.scale_ = countsketch.standard_deviation(new)
        return parts

    def _count(self, parts: list[_Part]) -> tuple[countsketch.ColumnStatistics, int]:
        """Statistics of the columns, and the number of rows that are all zero."""
        if is_dask_array(parts[0].matrix):
            return self._on_workers("_count", parts)
        moments = self._settings.weighting == "zscore"
        active = np.zeros((parts[-1].layers.stop, parts[0].matrix.shape[0]), dtype=bool)

        def count(part: _Part, rows: slice) -> countsketch.ColumnStatistics:
            block = self._read(part, rows)
            active[part.layers.start, rows] = countsketch.active_rows(block)
            return countsketch.column_statistics(block, moments=moments)

        # Blocks are merged in order: sums must not depend on n_jobs.
        blocks = self._run(count, parts, "Count")
        per_part = len(blocks) // len(parts)
        statistics = countsketch.side_by_side(
            reduce(countsketch.merge, blocks[i : i + per_part])
            for i in range(0, len(blocks), per_part)
        )
        return statistics, int(np.count_nonzero(~active.any(axis=0)))

    def _on_workers(self, method: str, parts: list[_Part]) -> Any:
        """Statistics of Dask arrays, or lazily their embedding, block by block."""
        from ._blocks import dask as _dask

        there = copy(self)
        there.n_jobs, there.verbose = None, 0
        if method == "_count":  # needs nothing that a former fit has learnt
            learnt = ("df_", "idf_", "mean_", "scale_", "buckets_", "signs_")
            for name in (*learnt, "_statistics"):
                there.__dict__.pop(name, None)
        function = partial(_of_blocks, there, method)
        matrices = [part.matrix for part in parts]
        if method == "_embed":
            n_columns, dtype = sum(self.n_components_), self._settings.dtype
            return _dask.map_rows(function, matrices, n_columns, dtype)
        return _dask.fold_rows(
            function, _merge, matrices, description="Count", verbose=self.verbose
        )

    def _settle(self, first: bool) -> None:
        """Set the parameters to keep to; refuse a change of them in partial_fit."""
        dtype = as_float_dtype(self.dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(
                f"dtype must be numpy.float32 or numpy.float64; got {self.dtype!r}."
            )
        settings = Settings(
            self.weighting, self.smooth_idf, self.sublinear_tf, self.zero_tol, dtype
        )
        if first:
            self._settings = settings
        for name, kept, now in zip(
            Settings._fields, self._settings, settings, strict=True
        ):
            if kept != now:
                raise ValueError(
                    f"{name} was changed from {kept!r} to {now!r} between calls of "
                    "partial_fit; call fit to start again."
                )

    def _check_parts(self, X: Any, *, reset: bool) -> list[_Part]:
        """Validate X and return it as parts, without a copy where X is canonical."""
        for given in X.layers if isinstance(X, LayerStack) else [X]:
            check_size(given, "X")
        if isinstance(X, Mapping) and not sp.issparse(X):
            X = LayerStack(X)
        lazy = is_dask_array(X) or is_stored(X)
        if (isinstance(X, LayerStack) or lazy) and min(X.shape, default=1) < 1:
            raise ValueError(
                f"Found a {type(X).__name__} with shape {X.shape} while at least 1 row "
                "and 1 column are required."
            )
        if isinstance(X, LayerStack):
            if reset:
                check_layout(X, self.layers)
            validate_data(self, X, reset=reset, skip_check_array=True)
            names, widths, matrices = X.names, X.widths, list(X.layers)
        elif lazy:
            matrices = [*LayerStack([X]).layers]  # which checks it
            validate_data(self, X, reset=reset, skip_check_array=True)
            given = self.layers if reset else self._by_layer(self.layer_widths_)
            names, widths = layer_layout(given, X.shape[1])
        else:
            refuse_layer_sequence(X)
            # Finiteness is checked block by block, where a memory map is read anyway.
            X = validate_data(
                self,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype="numeric",
                ensure_all_finite=False,
            )
            check_real(X, "X")
            if reset:
                names, widths = layer_layout(self.layers, X.shape[1])
            else:
                names, widths = self.layer_names_, self.layer_widths_
            matrices = [X]
        if reset:
            self._set_layers(names, widths)
        elif (names, widths) != (self.layer_names_, self.layer_widths_):
            raise ValueError(
                "X must have the layers that the sketcher was fitted with, in their "
                f"order; got {dict(zip(names, widths, strict=True))}, fitted with "
                f"{self._by_layer(self.layer_widths_)}."
            )
        starts = np.cumsum([0, *widths]).tolist()
        whole = sp.issparse(X) or lazy
        if len(matrices) < len(widths) and not whole:
            matrices = [X[:, a:b] for a, b in pairwise(starts)]
        if len(matrices) < len(widths):  # read whole: slicing copies, or reads again
            X = _canonical(X) if sp.issparse(X) else X
            parts = [_Part(X, range(len(widths)), slice(0, starts[-1]))]
        else:
            parts = [
                _Part(
                    _canonical(matrix) if sp.issparse(matrix) else matrix,
                    range(layer, layer + 1),
                    slice(starts[layer], starts[layer + 1]),
                )
                for layer, matrix in enumerate(matrices)
            ]
        return parts

    def _set_layers(self, names: tuple[str, ...], widths: tuple[int, ...]) -> None:
        """Set the fitted layout, and what the parameters say of each layer."""
        one_for_all = getattr(self.n_components, "ndim", 1) == 0 or isinstance(
            self.n_components, Integral
        )
        given: Any = self.n_components
        components: list[Any] = [given] * len(names) if one_for_all else [*given]
        valid = [isinstance(d, Integral) and int(d) >= 1 for d in components]
        if len(valid) != len(names) or not all(valid):
            raise ValueError(
                "n_components must be an integer of at least 1, or one for each of the "
                f"{len(names)} layers; got {self.n_components!r}."
            )
        if sum(map(int, components)) > np.iinfo(np.int32).max:
            raise ValueError(
                "n_components must add up to fewer than 2**31 columns of the embedding;"
                f" got {self.n_components!r} for {len(names)} layers."
            )
        weights = _weights_of_layers(self.layer_weights, names)
        self.layer_names_, self.layer_widths_ = names, widths
        self.n_components_ = tuple(int(d) for d in components)
        self.layer_weights_ = weights

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

    def _column_weights(self) -> tuple[np.ndarray, Any, Any]:
        """Signed weight of each column; what centring subtracts, and its rounding."""
        weights = self.signs_ * self._unsigned_weights()
        if self._settings.weighting != "zscore":
            return weights, None, None
        shift, n_buckets = weights * self.mean_, sum(self.n_components_)
        offset = np.bincount(self.buckets_, shift, minlength=n_buckets)
        added = np.bincount(self.buckets_, 1 + np.abs(shift), minlength=n_buckets)
        return weights, offset, 4 * np.finfo(np.float64).eps * added

    def _unsigned_weights(self) -> np.ndarray:
        if self._settings.weighting == "idf":
            return self.idf_
        if self._settings.weighting == "zscore":
            return 1 / self.scale_
        return np.ones(self.n_features_in_)

    def _shares(self) -> np.ndarray:
        """Weights of the layers that add up to 1."""
        shares = self.layer_weights_ / self.layer_weights_.max()  # a sum may overflow
        return shares / shares.sum()

    def _by_layer(self, values: Sequence[Any]) -> dict[str, Any]:
        """One value for each layer, by its name."""
        return dict(zip(self.layer_names_, values, strict=True))

    def _weighted_layers(self, X: Any) -> list[WeightedLayer]:
        """The layers of X as the fitted sketcher weighs them."""
        check_is_fitted(self)
        stack = as_layer_stack(X, self._by_layer(self.layer_widths_))
        self._check_parts(stack, reset=False)
        weights, centres = self._unsigned_weights(), np.zeros(self.n_features_in_)
        if self._settings.weighting == "zscore":
            centres = weights * self.mean_
        layers = []
        starts = np.cumsum([0, *self.layer_widths_])
        shares = self._shares()
        for i, (name, matrix) in enumerate(zip(stack.names, stack.layers, strict=True)):
            columns = slice(starts[i], starts[i + 1])
            if sp.issparse(matrix):
                matrix = _canonical(matrix)
            read = partial(self._read, _Part(matrix, range(i, i + 1), columns))
            layers.append(
                WeightedLayer(
                    name, matrix, read, weights[columns], centres[columns], shares[i]
                )
            )
        return layers

    def _overflow_remedy(self, dtype: np.dtype) -> str:
        if self._settings.weighting == "zscore":
            smallest = self.scale_.min()
            return (
                f"They are divided by standard deviations down to {smallest:.3g}: fit "
                "on rows of the same scale as these, or scale X down before fit."
            )
        if dtype == np.float64:
            return "Scale X down."
        return "Scale X down, or pass it as float64."

    def _within(self, part: _Part, layer: int) -> slice:
        """Columns of one layer inside a part."""
        starts = np.cumsum([0, *self.layer_widths_])
        return slice(
            starts[layer] - part.columns.start, starts[layer + 1] - part.columns.start
        )

    def _read(self, part: _Part, rows: slice) -> np.ndarray | sp.csr_array:
        """Rows of a part in float32 or float64, checked and pruned."""
        matrix = part.matrix
        sparse = sp.issparse(matrix)
        if sparse:
            indptr = matrix.indptr[rows.start : rows.stop + 1]
            entries = slice(indptr[0], indptr[-1])
            values = matrix.data[entries]
        else:
            values = read_rows(matrix, rows)
        exact = np.can_cast(values.dtype, np.float32)
        values = np.asarray(values, dtype=np.float32 if exact else np.float64)
        where = f" in {self._describe(part)},"
        check_finite(values, where, part.start + rows.start, part.start + rows.stop)
        if self._settings.zero_tol > 0:
            values = np.where(np.abs(values) > self._settings.zero_tol, values, 0)
        if self._settings.sublinear_tf:
            values = np.sign(values) * np.log1p(np.abs(values))
        if not sparse:
            return values
        indices, indptr = matrix.indices[entries], indptr - indptr[0]
        stored = values != 0
        if not stored.all():
            indptr = np.append(0, np.cumsum(stored))[indptr]
            values, indices = values[stored], indices[stored]
        return sp.csr_array(
            (values, indices, indptr),
            shape=(rows.stop - rows.start, matrix.shape[1]),
        )

    def _describe(self, part: _Part) -> str:
        names = [repr(self.layer_names_[layer]) for layer in part.layers]
        return f"layer {names[0]}" if len(names) == 1 else f"layers {', '.join(names)}"

    def _run(
        self, task: Callable[[_Part, slice], Any], parts: list[_Part], description: str
    ) -> list[Any]:
        """Run a task on every block of rows of every part, in threads."""
        for part in parts:
            check_size(part.matrix, self._describe(part))
        n_samples = parts[0].matrix.shape[0]
        batch_size = self.batch_size
        if batch_size is None:
            stored = max(
                part.matrix.nnz if sp.issparse(part.matrix) else part.matrix.size
                for part in parts
            )
            wanted = _BLOCK_SIZE * n_samples // max(stored, 1)
            batch_size = rows_at_once((part.matrix for part in parts), wanted)
        batches = list(gen_batches(n_samples, min(batch_size, n_samples)))
        # Tasks write into one array, so a backend of processes will not do.
        n_jobs = at_most_useful(self.n_jobs)
        run = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")
        results = run(delayed(task)(*pair) for pair in product(parts, batches))
        return list(
            tqdm(
                results,
                desc=description,
                total=len(parts) * len(batches),
                disable=not self.verbose,
            )
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        dtype = as_float_dtype(self.dtype)
        tags.transformer_tags.preserves_dtype = [] if dtype is None else [dtype.name]
        return tags


def _of_blocks(
    sketcher: MultiLayerTfidfSketcher, method: str, start: int, blocks: list[Any]
) -> Any:
    """What a method gives of a block of rows of all layers."""
    X = blocks[0]
    if len(blocks) > 1:
        X = LayerStack(blocks, names=sketcher.layer_names_)
    parts = sketcher._check_parts(X, reset=False)
    return getattr(sketcher, method)([part._replace(start=start) for part in parts])


def _merge(
    a: tuple[countsketch.ColumnStatistics, int],
    b: tuple[countsketch.ColumnStatistics, int],
) -> tuple[countsketch.ColumnStatistics, int]:
    return countsketch.merge(a[0], b[0]), a[1] + b[1]


def _largest(matrix: Any, column: int) -> float:
    """The largest absolute value of a column."""
    if not is_dask_array(matrix):
        return float(np.abs(matrix[:, column : column + 1]).max())
    from ._blocks import dask as _dask

    return _dask.fold_rows(
        lambda _, blocks: _largest(blocks[0], column),
        max,
        [matrix],
        description="Largest value",
        verbose=0,
    )


def _canonical(matrix: Any) -> sp.csr_array:
    """CSR array on the same memory; a sorted, summed-up copy if X is not canonical."""
    # A new wrapper, because SciPy caches what it finds out on the caller's object.
    matrix = sp.csr_array(
        (matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape
    )
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


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
