"""Which resolution gives so many communities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from skleiden._kernels import labels, leiden

# Runs of Leiden at most, which with a graph of 70,000 rows take two fits' time.
_MOST_RUNS = 10
# The first step to either side, a factor; each next one is the square of it, up to a
# largest one, so that no resolution leaves the range of floats.
_STEP, _LARGEST_STEP = 4.0, 2.0**64
# Resolutions are rounded to so many digits, so that what is read is what was used.
_DIGITS = 4
# Two resolutions as near as this have none between them that is worth a look.
_CLOSE = 1.02
# How far from either side of what it may lie between the next resolution is.
_MARGIN = 0.15
# With fewer rows than this in communities large enough, of those that could be,
# there are few communities because most are too small.
_LEAST_COVERED = 0.75

# What two communities are united by: the masses of vertices in each objective.
_QUALITIES = {"modularity": leiden.modularity, "cpm": leiden.constant_potts}


class Sought(NamedTuple):
    """How many communities are sought, and what counts as one.

    `counts` are the rows that each vertex stands for; a community of fewer than `least`
    rows does not count.
    """

    n_clusters: int
    least: int
    counts: np.ndarray


class Look(NamedTuple):
    """What one run of Leiden found: how many communities are large enough.

    `too_fine` says that there are so few since most rows are in smaller ones.
    """

    resolution: float
    n_clusters: int
    too_fine: bool
    membership: np.ndarray
    quality: float

    def all_alone(self) -> bool:
        """Whether each vertex is a community of its own: no resolution gives more."""
        return int(self.membership.max(initial=-1)) + 1 == self.membership.size


class Hit(NamedTuple):
    """The partition with the number of communities that is nearest to that sought.

    `n_merged` of the communities that Leiden found were merged with others. `remark`
    says why the number is another one; "" if it is that sought.
    """

    membership: np.ndarray
    quality: float
    resolution: float
    n_merged: int = 0
    remark: str = ""


def find_resolution(
    network: leiden.Network,
    run: Callable[[float], tuple[np.ndarray, float]],
    sought: Sought,
    objective: str,
) -> Hit:
    """Find a resolution that gives so many communities, and what it gives.

    Where no resolution tried does, communities of the next finer partition are merged.

    Parameters
    ----------
    network : Network

    run : callable
        Gives membership and quality for a resolution.

    sought : Sought

    objective : str
        For "modularity" and "cpm", communities can be merged.
    """
    n, counts = sought.n_clusters, sought.counts
    _, component = connected_components(network.graph, directed=False)
    sizes = np.bincount(component, counts)
    large = sizes[sizes >= sought.least]

    def look(resolution: float) -> Look:
        membership, quality = run(resolution)
        found = np.bincount(membership, counts)
        found = found[found >= sought.least]
        too_fine = found.sum() < _LEAST_COVERED * large.sum()
        return Look(resolution, found.size, bool(too_fine), membership, quality)

    start = _first_resolution(network, objective)
    if large.size == 0:  # nothing can be found, as whoever asks is told
        found = look(start)
        return Hit(found.membership, found.quality, found.resolution)
    reachable = max(n, large.size)  # no resolution joins what no edge joins
    looks = bisect(look, reachable, start)
    hit = _hit(network, looks, sought._replace(n_clusters=reachable), objective)
    if reachable == n:
        return hit
    return hit._replace(
        remark=f"n_clusters={n} is fewer than the {large.size} connected components of "
        f"the graph{_of_size(sought)}, which no resolution joins: took "
        f"{_n_large(hit.membership, sought)}, at resolution {hit.resolution:g}. Raise "
        "n_neighbors, or use graph='union', for edges between them."
    )


def bisect(look: Callable[[float], Look], n: int, start: float) -> list[Look]:
    """Look at resolutions, the last of which may give n communities.

    From `start`, steps that grow go to the side where n must be; then the gap around it
    is narrowed, on a logarithmic scale, at the place where n would be if the logarithm
    of the number grew evenly. It ends when n is found, the gap is closed, nothing can
    be divided further, or after 10 looks. The number need not grow with the resolution
    everywhere.
    """
    looks: list[Look] = []
    coarser: Look | None = None
    finer: Look | None = None
    step, resolution = _STEP, start
    while len(looks) < _MOST_RUNS:
        resolution = float(f"{resolution:.{_DIGITS}g}")
        if any(one.resolution == resolution for one in looks):
            break
        found = look(resolution)
        looks.append(found)
        if found.n_clusters == n and not found.too_fine:
            break
        if found.n_clusters > n or found.too_fine:
            finer = found
        else:
            coarser = found
        if finer is None and found.all_alone():
            break
        if finer is None or coarser is None:
            resolution = resolution * step if finer is None else resolution / step
            step = min(step**2, _LARGEST_STEP)
        elif finer.resolution < _CLOSE * coarser.resolution:
            break
        else:
            ratio = finer.resolution / coarser.resolution
            resolution = coarser.resolution * ratio ** _place(coarser, finer, n)
    return looks


def _place(coarser: Look, finer: Look, n: int) -> float:
    """Where between two resolutions to look for n communities, 0 to 1."""
    if finer.too_fine or coarser.n_clusters == 0:
        return 0.5
    growth = math.log(finer.n_clusters / coarser.n_clusters)
    place = math.log(n / coarser.n_clusters) / growth
    return min(max(place, _MARGIN), 1 - _MARGIN)


def _first_resolution(network: leiden.Network, objective: str) -> float:
    """Where the search starts: 1, or what is the like of it for "cpm"."""
    total = network.graph.sum(dtype=np.float64) + 2 * network.loops.sum()
    if objective != "cpm" or total == 0:
        return 1.0
    return float(total / network.loops.size**2)  # the density of weight


def _hit(
    network: leiden.Network, looks: list[Look], sought: Sought, objective: str
) -> Hit:
    n, last = sought.n_clusters, looks[-1]
    if last.n_clusters == n and not last.too_fine:
        return Hit(last.membership, last.quality, last.resolution)
    finer = [one for one in looks if one.n_clusters > n and not one.too_fine]
    if finer and objective in _QUALITIES:
        nearest = min(finer, key=lambda one: (one.n_clusters, one.resolution))
        membership = _merged(network, nearest, sought, objective)
        n_merged = nearest.n_clusters - _n_large(membership, sought)
        if nearest.n_clusters - n_merged == n:
            quality = _QUALITIES[objective](network, membership, nearest.resolution)
            return Hit(membership, quality, nearest.resolution, n_merged)
    nearest = min(
        looks,
        key=lambda one: (one.too_fine, abs(one.n_clusters - n), one.resolution),
    )
    return Hit(
        nearest.membership,
        nearest.quality,
        nearest.resolution,
        remark=_remark(looks, sought, nearest),
    )


def _merged(
    network: leiden.Network, finer: Look, sought: Sought, objective: str
) -> np.ndarray:
    masses = np.ones(network.loops.size)
    if objective == "modularity":
        degrees = network.graph.sum(axis=1, dtype=np.float64)
        masses = np.asarray(degrees).ravel() + 2 * network.loops
    kept = np.bincount(finer.membership, sought.counts) >= sought.least
    return labels.merge_nearest(
        network.graph, finer.membership, masses, kept, sought.n_clusters
    )


def _n_large(membership: np.ndarray, sought: Sought) -> int:
    sizes = np.bincount(membership, sought.counts)
    return int(np.count_nonzero(sizes >= sought.least))


def _of_size(sought: Sought) -> str:
    return f" of at least {sought.least} rows" if sought.least > 1 else ""


def _remark(looks: list[Look], sought: Sought, taken: Look) -> str:
    """Say that no resolution gives so many, and what those next to it give."""
    n = sought.n_clusters
    fine = [one for one in looks if one.n_clusters > n or one.too_fine]
    coarse = [one for one in looks if one.n_clusters < n and not one.too_fine]
    sides = [
        *sorted(coarse, key=lambda one: one.resolution)[-1:],
        *sorted(fine, key=lambda one: one.resolution)[:1],
    ]
    said = " and ".join(f"{one.resolution:g} gives {one.n_clusters}" for one in sides)
    more = ", or lower min_cluster_size for more of them" if sought.least > 1 else ""
    return (
        f"No resolution gives n_clusters={n} communities{_of_size(sought)}: {said}; "
        f"took {taken.n_clusters}, at resolution {taken.resolution:g}. Choose another "
        f"number{more}."
    )
