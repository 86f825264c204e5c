"""Rows in which neurons fire most, found block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Strongest(NamedTuple):
    """Rows in which neurons fire most: neuron by neuron, strongest first.

    `at` is the place of the neuron among those of its layer.
    """

    at: np.ndarray
    activations: np.ndarray
    rows: np.ndarray

    @classmethod
    def nothing(cls) -> Strongest:
        """Give the result for no rows."""
        none = np.empty(0, np.int64)
        return cls(none, np.empty(0), none)

    def of(self, place: int) -> Iterator[tuple[int, float]]:
        """Give the strongest rows of one neuron, and its activations in them."""
        own = slice(*np.searchsorted(self.at, [place, place + 1]))
        return zip(self.rows[own].tolist(), self.activations[own].tolist(), strict=True)

    def joined(self, other: Strongest, n_rows: int) -> Strongest:
        """Give the `n_rows` strongest of both for each neuron; of equals the first."""
        at, activations, rows = map(np.concatenate, zip(self, other, strict=True))
        order = np.lexsort((rows, -activations, at))
        at = at[order]
        kept = np.arange(at.size) - np.searchsorted(at, at) < n_rows
        order = order[kept]
        return Strongest(at[kept], activations[order], rows[order])

    def least(self, n_neurons: int, n_rows: int) -> np.ndarray:
        """Give the activation that a later row must exceed to be listed."""
        counts = np.bincount(self.at, minlength=n_neurons)
        least, full = np.full(n_neurons, -np.inf), counts == n_rows
        least[full] = self.activations[np.cumsum(counts)[full] - 1]
        return least
