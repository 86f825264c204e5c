"""The embedded data set: what is in it, and that the file and its source agree."""

import importlib.util
from collections import defaultdict
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from skleiden import LayerStack
from skleiden.datasets import load_prompt_activations

PROMPT_THEMES = Path(__file__).parents[3] / "benchmarks" / "prompt_themes.py"


@pytest.fixture(scope="module")
def activations():
    return load_prompt_activations()


def test_shapes_and_types(activations):
    n_prompts = len(activations.prompts)
    assert isinstance(activations.data, LayerStack)
    assert activations.data.shape == (n_prompts, 6 * 1536)
    assert activations.data.names == tuple(f"layer_{i}" for i in range(6))
    for name in ("target", "themes", "prompts", "ids"):
        assert activations[name].shape == (n_prompts,)
    assert activations.target.dtype == np.int64
    for name in ("target_names", "themes", "prompts", "ids"):
        assert activations[name].dtype.kind == "U"
    np.testing.assert_array_equal(activations.data.ids, activations.ids)


def test_layers_are_canonical_csr(activations):
    for layer in activations.data.layers:
        assert layer.format == "csr"
        assert layer.shape == (len(activations.ids), 1536)
        assert layer.dtype == np.float32
        assert layer.indices.dtype == layer.indptr.dtype == np.int32
        # A copy, as scipy caches its answer and never looks at the indices again.
        assert type(layer)(
            (layer.data, layer.indices, layer.indptr)
        ).has_canonical_format


def test_values_are_positive_and_finite(activations):
    for layer in activations.data.layers:
        assert np.isfinite(layer.data).all()
        assert (layer.data > 0).all()
        assert (np.diff(layer.indptr) > 0).all()


def test_values_have_8_bits(activations):
    for layer in activations.data.layers:
        codes = layer.data / layer.max() * 255
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


def test_enough_prompts_and_themes(activations):
    assert len(activations.prompts) >= 1200
    assert len(activations.target_names) >= 24
    sizes = np.bincount(activations.target)
    assert sizes.min() >= 30
    assert sizes.max() <= 70


def test_prompts_and_ids_are_unique(activations):
    n_prompts = len(activations.prompts)
    assert len(np.unique(activations.prompts)) == n_prompts
    assert len(np.unique(activations.ids)) == n_prompts


def test_prompts_are_short(activations):
    n_words = np.char.count(activations.prompts, " ") + 1
    assert n_words.max() <= 30
    assert np.mean(n_words <= 15) > 0.7


def test_target_agrees_with_themes_and_ids(activations):
    names, target = np.unique(activations.themes, return_inverse=True)
    np.testing.assert_array_equal(activations.target_names, names)
    np.testing.assert_array_equal(activations.target, target)
    for theme, prompt_id in zip(activations.themes, activations.ids, strict=True):
        assert prompt_id.startswith(f"{theme}-")


def test_themes_are_mixed(activations):
    """Unshuffled splits and the first rows hold nearly all themes."""
    assert len(np.unique(activations.target[:200])) >= 24


def test_phrasing_does_not_tell_the_theme(activations):
    themes = defaultdict(list)
    for prompt, theme in zip(activations.prompts, activations.themes, strict=True):
        themes[tuple(prompt.split()[:3])].append(theme)
    common = sorted(themes.values(), key=len)[-10:]
    for beginning in common:
        _, counts = np.unique(beginning, return_counts=True)
        assert len(counts) >= 12
        assert counts.max() <= len(beginning) / 4


def test_return_X_y(activations):
    X, y = load_prompt_activations(return_X_y=True)
    assert isinstance(X, LayerStack)
    np.testing.assert_array_equal(X.ids, activations.ids)
    np.testing.assert_array_equal(y, activations.target)


def test_loads_are_independent(activations):
    first, second = load_prompt_activations(), load_prompt_activations()
    first.data.layers[0].data[:] = 0
    first.target[:] = 0
    first.ids[:] = ""
    first.target_names[:] = ""
    for name in ("target", "ids", "target_names"):
        np.testing.assert_array_equal(second[name], activations[name])
    for ours, theirs in zip(second.data.layers, activations.data.layers, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_description_states_the_numbers(activations):
    assert f"{len(activations.prompts):,}" in activations.DESCR
    assert f"{len(activations.target_names)} themes" in activations.DESCR
    for name, layer in zip(
        activations.data.names, activations.data.layers, strict=True
    ):
        density = layer.nnz / np.prod(layer.shape)
        row = next(
            line.split()
            for line in activations.DESCR.splitlines()
            if line.startswith(name)
        )
        assert row[1:3] == [f"{density:.3f}", f"{layer.max():.2f}"]


def test_file_is_small():
    file = resources.files("skleiden.datasets") / "data" / "prompt_activations.npz"
    assert len(file.read_bytes()) <= 3_600_000


@pytest.mark.skipif(not PROMPT_THEMES.exists(), reason="needs the source tree")
def test_prompts_are_those_of_the_source(activations):
    spec = importlib.util.spec_from_file_location("prompt_themes", PROMPT_THEMES)
    prompt_themes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prompt_themes)
    ids, themes, texts = zip(*prompt_themes.make_prompts(), strict=True)
    np.testing.assert_array_equal(activations.ids, ids)
    np.testing.assert_array_equal(activations.themes, themes)
    np.testing.assert_array_equal(activations.prompts, texts)
