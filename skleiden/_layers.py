"""Layered input: one object, indexed by rows, that holds a matrix for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._blocks.checks import TOKENS_OR_LAYERS, check_names
from ._blocks.frames import column_names, common_index
from ._blocks.sources import (
    as_matrix,
    check_one_place,
    layers_along,
    source_of,
    unpacked,
)
from ._blocks.transposed import transposed
from ._ids import check_ids

# Names of each layer's columns, None where they have none.
Columns: TypeAlias = tuple[np.ndarray | None, ...]


class LayerStack:
    """Matrices of several layers, stacked side by side and indexed by row.

    scikit-learn counts and slices ``X`` by rows, so a list of L matrices looks to it
    like L samples. A `LayerStack` looks like one matrix of shape
    ``(n_samples, sum of the layers' widths)``, while each layer keeps its own storage.
    It can be handed to a :class:`~sklearn.pipeline.Pipeline`, to
    :func:`~sklearn.model_selection.train_test_split`, to
    :class:`~sklearn.model_selection.GridSearchCV` or to joblib.

    Parameters
    ----------
    layers : mapping of {name: matrix} or sequence of matrices
        One matrix a layer, each of shape (n_samples, width of the layer), with the same
        rows in the same order and any real dtype, float16 and integers included. Dense
        arrays, read-only memory maps, CSR matrices or arrays, Zarr arrays and HDF5
        datasets of h5py are kept as they are, neither copied nor converted. Tensors of
        torch share their memory with an array; those on a device, or of a dtype that
        NumPy lacks, such as bfloat16, stay tensors, and blocks of their rows are
        converted when they are needed. Other sparse formats are converted to CSR, and
        everything else (a DataFrame, nested lists) to an array by
        :func:`numpy.asarray`. Dask arrays, of dense or sparse blocks, stay lazy; if one
        layer is a Dask array, all must be.

    names : sequence of str, default=None
        Names of the layers; ``layer_0``, ``layer_1``, ... if None. Not allowed with a
        mapping, whose keys are the names.

    ids : sequence of length n_samples, default=None
        Identifiers of the rows, without repetition. They follow the rows when the stack
        is indexed. If None, the index of pandas data frames is taken, unless it is a
        :class:`pandas.RangeIndex`.

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

    columns : tuple of (ndarray of str objects or None)
        Names of each layer's columns, if it came as a data frame with string column
        names. Estimators that were fitted on such a stack refuse other names, and the
        same names in another order.

    row_layers : ndarray of shape (n_samples,) or None
        Name of the layer of each row, if the rows are neurons, see `neurons`.

    prompts : ndarray of shape (n_columns,) or None
        Identifiers of the columns, if the rows are neurons.

    shape : tuple of int
        ``(n_samples, sum(widths))``.

    ndim : int
        Always 2.

    dtype : numpy.dtype
        The dtype that all the layers' dtypes promote to.

    Raises
    ------
    TypeError
        If a layer is not two-dimensional or does not hold real numbers; if `layers` is
        an array of three dimensions, for which there is `from_array`.

    ValueError
        If there is no layer, the numbers of rows differ, or names or ids are repeated
        or of the wrong length; if data frames have different indexes; if a Dask array
        does not know its length; if the parts of a sparse matrix contradict one
        another, for example by indices of columns that it does not have.

    Notes
    -----
    Memory maps of NumPy are the plainest files of matrices; Zarr arrays are compressed
    in chunks, on disk or in object stores; and HDF5 files are widespread. Zarr arrays
    and HDF5 datasets are read by whole rows, block by block, so their chunks should
    hold whole rows; rows selected from them by an index are held in memory. A stack of
    HDF5 datasets cannot be pickled, as workers in other processes would need. A tensor
    on a device comes back from a pickle in memory.

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
    >>> stack["mlp_1"].shape
    (4, 2)
    """

    ids: np.ndarray | None
    row_layers: np.ndarray | None = None
    prompts: np.ndarray | None = None

    def __init__(
        self,
        layers: Mapping[Any, Any] | Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        ids: Iterable[Any] | None = None,
    ) -> None:
        ndim = getattr(layers, "ndim", None)
        # A DOK matrix is a dict, too.
        if ndim == 2:
            raise TypeError(
                "LayerStack takes one matrix per layer, as a mapping {name: matrix} "
                f"or a sequence; got a single {type(layers).__name__}. Write "
                "LayerStack([X]) for one layer, or pass X itself to the estimator "
                "with layers=<widths>."
            )
        if isinstance(ndim, int) and ndim > 2:
            raise TypeError(
                "LayerStack takes one matrix per layer, as a mapping {name: matrix} or "
                f"a sequence; got a single {type(layers).__name__} of {ndim} "
                f"dimensions. {TOKENS_OR_LAYERS}"
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
        self.columns: Columns = tuple(map(column_names, blocks))
        index = common_index(dict(zip(self.names, blocks, strict=True)))
        if ids is not None:
            self.ids = check_ids(ids, len(self))
        else:
            self.ids = None if index is None else _ids_of_index(index)

    @classmethod
    def from_array(
        cls,
        X: Any,
        *,
        axis: int,
        names: Sequence[str] | None = None,
        ids: Iterable[Any] | None = None,
    ) -> LayerStack:
        """Make a stack of an array of three dimensions, one of which is the layers.

        Parameters
        ----------
        X : array, tensor or Dask array of three dimensions
            Rows, layers and neurons, with rows before neurons. Each layer is a view of
            it.

        axis : {0, 1, 2}
            The axis of the layers: 1 for shape (n_samples, n_layers, n_neurons), 0 for
            (n_layers, n_samples, n_neurons). It is not guessed. Tokens are not layers:
            pool over them first.

        names : sequence of str, default=None
            Names of the layers; ``layer_0``, ``layer_1``, ... if None.

        ids : sequence of length n_samples, default=None
            Identifiers of the rows, without repetition.

        Returns
        -------
        stack : LayerStack

        Raises
        ------
        TypeError
            If X does not have three dimensions, or allows no views, as an array in a
            Zarr or HDF5 file.

        ValueError
            If `axis` is not one of its axes; and as for the class.

        Examples
        --------
        >>> import numpy as np
        >>> from skleiden import LayerStack
        >>> LayerStack.from_array(np.ones((320, 6, 128)), axis=1).widths
        (128, 128, 128, 128, 128, 128)
        """
        return cls(layers_along(X, axis), names=names, ids=ids)

    @classmethod
    def _from_valid(
        cls,
        layers: Iterable[Any],
        names: tuple[str, ...],
        ids: np.ndarray | None,
        columns: Columns,
        row_layers: np.ndarray | None = None,
        prompts: np.ndarray | None = None,
    ) -> LayerStack:
        """Make a stack of parts known to be valid (ids of a resample can repeat)."""
        stack = cls.__new__(cls)
        stack.layers, stack.names, stack.ids = tuple(layers), names, ids
        stack.columns, stack.row_layers, stack.prompts = columns, row_layers, prompts
        return stack

    def _with_layers(self, layers: Iterable[Any]) -> LayerStack:
        """Make a stack of the same rows and columns with other values."""
        return self._from_valid(
            layers, self.names, self.ids, self.columns, self.row_layers, self.prompts
        )

    def neurons(self) -> LayerStack:
        """Make a stack whose rows are the neurons of all layers.

        The rows of this stack, such as prompts, become the columns. Communities of the
        new rows are groups of neurons, across layers, that fire on the same prompts.
        :class:`MultiLayerTfidfSketcher` compares such rows by their correlation.

        Returns
        -------
        stack : LayerStack
            One layer, "neurons", of shape (sum of the widths, n_samples). The rows' ids
            are ``layer:number``, `row_layers` names the layer of each row, and
            `prompts` are the ids of this stack, or its row numbers. A sketcher that was
            fitted on such a stack refuses one whose prompts have other ids, or the same
            ids in another order.

        Raises
        ------
        ValueError
            If the rows of this stack are neurons already.

        Notes
        -----
        Sparse layers are transposed once, in memory. Dense layers, memory maps, Zarr
        arrays, HDF5 datasets and tensors are read by stretches of columns as they are
        needed, an eighth of a layer at once, or 64 MB of float32 if that is more; each
        stretch reads all rows of a Zarr array or HDF5 dataset. Dask arrays stay lazy.
        Neurons selected by an index are held in memory.

        Examples
        --------
        >>> import numpy as np
        >>> from skleiden import LayerStack
        >>> stack = LayerStack({"mlp_0": np.eye(4), "mlp_1": np.ones((4, 2))})
        >>> neurons = stack.neurons()
        >>> neurons
        LayerStack(6 rows; neurons: 4)
        >>> neurons.ids[3:5].tolist(), neurons.row_layers[3:5].tolist()
        (['mlp_0:3', 'mlp_1:0'], ['mlp_0', 'mlp_1'])
        """
        if self.row_layers is not None:
            raise ValueError(
                "The rows of this stack are neurons already; call neurons() of the "
                "stack whose rows are prompts."
            )
        ids = [
            f"{name}:{number}"
            for name, width in zip(self.names, self.widths, strict=True)
            for number in range(width)
        ]
        return self._from_valid(
            [transposed(self.layers)],
            ("neurons",),
            np.array(ids, dtype=str),
            (None,),
            np.repeat(np.array(self.names, dtype=str), self.widths),
            np.arange(len(self)) if self.ids is None else self.ids,
        )

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
        return np.result_type(*(source_of(block).dtype for block in self.layers))

    def __len__(self) -> int:
        return self.shape[0]

    # Without this, Python would walk the rows through __getitem__.
    __iter__ = None

    def __getitem__(self, rows: Any) -> Any:
        """Select a layer by its name, or rows by a slice, integer array or mask."""
        if isinstance(rows, str):
            if rows not in self.names:
                raise KeyError(
                    f"There is no layer {rows!r}; the layers are {list(self.names)}."
                )
            return self.layers[self.names.index(rows)]
        if isinstance(rows, tuple):
            # scikit-learn indexes with (rows, Ellipsis).
            if len(rows) != 2 or not _is_everything(rows[1]):
                raise IndexError(
                    "A LayerStack is indexed by rows only; got an index on columns "
                    f"too: {rows!r}. Select layers with "
                    "LayerStack({name: stack[name], ...})."
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
            self.columns,
            None if self.row_layers is None else self.row_layers[rows],
            self.prompts,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        parts = []
        for name, block in zip(self.names, self.layers, strict=True):
            try:
                parts.append(source_of(block).packed())
            except TypeError as error:
                raise TypeError(f"Layer {name!r} is {error}") from None
        kept = self.names, self.ids, self.columns, self.row_layers, self.prompts
        return _rebuild, (parts, *kept)

    def __repr__(self) -> str:
        layout = ", ".join(
            f"{name}: {width}"
            for name, width in zip(self.names, self.widths, strict=True)
        )
        return f"{type(self).__name__}({len(self)} rows; {layout})"


def _rebuild(parts: list[Any], *kept: Any) -> LayerStack:
    # Not checked again: whoever can change a pickle can run code anyway, and workers in
    # other processes would read all indices of a stack of which they use some rows.
    return LayerStack._from_valid(map(unpacked, parts), *kept)


def _ids_of_index(index: Any) -> np.ndarray:
    try:
        return check_ids(index, len(index))
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"The index of data frames gives the ids of rows: {error} Or drop it with "
            "frame.reset_index(drop=True)."
        ) from error


def _is_everything(index: Any) -> bool:
    return index is Ellipsis or (isinstance(index, slice) and index == slice(None))
