"""Layered input: one row-indexable object for one matrix per layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._blocks.checks import check_names
from ._blocks.sources import as_matrix, check_one_place, source_of, unpacked
from ._ids import check_ids


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
        # A DOK matrix is a dict, too.
        if getattr(layers, "ndim", None) == 2:
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
        self.names = check_names(names, len(blocks))
        self.layers = tuple(
            as_matrix(block, f"Layer {name!r}")
            for block, name in zip(blocks, self.names, strict=True)
        )
        check_one_place(dict(zip(self.names, self.layers, strict=True)))
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
            (source_of(block).select(rows) for block in self.layers),
            self.names,
            None if self.ids is None else self.ids[rows],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        parts = []
        for name, block in zip(self.names, self.layers, strict=True):
            try:
                parts.append(source_of(block).packed())
            except TypeError as error:
                raise TypeError(f"Layer {name!r} is {error}") from None
        return _rebuild, (parts, self.names, self.ids)

    def __repr__(self) -> str:
        layout = ", ".join(
            f"{name}: {width}"
            for name, width in zip(self.names, self.widths, strict=True)
        )
        return f"{type(self).__name__}({len(self)} rows; {layout})"


def _rebuild(
    parts: list[Any], names: tuple[str, ...], ids: np.ndarray | None
) -> LayerStack:
    # Not checked again: whoever can change a pickle can run code anyway, and workers in
    # other processes would read all indices of a stack of which they use some rows.
    return LayerStack._from_valid(map(unpacked, parts), names, ids)


def _is_everything(index: Any) -> bool:
    return index is Ellipsis or (isinstance(index, slice) and index == slice(None))
