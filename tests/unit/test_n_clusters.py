"""A number of communities: the resolution that gives it, or why there is none."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._stages import resolution
from skleiden._stages.resolution import Look, bisect
from skleiden.datasets import load_prompt_activations
from skleiden.model_selection import (
    FullDataSplit,
    StableLeiden,
    make_stability_scorer,
    resolution_profile,
)


def leiden(n_clusters=None, **parameters):
    defaults = {"n_neighbors": 10, "random_state": 0}
    return MutualKNNLeiden(n_clusters=n_clusters, **defaults | parameters)


@pytest.fixture(scope="module")
def prompts(prompt_vectors):
    return prompt_vectors, load_prompt_activations().target


# --- bisection ------------------------------------------------------------------------


def looks_of(count, n, start=1.0):
    """Bisect a function that gives a number, and whether that is too fine."""

    def look(at):
        found, too_fine = count(at)
        return Look(at, int(found), too_fine, np.zeros(2, np.int64), 0.0)

    return bisect(look, n, start)


@pytest.mark.parametrize("start", [1.0, 1e-4])
@pytest.mark.parametrize("n", [1, 2, 7, 29, 100, 1000])
def test_a_number_that_grows_is_found(n, start):
    looks = looks_of(lambda r: (np.ceil(20 * r**0.7), False), n, start)
    assert looks[-1].n_clusters == n or n == 1000
    assert len(looks) <= 10
    assert len({one.resolution for one in looks}) == len(looks)


def test_a_gap_is_closed():
    looks = looks_of(lambda r: (5 if r < 3.3 else 8, False), 6)
    assert looks[-1].n_clusters != 6
    below = max(one.resolution for one in looks if one.n_clusters == 5)
    above = min(one.resolution for one in looks if one.n_clusters == 8)
    assert below < 3.3 < above < 1.1 * below
    assert len(looks) <= 10


def test_few_communities_beyond_the_peak_are_not_taken():
    """Beyond 8, most rows are in communities that are too small."""
    looks = looks_of(lambda r: (10 * r, False) if r < 8 else (60 / r, True), 6)
    assert looks[-1].n_clusters == 6
    assert looks[-1].resolution < 1


def test_resolutions_are_what_is_shown():
    looks = looks_of(lambda r: (5 if r < np.pi else 8, False), 6)
    for one in looks:
        assert float(f"{one.resolution:.4g}") == one.resolution


# --- the clusterer --------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_of_real_prompts(prompts):
    X, themes = prompts
    for n in [*range(2, 12), 20, 29, 40]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = MutualKNNLeiden(n_clusters=n, random_state=0).fit(X)
        assert fitted.n_clusters_ == n
        if n == 29:
            assert adjusted_mutual_info_score(themes, fitted.labels_) > 0.98


@pytest.mark.parametrize("n", [2, 3, 5, 11])
def test_the_resolution_found_gives_the_same_labels(embedding, n):
    fitted = leiden(n).fit(embedding)
    assert fitted.n_clusters_ == n
    again = leiden(resolution=fitted.resolution_).fit(embedding)
    if fitted.n_merged_ == 0:
        assert_array_equal(again.labels_, fitted.labels_)
        assert again.quality_ == fitted.quality_
    else:
        assert again.n_clusters_ == n + fitted.n_merged_
    assert again.resolution_ == fitted.resolution_
    assert again.n_merged_ == 0


def test_resolution_is_not_used_with_a_number(embedding):
    one = leiden(5).fit(embedding)
    other = leiden(5, resolution=30.0).fit(embedding)
    assert_array_equal(one.labels_, other.labels_)


def test_communities_are_merged_in_a_gap(embedding, monkeypatch):
    """Where runs give 3, or 6 and more, the nearest of the 6 are united."""
    seen = []

    def bisect_in_a_gap(look, n, start):
        looks = [one for one in bisect(look, n, start) if one.n_clusters != n]
        seen.extend([*looks, bisect(look, n + 2, start)[-1]])
        return seen[-1:] + seen[:-1]

    monkeypatch.setattr(resolution, "bisect", bisect_in_a_gap)
    for objective in ("modularity", "cpm"):
        seen.clear()
        fitted = leiden(4, objective=objective).fit(embedding)
        finer = min(
            (one for one in seen if one.n_clusters > 4), key=lambda one: one.n_clusters
        )
        assert fitted.n_clusters_ == 4
        assert fitted.n_merged_ == finer.n_clusters - 4 > 0
        assert fitted.resolution_ == finer.resolution
        unmerged = leiden(resolution=finer.resolution, objective=objective)
        unmerged.fit(embedding)
        # Every community is in one.
        pairs = {*zip(unmerged.labels_, fitted.labels_, strict=True)}
        assert len({a for a, b in pairs if b >= 0}) == unmerged.n_clusters_
        assert fitted.quality_ < unmerged.quality_
        assert fitted.quality_ == pytest.approx(unmerged.quality_, abs=0.05)


@pytest.mark.parametrize("small", ["attach", "noise", "keep"])
def test_small_communities_are_treated_before_they_are_counted(embedding, small):
    fitted = leiden(6, small_clusters=small, min_cluster_size=20).fit(embedding)
    assert fitted.n_clusters_ == 6
    if small != "keep":
        assert np.bincount(fitted.labels_[fitted.labels_ >= 0]).min() >= 20


@pytest.mark.parametrize("objective", ["modularity", "cpm", "rber"])
def test_objectives(embedding, objective):
    fitted = leiden(8, objective=objective).fit(embedding)
    assert fitted.n_clusters_ == 8


@pytest.mark.parametrize("place", ["on workers"], indirect=True)
def test_on_workers(embedding, place):
    fitted = leiden(7).fit(place(embedding))
    here = leiden(7).fit(embedding)
    assert_array_equal(fitted.labels_, here.labels_)
    assert fitted.resolution_ == here.resolution_
    np.testing.assert_array_equal(fitted.strength_, here.strength_)


def test_order_and_threads_change_nothing(embedding):
    fitted = leiden(9).fit(embedding)
    order = np.random.RandomState(3).permutation(400)
    for n_jobs in (1, 2):
        again = leiden(9, n_jobs=n_jobs).fit(embedding[order])
        assert again.resolution_ == fitted.resolution_
        assert_array_equal(again.labels_, fitted.labels_[order])
        assert_array_equal(again.strength_, fitted.strength_[order])


def test_fewer_than_there_are_components():
    X = np.repeat(np.eye(4), 10, axis=0)
    X += 1e-3 * np.random.RandomState(0).standard_normal(X.shape)
    message = (
        "n_clusters=2 is fewer than the 4 connected components of the graph of at "
        "least 5 rows, which no resolution joins: took 4, at resolution 1. Raise n_"
    )
    with pytest.warns(UserWarning, match=message):
        fitted = leiden(2, n_neighbors=5, hubness=None).fit(X)
    assert fitted.n_clusters_ == 4
    keep = leiden(3, n_neighbors=5, hubness=None, small_clusters="keep")
    with pytest.warns(UserWarning, match="components of the graph, which"):
        keep.fit(X)


def test_more_than_there_can_be(embedding):
    message = (
        r"No resolution gives n_clusters=300 communities of at least 5 rows: \S+ gives "
        r"\d+ and \S+ gives \d+; took \d+, at resolution \S+\. Choose a"
    )
    with pytest.warns(UserWarning, match=message) as told:
        fitted = leiden(300).fit(embedding)
    assert f"at resolution {fitted.resolution_:g}. Ch" in str(told[0].message)
    assert 30 < fitted.n_clusters_ < 300


@pytest.mark.parametrize("objective", ["modularity", "cpm", "rber"])
def test_more_than_there_are_rows(embedding, objective):
    message = (
        r"No resolution gives n_clusters=9999 comm.*took 400, at resolution \S+\. Ch"
    )
    alone = leiden(9999, small_clusters="keep", objective=objective)
    with pytest.warns(UserWarning, match=message):
        fitted = alone.fit(embedding)
    assert_array_equal(np.sort(fitted.labels_), np.arange(400))


@pytest.mark.parametrize("small", ["attach", "keep"])
def test_equal_rows_are_one_community(small):
    message = (
        r"No resolution gives n_clusters=3 .*: 1 gives 1; took 1, at resolution 1\."
    )
    with pytest.warns(UserWarning, match=message):
        fitted = leiden(3, small_clusters=small).fit(np.ones((30, 5)))
    assert_array_equal(fitted.labels_, np.zeros(30))


def test_nothing_to_find(embedding):
    with pytest.warns(UserWarning, match="No community has min_cluster_size=1000"):
        fitted = leiden(3, min_cluster_size=1000).fit(embedding)
    assert fitted.n_clusters_ == 0


@pytest.mark.parametrize("objective", ["surprise", "significance"])
def test_objectives_without_a_resolution(embedding, objective):
    message = f"'{objective}' has no resolution by which to find n_clusters=3 comm"
    with pytest.raises(ValueError, match=message):
        leiden(3, objective=objective).fit(embedding)


@pytest.mark.parametrize("n", [0, -1, 2.5, "all"])
def test_bad_numbers(embedding, n):
    with pytest.raises(ValueError, match="'n_clusters' parameter"):
        leiden(n).fit(embedding)


# --- with tools -----------------------------------------------------------------------


def test_grid_search(embedding):
    search = GridSearchCV(
        leiden(),
        {"n_clusters": [2, 4, 30]},
        scoring=make_stability_scorer(2, metrics=["stability", "n_clusters"]),
        cv=FullDataSplit(),
        refit="stability",
    ).fit(embedding)
    assert_array_equal(search.cv_results_["mean_test_n_clusters"], [2, 4, 30])
    assert search.best_estimator_.n_clusters_ == search.best_params_["n_clusters"]


def test_stable_leiden(stack):
    inner = make_pipeline(MultiLayerTfidfSketcher(layer_weights=None), leiden(6))
    stable = StableLeiden(inner, n_runs=2, random_state=0).fit(stack)
    assert stable.n_clusters_ == 6
    labels, strength = stable.predict(stack, return_strength=True)
    assert_array_equal(labels, stable.predict(stack))
    assert strength.shape == labels.shape


def test_profiles_sweep_resolutions_whatever_the_number(embedding):
    options = {"resolutions": [0.1, 1.0, 8.0], "n_runs": 2, "n_permutations": 0}
    one, other = (
        resolution_profile(clone(leiden(n)), embedding, **options) for n in (None, 3)
    )
    assert_array_equal(one.table["n_clusters"], other.table["n_clusters"])
    found = one.table["n_clusters"]
    assert found[0] < found[1] < found[2]
    for i in range(3):
        assert one.at(int(found[i])) == one.table["resolution"][i]
    message = rf"between {found[0]:g} and {found[2]:g}, which the sweep found; got 999"
    with pytest.raises(ValueError, match=message):
        one.at(999)
