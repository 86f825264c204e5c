"""The backends of Leiden as the estimator has them; their kernel has its own tests."""

import os
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skleiden import MutualKNNLeiden
from skleiden._kernels import leiden as kernel
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import resolution_profile


@pytest.fixture(scope="module")
def embedding(prompt_vectors):
    X = prompt_vectors
    return np.concatenate([X, X[:100], X[:50]])


@pytest.fixture
def libreville():
    pytest.importorskip("cluster_libreville")
    return MutualKNNLeiden(15, backend="libreville", random_state=0)


def test_labels_do_not_depend_on_threads_order_or_place(libreville, embedding, place):
    expected = libreville.fit(embedding).labels_
    assert libreville.backend_ == "libreville"
    for n_jobs in (1, 2, 5, -1):
        again = clone(libreville).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(again.fit_predict(place(embedding)), expected)
    order = np.random.default_rng(0).permutation(len(embedding))
    np.testing.assert_array_equal(
        libreville.fit_predict(embedding[order]), expected[order]
    )


def test_quality_is_that_of_igraph(libreville, embedding):
    for resolution in (0.5, 1.0, 4.0):
        quality = [
            clone(libreville)
            .set_params(backend=backend, resolution=resolution)
            .fit(embedding)
            .quality_
            for backend in ("igraph", "libreville")
        ]
        assert quality[1] == pytest.approx(quality[0], rel=0.002)


def test_it_predicts_and_is_pickled(libreville, embedding):
    fitted = libreville.fit(embedding)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(embedding), fitted.predict(embedding))
    assert again.get_params() == fitted.get_params()


def test_it_is_saved(libreville, embedding, tmp_path):
    fitted = libreville.fit(embedding)
    save_estimator(tmp_path / "fitted.npz", fitted)
    again = load_estimator(tmp_path / "fitted.npz")
    assert again.backend_ == "libreville"
    np.testing.assert_array_equal(again.predict(embedding), fitted.predict(embedding))


def test_profiles_do_not_depend_on_processes(libreville, embedding):
    tables = [
        resolution_profile(
            libreville,
            embedding,
            resolutions=[0.5, 2.0],
            n_runs=3,
            n_permutations=1,
            n_jobs=n_jobs,
        ).table
        for n_jobs in (1, 2)
    ]
    for name in set(tables[0]) - {"seconds"}:
        np.testing.assert_array_equal(tables[0][name], tables[1][name])


def test_threads_are_those_of_the_search(libreville, embedding, monkeypatch):
    import cluster_libreville

    used, run = [], cluster_libreville.leiden
    monkeypatch.setattr(
        cluster_libreville,
        "leiden",
        lambda *args, **options: (
            used.append(options["threads"]) or run(*args, **options)
        ),
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for n_jobs in (1, 3, 10**6):
        libreville.set_params(n_jobs=n_jobs).fit(embedding)
    assert used == [1, 3, 4]


@pytest.mark.parametrize("objective", ["cpm", "rber", "surprise", "significance"])
def test_other_objectives_are_refused(objective):
    with pytest.raises(
        ValueError,
        match=r"backend='libreville' does not have objective=.*; use "
        r"backend='leidenalg', or one of \['modularity'\]",
    ):
        MutualKNNLeiden(backend="libreville", objective=objective).fit(np.eye(5))


def test_a_missing_package_is_told_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(kernel, "find_spec", lambda _: None)
    with pytest.raises(
        ImportError,
        match=r"backend='libreville' needs sc-cluster-libreville: pip install "
        r'"skleiden\[libreville\]"\. Or use backend=\'igraph\'\.',
    ):
        MutualKNNLeiden(backend="libreville").fit([["no number"]])
