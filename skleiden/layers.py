"""Layered input: one row-indexable object for one matrix per layer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array

from ._ids import as_id_array, check_ids
from ._mapped import ZarrPlace, place_of_zarr
from ._sparse import as_csr, check_sparse
from ._stored import read_stored

__all__ = ["LayerStack", "align_layers"]

# Numbers read at once from arrays in files (64 MB of float32), though chunks of whole
# rows be larger: these are then read several times, as the price of bounded memory.
_MOST_AT_ONCE = 2**24


class LayerStack:
    """Matrices of several layers, stacked side by side and indexed by row.

    scikit-learn counts and slices ``X`` by rows. A list of L matrices looks to
    it like L samples; a `LayerStack` looks like one matrix of shape
    ``(n_samples, sum of the layers' widths)`` and can be handed to a
    :class:`~sklearn.pipeline.Pipeline`, to
    :func:`~sklearn.model_selection.train_test_split`, to
    :class:`~sklearn.model_selection.GridSearchCV` or to joblib, while each layer keeps
    its own storage.

    Parameters
    ----------
    layers : mapping of {name: matrix} or sequence of matrices
        One matrix a layer, each of shape (n_samples, width of the layer) with
        the same rows in the same order. Dense arrays, read-only memory maps,
        CSR matrices or arrays, Zarr arrays and HDF5 datasets of h5py are kept as
        they are, neither copied nor converted; other sparse formats are converted to
        CSR, and everything else (a DataFrame, nested lists) by
        :func:`numpy.asarray`. Any real dtype, float16 and integers included. Dask
        arrays, of dense or sparse blocks, stay lazy; either all layers are such or
        none.

    names : sequence of str, default=None
        Names of the layers; ``layer_0``, ``layer_1``, ... if None. Not allowed
        beside a mapping, whose keys are the names.

    ids : sequence of length n_samples, default=None
        Identifiers of the rows, without repetition. They follow the rows when
        the stack is indexed.

    Attributes
    ----------
    layers : tuple of matrices
        The layers, in order.

    names : tuple of str
        Their names.

    widths : tuple of int
        Their numbers of columns.

    ids : ndarray of shape (n_samples,) or None
        Identifiers of the rows.

    shape : tuple of int
        ``(n_samples, sum(widths))``.

    ndim : int
        Always 2.

    dtype : numpy.dtype
        The dtype that all the layers' dtypes promote to.

    Raises
    ------
    TypeError
        If a layer is not two-dimensional or not real numbers.

    ValueError
        If there is no layer, the numbers of rows differ, or names or ids are
        repeated or of the wrong length; if a Dask array does not know its length; if
        the parts of a sparse matrix contradict one another, such as indices of columns
        that it does not have.

    Notes
    -----
    Memory maps of NumPy are the plainest files of matrices, Zarr arrays are compressed
    in chunks, on disk or in object stores, and HDF5 files are what many have. Of the
    last two, whole rows are read, block by block, so chunks should hold whole rows;
    rows selected by an index are then in memory. A stack of HDF5 datasets cannot be
    pickled, which workers in other processes need.

    See Also
    --------
    align_layers : Make a stack from one ``{prompt id: vector}`` mapping a layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden import LayerStack
    >>> layers = {"mlp_0": np.eye(4), "mlp_1": np.ones((4, 2))}
    >>> stack = LayerStack(layers, ids=["a", "b", "c", "d"])
    >>> stack
    LayerStack(4 rows; mlp_0: 4, mlp_1: 2)
    >>> stack.shape
    (4, 6)
    >>> stack[[2, 0]].ids
    array(['c', 'a'], dtype='<U1')
    """

    def __init__(
        self,
        layers: Mapping[Any, Any] | Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        ids: Iterable[Any] | None = None,
    ) -> None:
        # A DOK matrix is a dict: ask for sparsity first.
        if sp.issparse(layers) or getattr(layers, "ndim", None) == 2:
            raise TypeError(
                "LayerStack takes one matrix per layer, as a mapping {name: matrix} "
                f"or a sequence; got a single {type(layers).__name__}. Write "
                "LayerStack([X]) for one layer, or pass X itself to the estimator "
                "with layers=<widths>."
            )
        if not isinstance(layers, Iterable) or isinstance(layers, (str, LayerStack)):
            raise TypeError(
                "LayerStack takes one matrix per layer, as a mapping {name: matrix} or "
                f"a sequence; got {type(layers).__name__}."
            )
        if isinstance(layers, Mapping):
            if names is not None:
                raise ValueError(
                    "names are taken from the mapping's keys; leave out names=, or "
                    "pass the matrices as a sequence."
                )
            names, blocks = [str(key) for key in layers], list(layers.values())
        else:
            blocks = list(layers)
            if names is None:
                names = [f"layer_{i}" for i in range(len(blocks))]
        if not blocks:
            raise ValueError("LayerStack needs at least one layer; got none.")
        self.names = _check_names(names, len(blocks))
        self.layers = tuple(
            _check_block(block, name)
            for block, name in zip(blocks, self.names, strict=True)
        )
        lazy = [is_dask_array(block) for block in self.layers]
        if any(lazy) and not all(lazy):
            raise TypeError(
                "Either all layers or none must be Dask arrays; got Dask arrays for "
                f"{[n for n, is_lazy in zip(self.names, lazy, strict=True) if is_lazy]}"
                f" among {list(self.names)}. Wrap the others with "
                "dask.array.from_array, or compute these."
            )
        rows = {
            name: block.shape[0]
            for name, block in zip(self.names, self.layers, strict=True)
        }
        if len(set(rows.values())) > 1:
            raise ValueError(
                f"All layers must have the same rows; got {rows} rows. Use "
                "skleiden.align_layers to bring layers to their common prompts."
            )
        self.ids = None if ids is None else check_ids(ids, self.layers[0].shape[0])

    @classmethod
    def _from_valid(
        cls, layers: Iterable[Any], names: tuple[str, ...], ids: np.ndarray | None
    ) -> LayerStack:
        """Make a stack of parts known to be valid (ids of a resample may repeat)."""
        stack = cls.__new__(cls)
        stack.layers, stack.names, stack.ids = tuple(layers), names, ids
        return stack

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each layer."""
        return tuple(block.shape[1] for block in self.layers)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of all layers together."""
        return self.layers[0].shape[0], sum(self.widths)

    @property
    def ndim(self) -> int:
        """2, as of any matrix."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """The dtype that all the layers' dtypes promote to."""
        return np.result_type(*(block.dtype for block in self.layers))

    def __len__(self) -> int:
        return self.shape[0]

    # Without this, Python would walk the rows through __getitem__.
    __iter__ = None

    def __getitem__(self, rows: Any) -> LayerStack:
        """Select rows by slice, integer array or boolean mask."""
        if isinstance(rows, tuple):
            # scikit-learn indexes with (rows, Ellipsis).
            if len(rows) != 2 or not _is_everything(rows[1]):
                raise IndexError(
                    "A LayerStack is indexed by rows only; got an index on columns "
                    f"too: {rows!r}. Select layers with "
                    "LayerStack({name: stack.layers[i], ...})."
                )
            rows = rows[0]
        if _is_everything(rows):
            return self
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.shape == (0,) and rows.dtype == np.float64:  # an empty list
                rows = rows.astype(np.intp)
            if rows.ndim != 1 or rows.dtype.kind not in "iub":
                raise IndexError(
                    "A LayerStack is indexed by a slice, a 1-D integer array or a "
                    f"boolean mask; got an index of {rows.ndim} dimensions and dtype "
                    f"{rows.dtype}. For the single row i use stack[i : i + 1]."
                )
            if rows.dtype.kind == "b":
                if rows.size != len(self):
                    raise IndexError(
                        "A boolean mask must have one entry per row; got "
                        f"{rows.size} for {len(self)} rows."
                    )
                rows = np.flatnonzero(rows)
            if rows.size == len(self) and (rows == np.arange(rows.size)).all():
                return self  # as from a split that holds every row
        return self._from_valid(
            (read_rows(block, rows) for block in self.layers),
            self.names,
            None if self.ids is None else self.ids[rows],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        for name, block in zip(self.names, self.layers, strict=True):
            if _is_a(block, "h5py", "Dataset"):
                raise TypeError(
                    f"Layer {name!r} is a dataset of the open HDF5 file "
                    f"{block.file.filename!r}, which cannot be pickled, copied or sent "
                    "to other processes. Load the file where it is needed, with "
                    "skleiden.io.load_activations; select rows, stack[rows], which are "
                    "then in memory; or use Zarr arrays."
                )
        return _rebuild, (list(map(_packed, self.layers)), self.names, self.ids)

    def __repr__(self) -> str:
        layout = ", ".join(
            f"{name}: {width}"
            for name, width in zip(self.names, self.widths, strict=True)
        )
        return f"{type(self).__name__}({len(self)} rows; {layout})"


def _packed(block: Any) -> Any:
    """What a pickle holds of a layer, equal before and after it was used."""
    if sp.issparse(block):
        # Without the flags that SciPy sets when a matrix is used.
        return type(block), (block.data, block.indices, block.indptr), block.shape
    place = place_of_zarr(block) if is_stored(block) else None
    return block if place is None else place


def _unpacked(part: Any) -> Any:
    if isinstance(part, ZarrPlace):
        return part.open()
    return part[0](part[1], shape=part[2]) if isinstance(part, tuple) else part


def _rebuild(
    parts: list[Any], names: tuple[str, ...], ids: np.ndarray | None
) -> LayerStack:
    # Not checked again: whoever can change a pickle can run code anyway, and workers in
    # other processes would read all indices of a stack of which they use some rows.
    return LayerStack._from_valid(map(_unpacked, parts), names, ids)


def _is_everything(index: Any) -> bool:
    return index is Ellipsis or (isinstance(index, slice) and index == slice(None))


def _check_names(names: Iterable[Any], n_layers: int) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names must be a sequence of str; got {names!r}.")
    checked = tuple(str(name) for name in names)
    if len(checked) != n_layers:
        raise ValueError(
            f"names must give one name per layer; got {len(checked)} names for "
            f"{n_layers} layers."
        )
    repeated = sorted({name for name in checked if checked.count(name) > 1})
    if repeated:
        raise ValueError(f"Layer names must differ; got {repeated} more than once.")
    return checked


def _check_block(block: Any, name: str) -> Any:
    if sp.issparse(block):
        check_real(block, f"Layer {name!r}")
        check_sparse(block, f"Layer {name!r}")
        block = as_csr(block) if block.ndim == 2 else block
    elif is_dask_array(block):
        check_rows_known(block, f"Layer {name!r}")
    elif is_stored(block):
        pass  # read by rows, as they are needed
    elif type(block) not in (np.ndarray, np.memmap):
        _refuse_masked(block, f"Layer {name!r}")
        _refuse_dask_frame(block, f"Layer {name!r}")
        try:
            block = np.asarray(block)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Layer {name!r} cannot be made a matrix: {error}"
            ) from error
    if block.ndim != 2:
        raise TypeError(
            f"Layer {name!r} must be a 2-D matrix (prompts x neurons); got "
            f"{block.ndim} dimension(s). To cluster the rows of a single matrix, "
            "pass the matrix itself instead of a LayerStack."
        )
    check_real(block, f"Layer {name!r}")
    return block


def _refuse_masked(matrix: Any, what: str) -> None:
    if np.ma.is_masked(matrix):
        raise ValueError(
            f"{what} is a masked array with {np.ma.getmaskarray(matrix).sum()} masked "
            "entries, which would be taken as they are. Fill them first, for example "
            "with .filled(0)."
        )


def is_dask_array(X: Any) -> bool:
    """Whether X is a Dask array, told without importing Dask."""
    return type(X).__module__.split(".")[0] == "dask" and hasattr(X, "chunks")


def _is_a(block: Any, package: str, name: str) -> bool:
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == package
        for kind in type(block).__mro__
    )


def is_stored(block: Any) -> bool:
    """Whether a block is a Zarr array or HDF5 dataset, told without importing either.

    These have an ndarray's shape and dtype, and give ndarrays of the rows in a slice.
    Nothing else that they do is relied on.
    """
    return _is_a(block, "zarr", "Array") or _is_a(block, "h5py", "Dataset")


def rows_at_once(blocks: Iterable[Any], wanted: int) -> int:
    """Rows to read at once: those wanted, or so many that no chunk is read twice."""
    stored = [block for block in blocks if is_stored(block) and block.chunks]
    if not stored:
        return max(1, wanted)
    most = max(1, _MOST_AT_ONCE // max(1, *(block.shape[1] for block in stored)))
    chunks = [int(block.chunks[0]) for block in stored]
    # Multiples of some layers' chunks where those of all are too many rows.
    step = math.lcm(*chunks)
    step = step if step <= most else max(chunks)
    return max(wanted // step, 1) * step if step <= most else max(1, min(wanted, most))


def read_rows(block: Any, rows: Any) -> Any:
    """Rows of a block by slice or array of integers; an ndarray of what is stored.

    Zarr and HDF5 differ in what index arrays they take, and are slow with them. So
    stretches of rows are read here, each chunk once, and the wanted rows picked.
    """
    if not is_stored(block):
        return block[rows]
    n, width = block.shape
    if isinstance(rows, slice):
        rows = range(n)[rows]
        if rows.step == 1:
            return read_stored(block, rows.start, max(rows.start, rows.stop))
    numbers = np.asarray(rows, dtype=np.int64)
    outside = numbers[(numbers < -n) | (numbers >= n)]
    if outside.size:
        raise IndexError(f"Row {outside[0]} is out of bounds for {n} rows.")
    numbers = numbers % max(n, 1)
    out = np.empty((numbers.size, width), dtype=block.dtype)
    step = rows_at_once([block], 2**20 // max(width, 1))
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    at = 0
    while at < ascending.size:
        start = int(ascending[at])
        end = np.searchsorted(ascending, (start // step + 1) * step)
        stop = int(ascending[end - 1]) + 1
        out[order[at:end]] = read_stored(block, start, stop)[ascending[at:end] - start]
        at = int(end)
    return out


def _refuse_dask_frame(X: Any, what: str) -> None:
    """Refuse a Dask DataFrame, which NumPy would read into this process's memory."""
    if type(X).__module__.split(".")[0] in ("dask", "dask_expr") and hasattr(
        X, "to_dask_array"
    ):
        raise TypeError(
            f"{what} must be a Dask array; got a Dask {type(X).__name__}. Convert it "
            "with its to_dask_array(lengths=True)."
        )


def check_rows_known(array: Any, what: str) -> None:
    """Refuse a Dask array whose number of rows is not known before it is computed."""
    if np.isnan(array.chunks[0]).any():
        raise ValueError(
            f"{what} is a Dask array of unknown length; got chunks of "
            f"{array.chunks[0][:3]} rows. Call its compute_chunk_sizes() first."
        )


def check_real(matrix: Any, what: str) -> None:
    """Refuse what holds no real numbers, such as dates, which NumPy would convert."""
    if matrix.dtype.kind not in "buif":
        raise TypeError(
            f"{what} must hold real numbers; got dtype {matrix.dtype}. Convert it, for "
            "example with .astype(numpy.float32)."
        )


def check_finite(values: np.ndarray, where: str, start: int, stop: int) -> None:
    """Refuse rows, numbered from `start` up to `stop`, that hold NaN or infinity."""
    if np.isfinite(values).all():
        return
    what = "NaN" if np.isnan(values).any() else "infinity"
    raise ValueError(
        f"Input X contains {what}{where} between rows {start} and {stop - 1}. Remove "
        "these rows or repair their values."
    )


def as_float_dtype(dtype: Any) -> np.dtype | None:
    """The floating dtype that is meant; None if there is none."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        return None
    # NumPy takes None for float64.
    return found if dtype is not None and found.kind == "f" else None


def refuse_layer_sequence(X: Any) -> None:
    """Raise a TypeError for a sequence of matrices, which is no row-indexable X.

    scikit-learn would take each matrix of the sequence for one sample, and a
    cross-validation would silently drop layers. So would it drop the mask of a masked
    array, which is refused as well, and it does not check the parts of a sparse matrix,
    which must be valid.
    """
    _refuse_masked(X, "X")
    _refuse_dask_frame(X, "X")
    if sp.issparse(X):
        check_sparse(X, "X")
        return
    if getattr(X, "ndim", None) == 3:
        found = f"an array of 3 dimensions, shape {X.shape}"
    elif isinstance(X, (list, tuple)) or getattr(X, "dtype", None) == np.dtype(object):
        items = list(X) if getattr(X, "ndim", 1) == 1 else []
        if not any(_ndim(item) >= 2 for item in items):
            return
        found = f"a {type(X).__name__} of {len(items)} matrices"
    else:
        return
    raise TypeError(
        f"X must have one row per sample; got {found}, which scikit-learn would "
        "slice by layer instead of by row. Wrap the layers: "
        "skleiden.LayerStack(layers)."
    )


def _ndim(item: Any) -> int:
    """Number of dimensions of an array-like, looked at without converting it."""
    if hasattr(item, "ndim"):
        return int(item.ndim)
    if isinstance(item, (list, tuple)):
        return 1 + (_ndim(item[0]) if len(item) else 0)
    return 0


def layer_layout(
    layers: Any, n_features: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and widths of the layers that stand side by side in one matrix.

    Parameters
    ----------
    layers : mapping of {name: width}, sequence of widths, or None
        The layout as a user states it; None is one layer.

    n_features : int
        Columns of the matrix, which the widths must add up to.

    Returns
    -------
    names : tuple of str

    widths : tuple of int
    """
    if layers is None:
        return ("layer_0",), (n_features,)
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise TypeError(
            "layers must be a sequence of widths or a mapping {name: width}; got "
            f"{layers!r}."
        )
    if isinstance(layers, Mapping):
        names, given = _check_names(layers, len(layers)), list(layers.values())
    else:
        given = list(layers)
        names = tuple(f"layer_{i}" for i in range(len(given)))
    for width in given:
        if isinstance(width, (bool, np.bool_)) or not isinstance(
            width, (int, np.integer)
        ):
            raise TypeError(
                "layers must give the width of each layer as an integer; got "
                f"{width!r}."
            )
    widths = tuple(int(width) for width in given)
    if not widths or min(widths) < 1 or sum(widths) != n_features:
        raise ValueError(
            "layers must give widths of at least 1 that add up to the columns of X; "
            f"got {widths} (sum {sum(widths)}) for {n_features} columns."
        )
    return names, widths


def check_layout(
    stack: LayerStack, layers: Mapping[str, int] | Sequence[int] | None
) -> None:
    """Refuse `layers` that contradict the layout which a stack brings itself."""
    if layers is None:
        return
    names, widths = layer_layout(layers, stack.shape[1])
    if widths != stack.widths or (isinstance(layers, Mapping) and names != stack.names):
        raise ValueError(
            f"layers={layers!r} contradicts the layers of X, {stack!r}; leave layers "
            "at None for a LayerStack."
        )


def as_layer_stack(
    X: Any, layers: Mapping[str, int] | Sequence[int] | None = None
) -> LayerStack:
    """Any accepted form of layered input as a `LayerStack`.

    A single dense matrix is split into views, a sparse one into copies of its columns.
    """
    if isinstance(X, Mapping) and not sp.issparse(X):
        X = LayerStack(X)
    if is_dask_array(X.layers[0] if isinstance(X, LayerStack) else X):
        raise TypeError(
            "X must be layers in memory or in files here; got Dask arrays. Give them "
            "as Zarr arrays, which are read block by block "
            "(skleiden.io.load_activations), or compute the rows in question."
        )
    if isinstance(X, LayerStack):
        check_layout(X, layers)
        return X
    refuse_layer_sequence(X)
    if is_stored(X):
        names, widths = layer_layout(layers, X.shape[-1])
        if len(widths) > 1:
            raise TypeError(
                "Takes one Zarr array or HDF5 dataset for each layer, as a LayerStack; "
                f"got a single {type(X).__name__} of the layers {list(names)} side by "
                "side. Store them as one each, or pass X[:], which is in memory."
            )
        return LayerStack([X], names=names)
    X = check_array(X, accept_sparse="csr", dtype="numeric", ensure_all_finite=False)
    names, widths = layer_layout(layers, X.shape[1])
    starts = np.cumsum([0, *widths])
    return LayerStack([X[:, a:b] for a, b in pairwise(starts)], names=names)


def align_layers(
    layer_maps: Mapping[Hashable, Mapping[Hashable, Any]],
    *,
    order: str = "sorted",
    reference: Hashable | None = None,
    zero_tol: float = 0.0,
    dtype: Any = np.float32,
    sparse: bool = True,
) -> tuple[LayerStack, dict[str, Any]]:
    """Bring layers, each a mapping of prompt id to vector, to their common prompts.

    Parameters
    ----------
    layer_maps : mapping of {layer: {prompt id: vector}}
        Vectors are one-dimensional arrays, CPU tensors or sequences of numbers,
        of one width within a layer. Layers are kept in the mapping's order.

    order : {"sorted", "reference"}, default="sorted"
        Order of the rows: sorted by id, or as the ids stand in the layer
        `reference`.

    reference : layer, default=None
        The layer whose order is kept with ``order="reference"``; the first if
        None.

    zero_tol : float, default=0.0
        Entries whose absolute value is at most this are taken as zero.

    dtype : dtype, default=numpy.float32
        Floating dtype of the layers of the stack.

    sparse : bool, default=True
        Whether the layers of the stack are CSR arrays or dense arrays.

    Returns
    -------
    stack : LayerStack
        The aligned layers, with the common prompts' ids.

    report : dict
        ``n_common``, the number of prompts in all layers, and ``layers``, which
        gives for each layer ``n_prompts`` seen, ``n_removed`` and ``width``.

    Raises
    ------
    TypeError
        If the input is not a mapping of mappings, or ids cannot be sorted.

    ValueError
        If no prompt is in all layers; if a vector is not one-dimensional, not of
        its layer's width, or not finite (the message names layer and id).

    Examples
    --------
    >>> from skleiden import align_layers
    >>> stack, report = align_layers({
    ...     "layer_17": {"q1": [0.0, 1.0], "q2": [2.0, 0.0]},
    ...     "layer_18": {"q2": [1.0, 0.0, 3.0], "q3": [0.0, 0.0, 1.0]},
    ... })
    >>> stack
    LayerStack(1 rows; layer_17: 2, layer_18: 3)
    >>> report["layers"]["layer_18"]
    {'n_prompts': 2, 'n_removed': 1, 'width': 3}
    """
    if order not in ("sorted", "reference"):
        raise ValueError(f"order must be 'sorted' or 'reference'; got {order!r}.")
    real = isinstance(zero_tol, (int, float, np.integer, np.floating))
    if not real or not zero_tol >= 0:
        raise ValueError(f"zero_tol must be a number of at least 0; got {zero_tol!r}.")
    if (floating := as_float_dtype(dtype)) is None:
        raise TypeError(
            f"dtype must be a floating dtype, such as numpy.float32; got {dtype!r}."
        )
    if sparse and floating == np.float16:
        raise TypeError(
            "SciPy has no sparse float16 matrices; use dtype=numpy.float32, or "
            "sparse=False."
        )
    if not isinstance(layer_maps, Mapping) or not all(
        isinstance(vectors, Mapping) for vectors in layer_maps.values()
    ):
        raise TypeError(
            "align_layers takes a mapping {layer: {prompt id: vector}}; got "
            f"{type(layer_maps).__name__}. Matrices that share their rows already "
            "need no aligning: use LayerStack."
        )
    if not layer_maps:
        raise ValueError("align_layers needs at least one layer; got none.")
    ids = _common_ids(layer_maps, order, reference)
    blocks, layers = {}, {}
    for layer, vectors in layer_maps.items():
        rows = (_check_vector(vectors[i], layer, i, dtype) for i in ids)
        blocks[layer] = _stack_rows(rows, layer, ids, zero_tol, dtype, sparse)
        layers[str(layer)] = {
            "n_prompts": len(vectors),
            "n_removed": len(vectors) - len(ids),
            "width": blocks[layer].shape[1],
        }
    stack = LayerStack(blocks, ids=as_id_array(ids))
    return stack, {"n_common": len(ids), "layers": layers}


def _common_ids(
    layer_maps: Mapping[Hashable, Mapping[Hashable, Any]],
    order: str,
    reference: Hashable | None,
) -> list[Hashable]:
    common = set.intersection(*(set(vectors) for vectors in layer_maps.values()))
    if not common:
        sizes = {layer: len(vectors) for layer, vectors in layer_maps.items()}
        raise ValueError(
            f"No prompt id is in all layers; got layers of {sizes} prompts. Check "
            "that every layer uses the same ids, of the same type."
        )
    if order == "reference":
        if reference is None:
            reference = next(iter(layer_maps))
        if not isinstance(reference, Hashable) or reference not in layer_maps:
            raise ValueError(
                f"reference must be one of the layers {list(layer_maps)}; got "
                f"{reference!r}."
            )
        return [i for i in layer_maps[reference] if i in common]
    try:
        return sorted(common)  # type: ignore[type-var]
    except TypeError as error:
        raise TypeError(
            f"The prompt ids cannot be sorted ({error}). Use order='reference'."
        ) from error


def _check_vector(vector: Any, layer: Hashable, i: Hashable, dtype: Any) -> np.ndarray:
    where = f"prompt {i!r} of layer {layer!r}"
    vector = from_torch(vector, f"The vector of {where}")
    try:
        given = np.asarray(vector)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"The vector of {where} is not an array of numbers: {error}."
        ) from error
    if given.dtype.kind not in "buif":
        raise ValueError(
            f"The vector of {where} is not an array of real numbers; got "
            f"{type(vector).__name__} of dtype {given.dtype}. For "
            "{'pre', 'post', 'out'} records, select one of them first."
        )
    if given.ndim != 1 or given.size == 0:
        raise ValueError(
            f"Each prompt needs a 1-D vector; {where} has shape {given.shape}. Pool it "
            "over tokens first."
        )
    with np.errstate(over="ignore"):  # told below
        checked = given.astype(dtype, copy=False)
    if not np.isfinite(checked).all():
        raise ValueError(
            f"The vector of {where} holds NaN or infinity (as {np.dtype(dtype)}). "
            "Remove the prompt or repair its values."
        )
    return checked


def from_torch(value: Any, what: str) -> Any:
    """Convert a tensor of torch to an ndarray of its numbers; leave all else as it is.

    Float types that NumPy lacks, such as bfloat16, become float32, which holds all
    their numbers. The memory is shared where nothing is converted.
    """
    if not _is_of_torch(value):
        return value
    refuse_tensor(value, what)
    try:
        tensor = value.detach().cpu().resolve_neg()
        known = str(tensor.dtype) in _FLOATS or not tensor.is_floating_point()
        return (tensor if known else tensor.float()).numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{what} is a tensor of {value.dtype}, which NumPy does not know. Give "
            "tensors of a usual type, such as tensor.float()."
        ) from error


_FLOATS = ("torch.float16", "torch.float32", "torch.float64")


def _is_of_torch(value: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(value).__mro__)


def refuse_tensor(value: Any, what: str) -> None:
    """Refuse a value of torch that is not a dense tensor of real numbers."""
    if not _is_of_torch(value):
        return
    if not hasattr(value, "detach"):
        found = f"a {type(value).__name__} of torch, not a tensor"
    elif value.is_nested:
        found = "a nested tensor"
    elif str(value.layout) != "torch.strided":
        found = "a sparse tensor"
    elif value.is_quantized:
        found = "a quantized tensor"
    elif value.is_meta:
        found = "a tensor without values, on the device 'meta'"
    elif value.is_complex():
        found = "a tensor of complex numbers"
    else:
        return
    raise ValueError(
        f"{what} is {found}. Give dense tensors of real numbers, such as "
        "tensor.to_dense() or tensor.dequantize()."
    )


def _stack_rows(
    rows: Iterable[np.ndarray],
    layer: Hashable,
    ids: list[Hashable],
    zero_tol: float,
    dtype: Any,
    sparse: bool,
) -> np.ndarray | sp.csr_array:
    """One layer's vectors as a matrix; only one dense vector at a time if sparse."""
    width = None
    data, indices, indptr = [], [], np.zeros(len(ids) + 1, dtype=np.int64)
    dense = None
    for row, vector in enumerate(rows):
        if width is None:
            width = vector.shape[0]
            if not sparse:
                dense = np.zeros((len(ids), width), dtype=dtype)
        if vector.shape[0] != width:
            raise ValueError(
                f"The vectors of layer {layer!r} differ in width: prompt {ids[0]!r} "
                f"has {width}, prompt {ids[row]!r} has {vector.shape[0]}."
            )
        kept = np.flatnonzero(np.abs(vector) > zero_tol)
        if dense is not None:
            dense[row, kept] = vector[kept]
        else:
            indices.append(kept.astype(np.int32))
            data.append(vector[kept])
            indptr[row + 1] = indptr[row] + kept.size
    if dense is not None:
        return dense
    return sp.csr_array(
        (np.concatenate(data), np.concatenate(indices), indptr), shape=(len(ids), width)
    )
