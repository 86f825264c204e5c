"""Synthetic layers with planted communities."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics.pairwise import cosine_similarity

from skleiden import LayerStack
from skleiden.datasets import make_layered_activations


def separation(stack, labels):
    """Per layer, mean cosine within communities minus that between them."""
    same = labels[:, None] == labels
    apart = ~same
    np.fill_diagonal(same, False)
    cosines = [cosine_similarity(block) for block in stack.layers]
    return [cosine[same].mean() - cosine[apart].mean() for cosine in cosines]


def test_shapes_and_types():
    stack, labels = make_layered_activations(
        50, n_layers=3, n_neurons=200, n_communities=4, nnz_per_row=20, random_state=0
    )
    assert isinstance(stack, LayerStack)
    assert stack.names == ("layer_0", "layer_1", "layer_2")
    assert stack.widths == (200, 200, 200)
    assert (stack.dtype, labels.dtype) == (np.float32, np.int64)
    for block in stack.layers:
        assert (block.format, block.shape) == ("csr", (50, 200))
        assert block.has_canonical_format
        assert (block.data > 0).all()
        per_row = np.diff(block.indptr)
        assert per_row.min() > 10
        assert per_row.max() <= 20


@pytest.mark.parametrize(("n_samples", "n_communities"), [(60, 4), (61, 7), (5, 5)])
def test_communities_are_balanced_and_mixed(n_samples, n_communities):
    _, labels = make_layered_activations(
        n_samples, n_layers=1, n_communities=n_communities, random_state=0
    )
    sizes = np.bincount(labels)
    assert (sizes.size, sizes.sum()) == (n_communities, n_samples)
    assert np.ptp(sizes) <= 1
    assert (np.diff(labels) < 0).any()


def test_sizes_may_be_numpys():
    sizes = {"n_samples": 40, "n_layers": 2, "n_neurons": 50, "n_communities": 3}
    stack, labels = make_layered_activations(**sizes, random_state=0)
    again, same_labels = make_layered_activations(
        **{name: np.int32(size) for name, size in sizes.items()}, random_state=0
    )
    assert_array_equal(labels, same_labels)
    assert (stack.layers[1] != again.layers[1]).nnz == 0


@pytest.mark.parametrize("seed_of", [int, np.random.RandomState])
def test_seed(seed_of):
    stack, labels = make_layered_activations(40, random_state=seed_of(3))
    again, same_labels = make_layered_activations(40, random_state=seed_of(3))
    other, other_labels = make_layered_activations(40, random_state=seed_of(4))
    assert_array_equal(labels, same_labels)
    assert (labels != other_labels).any()
    for block, twin, different in zip(
        stack.layers, again.layers, other.layers, strict=True
    ):
        assert (block != twin).nnz == 0
        assert (block != different).nnz > 0


def test_layers_are_drawn_apart():
    stack, _ = make_layered_activations(40, n_layers=2, random_state=0)
    assert (stack.layers[0] != stack.layers[1]).nnz > 0


def test_signal_is_what_separates_communities():
    strength = [
        separation(*make_layered_activations(300, signal=signal, random_state=0))
        for signal in (0.0, 0.4, 1.0)
    ]
    none, default, full = np.array(strength)
    assert np.abs(none).max() < 0.01
    assert default.min() > 0.03
    assert full.min() > 0.3


def test_popularity_is_long_tailed():
    """The u ** 2 law puts sqrt(1 / 10) of the activations on a tenth of the neurons."""
    stack, _ = make_layered_activations(1000, signal=0.0, n_layers=1, random_state=0)
    (block,) = stack.layers
    popular = block[:, : block.shape[1] // 10].sum() / block.sum()
    assert popular == pytest.approx(np.sqrt(0.1), abs=0.01)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "ebae42bb37483c07"),
        (
            {"n_layers": 3, "n_neurons": 200, "n_communities": 7, "signal": 0.9},
            "b6e952977e822803",
        ),
    ],
)
def test_output_without_groups_of_neurons_stays(options, expected):
    stack, labels = make_layered_activations(60, random_state=0, **options)
    digest = hashlib.blake2b(labels.tobytes(), digest_size=8)
    for block in stack.layers:
        digest.update(block.data.tobytes())
        for part in (block.indices, block.indptr):
            digest.update(part.astype("i8").tobytes())
    assert digest.hexdigest() == expected


# --- groups of neurons ----------------------------------------------------------------


def with_groups(n_samples=300, **options):
    options = {"return_neuron_groups": True, "random_state": 0} | options
    return make_layered_activations(n_samples, **options)


@pytest.mark.parametrize(
    ("n_groups", "n_communities"),
    [(5, 10), (10, 10), (20, 10), (10, 20), (7, 20), (30, 10), (60, 60), (3, 3)],
)
def test_drives_are_balanced_and_all_differ(n_groups, n_communities):
    *_, drives = with_groups(
        n_layers=1, n_neurons=100, n_neuron_groups=n_groups, n_communities=n_communities
    )
    assert (drives.shape, drives.dtype) == ((n_groups, n_communities), bool)
    for axis, n in ((0, n_communities), (1, n_groups)):
        counts = drives.sum(axis=axis)
        assert counts.min() >= 2
        assert np.ptp(counts) <= axis  # as many for each community
        assert np.unique(drives, axis=1 - axis).shape[1 - axis] == n


@pytest.mark.parametrize(("n_layers", "n_spanned"), [(1, 1), (2, 2), (3, 2), (6, 4)])
def test_groups_are_in_layers_that_follow_one_another(n_layers, n_spanned):
    stack, labels, groups, _ = with_groups(
        n_layers=n_layers, n_neurons=500, n_neuron_groups=6, nnz_per_row=30
    )
    assert (len(stack), labels.dtype, groups.dtype) == (300, np.int64, np.int64)
    by_layer = groups.reshape(n_layers, 500)
    starts = set()
    for group in range(6):
        sizes = np.count_nonzero(by_layer == group, axis=1)
        (here,) = np.nonzero(sizes)
        assert_array_equal(here, np.arange(n_spanned) + here[0])
        assert_array_equal(sizes[here], 30)
        starts.add(here[0])
    assert len(starts) > 1 or n_layers == n_spanned
    assert groups.min() == -1


@pytest.mark.parametrize("drives", [None, [[1, 1, 1, 0], [0, 1, 0, 0], [0, 1, 0, 1]]])
def test_groups_fire_alike_in_what_they_drive_and_nowhere_else(drives):
    drives = None if drives is None else np.array(drives, dtype=bool)
    stack, labels, groups, drives = with_groups(
        8000, n_layers=2, n_neurons=400, n_communities=4, nnz_per_row=20,
        drives=drives, n_neuron_groups=4 if drives is None else 3,
    )  # fmt: skip
    n_driving = drives.sum(axis=0).max()
    X = np.hstack([layer.toarray() for layer in stack.layers])
    rates = np.array([X[labels == c].mean(axis=0) for c in range(4)])
    for group, driven in enumerate(drives):
        of_group = rates[:, groups == group].mean(axis=1)
        at_rest = rates[:, groups == -1].mean() if driven.all() else of_group[~driven]
        # 20 neurons a layer share 0.4 of 20 activations with those of other groups.
        assert of_group[driven] - np.mean(at_rest) == pytest.approx(
            0.4 / n_driving, abs=0.02
        )
        assert np.ptp(at_rest) < 0.02


def test_groups_are_smaller_where_neurons_are_few():
    *_, groups, _ = with_groups(n_layers=1, n_neurons=50, n_neuron_groups=6)
    assert_array_equal(np.bincount(groups + 1), [2] + 6 * [8])


def test_groups_are_returned_only_if_asked_for():
    found = with_groups(return_neuron_groups=False, n_neuron_groups=5)
    assert len(found) == 2
    assert (found[0].layers[0] != with_groups(n_neuron_groups=5)[0].layers[0]).nnz == 0


def test_signal_of_groups_alone():
    """Rows of a layer without any group of their community have no activity there."""
    stack, _, groups, drives = with_groups(
        n_layers=3, n_neurons=100, n_neuron_groups=5, signal=1.0, nnz_per_row=10
    )
    X = np.hstack([layer.toarray() for layer in stack.layers])
    assert not X[:, groups == -1].any()
    assert drives.any(axis=0).all()
    for layer in stack.layers:
        assert (layer.data > 0).all()
        assert np.diff(layer.indptr).max() <= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1; got 0"),
        ({"n_layers": 0}, "n_layers must be an integer of at least 1; got 0"),
        ({"n_neurons": -1}, "n_neurons must be an integer of at least 1; got -1"),
        ({"n_communities": 0}, "n_communities must be an integer of at least 1; got 0"),
        ({"nnz_per_row": 0}, "nnz_per_row must be an integer of at least 1; got 0"),
        ({"n_samples": 50.0}, "n_samples must be an integer of at least 1; got 50.0"),
        ({"n_communities": 2.5}, "n_communities must be an integer .*; got 2.5"),
        ({"n_layers": "3"}, "n_layers must be an integer of at least 1; got '3'"),
        ({"n_samples": 5}, "n_communities must be at most n_samples=5; got 10"),
        ({"signal": -0.1}, r"signal must be a number in \[0, 1\]; got -0.1"),
        ({"signal": 1.5}, r"signal must be a number in \[0, 1\]; got 1.5"),
        ({"signal": np.nan}, r"signal must be a number in \[0, 1\]; got nan"),
        ({"signal": "a"}, r"signal must be a number in \[0, 1\]; got 'a'"),
        ({"n_neuron_groups": 0}, "n_neuron_groups must be an integer of at least 1"),
        ({"n_neuron_groups": 2.0}, "n_neuron_groups must be an integer .*; got 2.0"),
        ({"n_neuron_groups": 4}, "n_neuron_groups=4 groups cannot each drive other .*"
         "n_communities=10 communities .* Give more of those that are fewer"),
        ({"n_neuron_groups": 2049}, "A layer must have a neuron for each group; got "
         "n_neurons=2048 for 2049 groups of neurons. Give more neurons or"),
        ({"return_neuron_groups": True}, "return_neuron_groups=True needs groups of "
         "neurons; got none, with n_neuron_groups=None and drives=None. Give one"),
        ({"drives": [[True] * 9]}, r"drives must be a bool for each group of neurons "
         r"and community, of shape \(n_groups, 10\); got shape \(1, 9\) and dtype"),
        ({"drives": [[1] * 10]}, r"got shape \(1, 10\) and dtype int"),
        ({"drives": [True] * 10}, r"got shape \(10,\) and dtype bool"),
        ({"drives": [[True] * 10], "n_neuron_groups": 2}, r"of shape \(2, 10\); got"),
        ({"drives": [[True] * 9 + [False], [False] * 10]}, r"got groups \[1\] without "
         r"a community and communities \[9\] without a group. Leave these out"),
    ],
    ids=repr,
)  # fmt: skip
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        make_layered_activations(**options)


# --- communities within communities ---------------------------------------------------


def test_communities_nest():
    stack, labels = make_layered_activations(
        300, n_layers=2, n_communities=(2, 5, 12), random_state=0
    )
    assert (labels.shape, labels.dtype) == ((300, 3), np.int64)
    assert (labels.max(axis=0) + 1).tolist() == [2, 5, 12]
    assert (np.bincount(labels[:, 2]) == 25).all()
    for coarse, fine in pairwise(labels.T):
        for community in range(fine.max() + 1):
            assert np.unique(coarse[fine == community]).size == 1
    assert stack.shape[0] == 300


def test_nearer_communities_share_more_neurons():
    stack, labels = make_layered_activations(
        400, 2, 1000, n_communities=(2, 8), nnz_per_row=40, signal=1.0, random_state=0
    )
    active = (stack.layers[0] > 0).astype(np.float64)
    common = (active @ active.T).toarray()
    same = labels[:, None] == labels[None]
    fine, coarse = same[..., 1], same[..., 0] & ~same[..., 1]
    apart = ~same[..., 0]
    assert common[fine].mean() > 1.5 * common[coarse].mean() > 3 * common[apart].mean()


def test_one_level_in_a_sequence_is_that_number():
    (one, labels), (other, column) = (
        make_layered_activations(50, 2, 100, n_communities=n, random_state=0)
        for n in (3, [3])
    )
    assert_array_equal(column[:, 0], labels)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert_array_equal(a.toarray(), b.toarray())


@pytest.mark.parametrize("n", [(), (3, 3), (6, 2), (2, 4.0), "ab"])
def test_levels_must_grow(n):
    with pytest.raises(ValueError, match="several, each larger than the last"):
        make_layered_activations(50, n_communities=n)


def test_levels_are_not_driven_by_groups():
    with pytest.raises(ValueError, match="not driven by groups of neurons; got"):
        make_layered_activations(50, n_communities=(2, 4), n_neuron_groups=3)
