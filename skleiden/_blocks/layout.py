"""Layers as they stand in X: side by side in one matrix, or each by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .checks import (
    check_names,
)
from .mapped import share_memory
from .rows import side_by_side
from .runner import Runner
from .sources import Source, as_matrix, source_of

# The widths of layers, as a user states them.
Stated: TypeAlias = Any  # Mapping[str, int] | Sequence[int] | None


class Part(NamedTuple):
    """Columns of X in one storage: one layer, or several that are read together.

    `start` is the number of its first row in X, of which it may be a block.
    """

    source: Source
    layers: range
    columns: slice
    start: int = 0


class Layout(NamedTuple):
    """Layers by name and width, and which of them are stored as one matrix."""

    names: tuple[str, ...]
    widths: tuple[int, ...]
    spans: tuple[range, ...]

    @property
    def starts(self) -> np.ndarray:
        """First column of each layer, and the number of all columns."""
        return np.cumsum([0, *self.widths])

    def parts(self, matrices: Iterable[Any], start: int = 0) -> list[Part]:
        """Give the parts of a block of rows that begins at `start`.

        `matrices` are sources, or else lists of chunks that stand side by side.
        """
        starts, parts = self.starts.tolist(), []
        for matrix, span in zip(matrices, self.spans, strict=True):
            if not isinstance(matrix, Source):  # chunks that have only just been made
                matrix = as_matrix(side_by_side(matrix), f"X, {self.describe(span)},")
            columns = slice(starts[span.start], starts[span.stop])
            parts.append(Part(source_of(matrix), span, columns, start))
        return parts

    def check(self, stated: Stated) -> None:
        """Refuse a stated layout that contradicts this one, of a stack."""
        if stated is None:
            return
        names, widths = layer_layout(stated, sum(self.widths))
        named = isinstance(stated, Mapping)
        if widths != self.widths or (named and names != self.names):
            raise ValueError(
                f"layers={stated!r} contradicts the layers of X, "
                f"{dict(zip(self.names, self.widths, strict=True))}; leave layers at "
                "None for a LayerStack."
            )

    def describe(self, layers: range) -> str:
        """Name some layers, for messages."""
        names = [repr(self.names[layer]) for layer in layers]
        return f"layer{'s' * (len(names) > 1)} {', '.join(names)}"


class Layers(NamedTuple):
    """Layered input that was checked, to be read block by block.

    `of_neurons` is not 0 where its rows are neurons, and its columns prompts: it is the
    number of layers that the neurons are of, and `prompts` are the columns' ids.
    """

    layout: Layout
    sources: list[Source]
    of_neurons: int = 0
    prompts: np.ndarray | None = None

    @property
    def n_samples(self) -> int:
        """Rows of each layer."""
        return self.sources[0].shape[0]

    @property
    def n_reads(self) -> int:
        """Rows that are read in all."""
        return self.n_samples * len(self.sources)

    def runner(self, verbose: int) -> Runner:
        """Give what runs functions of blocks of rows."""
        return self.sources[0].runner(verbose)

    def row_blocks(self) -> list[tuple[int, int, list[Any]]]:
        """Give start, number of rows, and handles of the matrices, of each block."""
        return self.sources[0].aligned(self.sources)

    def check_out(
        self, out: np.ndarray, shape: tuple[int, int], dtype: np.dtype
    ) -> None:
        """Refuse an `out` that cannot take an embedding of these layers."""
        wanted = f"numpy.empty({shape}, dtype=numpy.{dtype})"
        self.sources[0].check_out(out)
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
        for source, span in zip(self.sources, self.layout.spans, strict=True):
            if any(share_memory(out, matrix) for matrix in source.underlying()):
                raise ValueError(
                    "out must not share memory, or its place in a file, with X; got "
                    f"{self.layout.describe(span)}, which would be overwritten while "
                    f"it is read. Pass {wanted}, or a memory map of another file."
                )


def layer_layout(
    layers: Stated, n_features: int
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
        names, given = check_names(layers, len(layers)), list(layers.values())
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
