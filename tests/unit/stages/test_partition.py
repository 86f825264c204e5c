"""What is told of a partition, and what becomes of its small communities."""

import pickle
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._blocks.runner import Local
from skleiden._kernels import knn, leiden
from skleiden._stages import partition
from skleiden._stages.partition import KNNGraph, Partitioning


@pytest.fixture
def graph():
    """Two cliques of four vertices, two that are tied to one each; ranks backwards."""
    weights = np.zeros((10, 10), dtype=np.float32)
    weights[:4, :4] = weights[4:8, 4:8] = 1
    np.fill_diagonal(weights, 0)
    union = weights.copy()
    for a, b, weight in [(3, 4, 0.1), (1, 8, 0.2), (6, 9, 0.3)]:
        union[a, b] = union[b, a] = weight
    # Rows 10 and 11 are equal to rows 8 and 4; row 12 is zero.
    inverse = np.r_[np.arange(10), 8, 4, -1]
    distinct = knn.UniqueRows(None, np.arange(10), inverse, np.arange(10)[::-1].copy())
    return KNNGraph(
        sp.csr_array(weights), distinct.counts() > 1, sp.csr_array(union), distinct
    )


def how(**parameters):
    usual = {
        "objective": "modularity",
        "resolution": 1.0,
        "n_iterations": 2,
        "backend": "igraph",
        "min_cluster_size": 3,
        "small_clusters": "attach",
        "n_threads": 1,
    }
    return Partitioning(**usual | parameters)


def test_small_communities_are_attached_left_out_or_kept(graph):
    big = [1, 1, 1, 1, 0, 0, 0, 0]
    expected = {
        "attach": ([*big, 1, 0, 1, 0, -1], [8, 9, 10]),
        "noise": ([*big, -1, -1, -1, 0, -1], []),
        "keep": ([*big, 2, 3, 2, 0, -1], []),
    }
    union = graph.union
    for small, (labels, attached) in expected.items():
        graph.union = union if small == "attach" else None
        (found,) = how(small_clusters=small).run(graph, [0])
        # Of six rows each, the first is that of the lowest rank, which is row 9's.
        assert found.labels.tolist() == labels
        assert np.flatnonzero(found.attached).tolist() == attached
        assert sorted(found.sizes.tolist()) == [1, 2, 4, 5]
        assert found.sizes.dtype == np.int64
        assert found.labels.dtype == np.int64
        assert (found.resolution, found.n_merged, found.remark) == (1.0, 0, "")
        assert found.quality == found.modularity > 0


def test_equal_sizes_are_numbered_by_rank(graph):
    """Six rows each: of equals the first vertex decides, which is the last row."""
    (found,) = how().run(graph, [0])
    assert np.bincount(found.labels[found.labels >= 0]).tolist() == [6, 6]
    assert found.labels[9] == 0


def test_modularity_is_told_of_any_objective_and_resolution(graph):
    (found,) = how(resolution=0.5).run(graph, [0])
    assert found.quality > found.modularity
    network = leiden.network(graph.affinity, graph.distinct.ranks, graph.copies)
    (kept,) = how(small_clusters="keep").run(graph, [0])
    membership = np.empty(10, dtype=np.int64)
    membership[graph.distinct.ranks] = kept.labels[:10]
    assert kept.modularity == pytest.approx(leiden.modularity(network, membership))


def test_seeds_are_drawn_from_the_states(graph, monkeypatch):
    seeds = []

    def run(network, *, seed, **others):
        seeds.append((seed, others))
        return np.zeros(10, dtype=np.int64), 0.5

    monkeypatch.setattr(partition.leiden, "leiden", run)
    states = [3, np.random.RandomState(4)]
    found = list(how(objective="rber", backend="leidenalg").run(graph, states))
    assert [one.quality for one in found] == [0.5, 0.5]
    expected = [np.random.RandomState(s).randint(2**31 - 1) for s in (3, 4)]
    assert [seed for seed, _ in seeds] == expected
    assert seeds[0][1] == {
        "objective": "rber",
        "n_iterations": 2,
        "backend": "leidenalg",
        "resolution": 1.0,
    }


@pytest.mark.parametrize(("small", "least"), [("keep", 1), ("noise", 3)])
def test_a_number_is_sought_of_those_that_count(graph, monkeypatch, small, least):
    asked = []

    def find(network, run, sought, objective):
        asked.append((sought, objective))
        membership = np.zeros(10, dtype=np.int64)
        return partition.Hit(membership, 0.25, 7.0, 2, "few")

    monkeypatch.setattr(partition, "find_resolution", find)
    (found,) = how(n_clusters=4, small_clusters=small).run(graph, [0])
    ((sought, objective),) = asked
    assert (sought.n_clusters, sought.least, objective) == (4, least, "modularity")
    assert sought.counts.tolist() == [1, 2, 1, 1, 1, 2, 1, 1, 1, 1]
    assert (found.quality, found.resolution) == (0.25, 7.0)
    assert (found.n_merged, found.remark) == (2, "few")


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (None, 1), (64, 3)])
def test_threads_of_a_backend_that_takes_several(monkeypatch, graph, cores, expected):
    given = []

    def run(network, *, n_threads=None, **_):
        given.append(n_threads)
        return np.zeros(10, dtype=np.int64), 0.0

    monkeypatch.setattr(partition.leiden, "leiden", run)
    limits = []

    def limit_threads(n):
        limits.append(n)
        return nullcontext()

    monkeypatch.setattr(partition.knn, "limit_threads", limit_threads)
    monkeypatch.setattr(partition.knn, "n_threads", lambda: limits[-1])
    monkeypatch.setattr(partition.os, "cpu_count", lambda: cores)
    for backend in ("libreville", "igraph"):
        (_,) = how(backend=backend, n_threads=3).run(graph, [0])
    assert given == [expected, None]


def test_the_network_is_made_once_here_or_there(graph, monkeypatch):
    made = []
    network = leiden.network

    def noted(*given):
        made.append(given)
        return network(*given)

    monkeypatch.setattr(partition.leiden, "network", noted)
    for _ in range(2):
        assert graph.run(lambda found: found.loops.tolist()) == [
            float(rank in (1, 5)) for rank in range(10)
        ]
    assert len(made) == 1
    there = KNNGraph(
        graph.affinity,
        graph.copies,
        None,
        graph.distinct,
        (Local(), graph.affinity),
    )
    assert there.run(lambda found: found.graph.nnz) == graph.affinity.nnz
    assert len(made) == 2
    copy = pickle.loads(pickle.dumps(there))
    assert copy.there is None
    assert copy.distinct.vectors is None
    assert_array_equal(copy.copies, graph.copies)


def test_the_graph_of_all_rows(graph):
    whole = graph.of_all_rows()
    assert whole.shape == (13, 13)
    assert_array_equal(whole.toarray()[:10, :10], graph.affinity.toarray())
    assert whole[8, 10] == whole[11, 4] == 1
    assert whole[[12]].nnz == 0


def estimator(**parameters):
    usual = {
        "objective": "modularity",
        "resolution": 1.0,
        "n_iterations": 2,
        "backend": "auto",
        "min_cluster_size": 3,
        "small_clusters": "attach",
        "n_clusters": None,
        "n_jobs": 1,
    }
    search = dict.fromkeys(partition.NeighborSearch._fields)
    return SimpleNamespace(**search | usual | parameters)


def test_backends_and_refusals():
    assert Partitioning.of(estimator()).backend == "igraph"
    assert Partitioning.of(estimator()).n_threads == 1
    assert Partitioning.of(estimator(objective="rber")).backend == "leidenalg"
    same = Partitioning.of(estimator(objective="surprise", backend="leidenalg"))
    assert same.backend == "leidenalg"
    for parameters, text in (
        (
            {"objective": "surprise", "n_clusters": 3},
            "no resolution by which to find n",
        ),
        ({"objective": "surprise", "resolution": 2.0}, "has no resolution; got resol"),
        ({"objective": "rber", "backend": "igraph"}, "does not have objective='rber'"),
    ):
        with pytest.raises(ValueError, match=text):
            Partitioning.of(estimator(**parameters))
