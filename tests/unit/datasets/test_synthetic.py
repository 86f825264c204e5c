"""Synthetic layers with planted communities."""

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
    ],
    ids=repr,
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        make_layered_activations(**options)
