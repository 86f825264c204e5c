"""Splits, scorers and rules of choice, as scikit-learn's searches use them."""

import pickle
from collections import OrderedDict
from functools import partial
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._stages.search import NeighborSearch
from skleiden.datasets import load_prompt_activations
from skleiden.model_selection import (
    FullDataSplit,
    community_stability,
    make_prediction_stability_scorer,
    make_stability_scorer,
    permute_columns,
    select_finest_stable,
    select_informative,
    select_stable,
)

ALL_METRICS = [
    "stability",
    "worst_pair",
    "net_information",
    "shared_information",
    "null",
    "n_clusters",
    "coverage",
    "largest_fraction",
    "modularity",
]


def make(**parameters):
    """A pipeline with equal weights, which take no time to find."""
    return Pipeline(
        [
            ("sketch", MultiLayerTfidfSketcher(64, layer_weights=None)),
            ("leiden", MutualKNNLeiden(n_neighbors=20)),
        ]
    ).set_params(**parameters)


class FixedLabels(ClusterMixin, BaseEstimator):
    """Gives the labels of its seed's turn; counts its fits."""

    fits = 0

    def __init__(self, turns=None, random_state=None):
        self.turns = turns
        self.random_state = random_state

    def fit(self, X):
        type(self).fits += 1
        self.labels_ = np.asarray(self.turns[self.random_state % len(self.turns)])
        return self


# ------------------------------------------------------------------------------- split


def test_full_data_split(stack):
    split = FullDataSplit()
    assert split.get_n_splits() == split.get_n_splits(stack) == 1
    ((train, test),) = split.split(stack)
    np.testing.assert_array_equal(train, np.arange(400))
    np.testing.assert_array_equal(test, np.arange(400))
    # No copy of the data: the index of all rows gives the stack itself.
    assert stack[train] is stack
    assert repr(split) == "FullDataSplit()"


@pytest.mark.parametrize("routing", [False, True])
def test_split_wherever_scikit_learn_takes_one(stack, routing):
    scorer = make_stability_scorer(n_runs=2)
    with sklearn.config_context(enable_metadata_routing=routing):
        for search in (
            GridSearchCV(
                make(),
                {"leiden__resolution": [0.5, 1.0]},
                scoring=scorer,
                cv=FullDataSplit(),
            ),
            RandomizedSearchCV(
                make(),
                {"leiden__resolution": [0.5, 1.0]},
                n_iter=2,
                scoring=scorer,
                cv=FullDataSplit(),
                random_state=0,
            ),
        ):
            search.fit(stack)
            assert search.best_score_ > 0.5
            assert search.n_splits_ == 1
        scores = cross_val_score(
            make(),
            stack,
            scoring=scorer,
            cv=FullDataSplit(),
            params={},  # scikit-learn 1.6 needs some for its routing
        )
        assert scores.shape == (1,)
        found = cross_validate(
            make(),
            stack,
            scoring=make_stability_scorer(n_runs=2, metrics=["stability", "coverage"]),
            cv=FullDataSplit(),
            params={},
        )
        assert found["test_stability"] == scores
        assert found["test_coverage"] > 0.9


# ------------------------------------------------------------------------------ scorer


def reseeded(estimator, seeds):
    return clone(estimator).set_params(**seeds)


def test_stability_is_the_mean_of_refits_by_hand(stack):
    pipeline = make(leiden__resolution=2.0)
    seen = []

    scorer = make_stability_scorer(n_runs=3, metrics=ALL_METRICS[:4] + ALL_METRICS[5:])
    scores = scorer(pipeline, stack)
    rng = np.random.RandomState(0)
    rng.randint(2**31 - 1)  # seeds that hold what does not vary
    rng.randint(2**31 - 1)
    for _ in range(3):
        leiden, sketch = rng.randint(2**31 - 1), rng.randint(2**31 - 1)
        seeds = {"leiden__random_state": leiden, "sketch__random_state": sketch}
        seen.append(reseeded(pipeline, seeds).fit(stack)[-1])
    pairs = [
        adjusted_rand_score(a.labels_, b.labels_) for a, b in combinations(seen, 2)
    ]
    assert scores["stability"] == pytest.approx(np.mean(pairs))
    assert scores["worst_pair"] == pytest.approx(min(pairs))
    assert scores["n_clusters"] == np.mean([run.n_clusters_ for run in seen])
    assert scores["modularity"] == pytest.approx(
        np.mean([run.modularity_ for run in seen])
    )
    assert scores["largest_fraction"] == pytest.approx(
        np.mean([np.mean(run.labels_ == 0) for run in seen])
    )
    assert scores["coverage"] == pytest.approx(
        np.mean([np.mean((run.labels_ >= 0) & ~run.attached_) for run in seen])
    )


@pytest.mark.parametrize(
    "estimator",
    [
        MutualKNNLeiden(10, resolution=2.0),
        make_pipeline("passthrough", MutualKNNLeiden(10, resolution=2.0)),
        make_pipeline(StandardScaler(), make_pipeline(KMeans(5, n_init=1))),
        KMeans(5, n_init=1),
    ],
)
def test_any_clusterer(embedding, estimator):
    found = make_stability_scorer(n_runs=3, metrics=["stability", "modularity"])(
        estimator, embedding
    )
    assert 0 < found["stability"] <= 1
    assert np.isnan(found["modularity"]) == ("KMeans" in str(estimator))


def test_nested_pipelines_and_names(stack):
    inner = make()
    outer = Pipeline([("none", "passthrough"), ("inner", inner)])
    expected = make_stability_scorer(n_runs=3)(inner, stack)
    assert make_stability_scorer(n_runs=3)(outer, stack) == expected
    for vary in ("inner__leiden__random_state", ["inner__leiden__random_state"]):
        less = make_stability_scorer(n_runs=3, vary=vary)(outer, stack)
        assert less >= expected


def test_what_does_not_vary_is_held_fixed(stack):
    # The sketch's seed is None: without a fixed one the graph would differ each time.
    scorer = make_stability_scorer(n_runs=4, vary=["leiden__random_state"])
    scores = [scorer(make(leiden__resolution=8.0), stack) for _ in range(2)]
    assert scores[0] == scores[1]
    fixed = make(leiden__resolution=8.0, sketch__random_state=3)
    assert scorer(fixed, stack) == scorer(fixed, stack)


def test_runs_that_share_a_graph_search_once(stack, monkeypatch):
    fits, searches = [], []
    search, fit = NeighborSearch.run, MultiLayerTfidfSketcher.fit_transform
    monkeypatch.setattr(
        NeighborSearch,
        "run",
        lambda self, *args: searches.append(1) or search(self, *args),
    )
    monkeypatch.setattr(
        MultiLayerTfidfSketcher,
        "fit_transform",
        lambda self, *args, **kwargs: fits.append(1) or fit(self, *args, **kwargs),
    )
    make_stability_scorer(n_runs=4, vary="leiden__random_state")(make(), stack)
    assert len(searches) == len(fits) == 1
    make_stability_scorer(n_runs=4)(make(), stack)
    assert len(searches) == len(fits) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vary", "subsample", "n_jobs"),
    [
        ("all", None, 2),
        ("all", 0.7, -1),
        ("leiden__random_state", None, 2),
        ("leiden__random_state", 0.7, 2),
    ],
)
def test_processes_change_nothing(stack, vary, subsample, n_jobs):
    scores = [
        make_stability_scorer(
            n_runs=3, vary=vary, subsample=subsample, metrics=ALL_METRICS, n_jobs=jobs
        )(make(leiden__resolution=4.0), stack)
        for jobs in (None, n_jobs)
    ]
    assert scores[0] == scores[1]


def test_subsamples_are_compared_on_common_rows(planted):
    X = np.eye(4)[planted] + np.random.RandomState(0).normal(0, 0.1, (400, 4))
    scorer = make_stability_scorer(n_runs=3, subsample=0.5, vary=[])
    assert scorer(KMeans(4, random_state=0), X) == 1
    assert make_stability_scorer(n_runs=3, subsample=200)(KMeans(4), X) == 1
    assert scorer(DBSCAN(eps=0.5), X) == 1  # nothing but the rows can vary


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ("singletons", adjusted_rand_score([0, 0, 1, 1, 2, 3], [0, 0, 1, 2, 3, 1])),
        ("cluster", adjusted_rand_score([0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 2, 1])),
        ("drop", adjusted_rand_score([0, 0, 1], [0, 0, 1])),
    ],
)
def test_noise(noise, expected):
    turns = [[0, 0, 1, 1, -1, -1], [0, 0, 1, -1, -1, 1]]
    score = make_stability_scorer(
        n_runs=2, noise=noise, min_coverage=0, random_state=find_seed([0, 1])
    )(FixedLabels(turns), np.zeros((6, 1)))
    assert score == pytest.approx(expected)


def find_seed(turns):
    """A random state of the scorer that gives two-turn labels in this order."""
    for seed in range(1000):
        rng = np.random.RandomState(seed)
        rng.randint(2**31 - 1)
        if [rng.randint(2**31 - 1) % 2 for _ in turns] == turns:
            return seed
    raise AssertionError


def test_reuse_fit_counts_the_fitted_estimator():
    turns = [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]]
    fitted = FixedLabels(turns, random_state=0).fit(np.zeros((6, 1)))
    FixedLabels.fits = 0
    scorer = make_stability_scorer(n_runs=3, reuse_fit=True)
    scores = scorer(fitted, np.zeros((6, 1)))
    assert FixedLabels.fits == 2
    assert np.isfinite(scores)
    with pytest.raises(
        ValueError, match=r"fitted on 6 rows and X has 5; .*FullDataSpl"
    ):
        scorer(fitted, np.zeros((5, 1)))
    with pytest.raises(ValueError, match="reuse_fit=True takes a fit on all rows"):
        make_stability_scorer(reuse_fit=True, subsample=0.5)(fitted, np.zeros((6, 1)))


@pytest.mark.parametrize(
    ("labels", "parameters"),
    [
        ([0] * 10, {}),
        ([0] * 6 + [1] * 4, {}),
        ([0] * 10, {"max_cluster_fraction": 1.0}),
        (range(10), {}),
        (range(10), {"min_coverage": 0.0}),
        ([-1] * 10, {"min_coverage": 0.0, "min_clusters": 1}),
        ([0, 0, 1, 1] + [-1] * 6, {}),
        ([0, 0, 0, 1, 1, 1, 2, 2, 3, 3], {"min_clusters": 5}),
    ],
)
def test_degenerate_partitions_score_nothing(labels, parameters):
    estimator = FixedLabels([list(labels)])
    X = np.zeros((10, 1))
    assert make_stability_scorer(2, **parameters)(estimator, X) == 0
    scorer = make_stability_scorer(2, degenerate_score=-0.5, **parameters)
    assert scorer(estimator, X) == -0.5
    net = make_stability_scorer(2, metrics="net_information", **parameters)
    shared = make_stability_scorer(2, metrics="shared_information", **parameters)
    assert net(estimator, X) <= shared(estimator, X)
    assert net(estimator, X) < 0.9  # four pairs and two single rows, half confirmed


@pytest.mark.parametrize(
    ("labels", "parameters"),
    [
        ([0] * 6 + [1] * 4, {"max_cluster_fraction": 0.6}),
        ([0] * 10, {"max_cluster_fraction": 1.0, "min_clusters": 1}),
        ([0, 0, 1, 1] + [-1] * 6, {"min_coverage": 0.4}),
    ],
)
def test_the_guard_can_be_relaxed(labels, parameters):
    assert make_stability_scorer(2, **parameters)(
        FixedLabels([labels]), np.zeros((10, 1))
    ) == pytest.approx(1)


def test_null_of_real_structure_and_of_none(stack):
    scorer = make_stability_scorer(n_runs=3, metrics=["stability", "null"])
    found = scorer(make(), stack)
    assert found["stability"] > 0.8
    assert found["null"] < 0.3
    nothing = permute_columns(stack, random_state=0)
    found = scorer(make(), nothing)
    assert abs(found["stability"] - found["null"]) < 0.2


def test_scorers_are_picklable_and_shown(stack):
    for scorer in (
        make_stability_scorer(n_runs=2, metrics=["stability", "n_clusters"]),
        make_prediction_stability_scorer(["rand"]),
    ):
        again = pickle.loads(pickle.dumps(scorer))
        fitted = make(sketch__random_state=0, leiden__random_state=0).fit(stack[:200])
        assert again(fitted, stack) == scorer(fitted, stack)
        assert "make_" in repr(scorer)


def test_a_generator_as_random_state_moves_on(stack):
    scorer = make_stability_scorer(n_runs=2, random_state=np.random.RandomState(0))
    pipeline = make(leiden__resolution=8.0)
    assert scorer(pipeline, stack) != scorer(pipeline, stack)


def test_seconds(embedding):
    found = make_stability_scorer(2, metrics="seconds")(MutualKNNLeiden(10), embedding)
    assert found > 0


# ----------------------------------------------------------------------------- choices


def test_select_stable():
    scores = np.array([np.nan, 0.4, 0.9, 0.9])
    assert select_stable()({"mean_test_score": scores}) == 2
    results = {"mean_test_stability": scores, "mean_test_score": scores[::-1]}
    assert select_stable()(results) == 2


def test_select_informative():
    results = {"mean_test_net_information": [0.5, np.nan, 1.5], "mean_test_score": [9]}
    assert select_informative()(results) == 2


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (select_stable, 0.9),
        (select_stable(), 0.9),
        (select_informative, 0.9),
        (select_informative(), 0.9),
        (select_finest_stable, 0.9),
        (select_finest_stable(), 0.9),
        (select_finest_stable(tolerance=0.1), 0.85),
    ],
    ids=range(7),
)
def test_refit_takes_choices_with_and_without_arguments(embedding, select, expected):
    def score(estimator, X):
        stability = estimator.get_params()["resolution"]
        n_clusters = 10 - stability
        return {
            "stability": stability,
            "n_clusters": n_clusters,
            "net_information": stability,
        }

    search = GridSearchCV(
        MutualKNNLeiden(5, random_state=0),
        {"resolution": [0.3, 0.85, 0.9]},
        scoring=score,
        cv=FullDataSplit(),
        refit=pickle.loads(pickle.dumps(select)),
    )
    assert clone(search).fit(embedding).best_params_ == {"resolution": expected}


@pytest.mark.parametrize("select", [select_stable, select_finest_stable])
def test_choices_take_options_by_name(select):
    with pytest.raises(
        TypeError, match=r"cv_results_ of a search; got 0\.1\. Give opt"
    ):
        select(0.1)


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 0), (0.05, 2), (0.6, 3)])
def test_select_finest_stable(tolerance, expected):
    results = {
        "mean_test_stability": [0.9, 0.86, 0.88, 0.4, np.nan],
        "mean_test_n_clusters": [3, 8, 8, 20, 50],
    }
    assert select_finest_stable(tolerance=tolerance)(results) == expected


@pytest.mark.parametrize(
    ("select", "results", "message"),
    [
        (
            select_stable(),
            {"mean_test_rand": [1]},
            r"no stability; .*\['mean_test_rand'",
        ),
        (select_informative(), {}, "no net_information; score with make_stab"),
        (
            select_stable(),
            {"mean_test_score": [np.nan] * 2},
            "None of the 2 candidates",
        ),
        (
            select_finest_stable(),
            {"mean_test_score": [1.0]},
            "needs the number of comm",
        ),
    ],
)
def test_results_without_what_is_needed(select, results, message):
    with pytest.raises(ValueError, match=message):
        select(results)


def test_bad_tolerance():
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\); got 1.5"):
        select_finest_stable(tolerance=1.5)


def test_nothing_stable_is_told():
    with pytest.warns(
        UserWarning, match="highest stability of 2 candidates is 0: none"
    ):
        assert select_stable()({"mean_test_score": [0.0, 0.0]}) == 0


@pytest.mark.slow
def test_choice_on_real_activations_is_close_to_the_best():
    """No labels seen, and nothing lost for it, though all but the best lose much."""
    X, themes = load_prompt_activations(return_X_y=True)
    rows = np.sort(np.random.RandomState(0).permutation(themes.size)[:400])
    found = [0.1, 0.002, 0.003, 0.002, 0.014, 1.0]  # by "auto", of all rows
    pipeline = Pipeline(
        [
            ("sketch", MultiLayerTfidfSketcher(random_state=0)),
            ("leiden", MutualKNNLeiden(random_state=0)),
        ]
    )
    score = make_stability_scorer(
        2, vary=["all", "neurons"], metrics="shared_information"
    )

    def score_beside_agreement(fitted, X):
        agreement = adjusted_mutual_info_score(themes[rows], fitted[-1].labels_)
        return {"score": score(fitted, X), "agreement": agreement}

    results = (
        GridSearchCV(
            pipeline,
            [
                {"sketch__layer_weights": [found], "leiden__n_neighbors": [15, 40]},
                {
                    "sketch__layer_weights": [None],
                    "sketch__weighting": ["auto", "zscore"],
                    "sketch__power": [1.0, 0.5],
                    "leiden__n_neighbors": [15, 40],
                },
            ],
            scoring=score_beside_agreement,
            cv=FullDataSplit(),
            refit=False,
        )
        .fit(X[rows])
        .cv_results_
    )
    agreement = results["mean_test_agreement"]
    chosen = agreement[np.argmax(results["mean_test_score"])]
    assert chosen > max(agreement) - 0.03
    assert np.sum(agreement > max(agreement) - 0.03) == 1  # else any would do


@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_degenerate_resolutions_never_win(stack, planted, n_jobs):
    scorer = make_stability_scorer(
        n_runs=3, metrics=["stability", "net_information", "n_clusters"]
    )
    search = GridSearchCV(
        make(),
        {"leiden__resolution": [1e-4, 1e-2, 1.0, 20.0, 100.0, 1e6]},
        scoring=scorer,
        cv=FullDataSplit(),
        refit=select_stable(),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(stack)
    assert search.best_params_ == {"leiden__resolution": 1.0}
    for select in (select_informative(), select_finest_stable()):
        assert select(search.cv_results_) == search.best_index_
    found = search.best_estimator_[-1].labels_
    assert adjusted_rand_score(found, planted) > 0.9
    assert search.cv_results_["mean_test_stability"][0] == 0


def test_repeated_rows_do_not_make_a_fine_resolution_win(embedding):
    # 60 rows three times each stay together at any resolution, and agree perfectly.
    X = np.concatenate([embedding, np.repeat(embedding[:60], 2, axis=0)])
    for small in ("keep", "attach", "noise"):
        clusterer = MutualKNNLeiden(10, min_cluster_size=3, small_clusters=small)
        scorer = make_stability_scorer(3, metrics=["stability", "net_information"])
        fine = scorer(clusterer.set_params(resolution=1e5), X)
        useful = scorer(clusterer.set_params(resolution=1.0), X)
        assert fine["stability"] == 0
        assert fine["net_information"] < useful["net_information"]


def test_graph_is_computed_once_in_a_search(stack, tmp_path, monkeypatch):
    searches = []
    search = NeighborSearch.run
    monkeypatch.setattr(
        NeighborSearch,
        "run",
        lambda self, *args: searches.append(1) or search(self, *args),
    )
    pipeline = Pipeline(
        [
            ("sketch", MultiLayerTfidfSketcher(16, layer_weights=None, random_state=0)),
            ("graph", FaissKNeighborsTransformer(20)),
            ("leiden", MutualKNNLeiden(10, metric="precomputed")),
        ],
        memory=str(tmp_path),
    )
    grid = {"leiden__resolution": [0.5, 1.0, 2.0]}
    scorer = make_stability_scorer(n_runs=3, vary=["leiden__random_state"])
    # Above a memory, a random state of None would be another input each time.
    pipeline.set_params(graph__random_state=0, leiden__random_state=0)
    cached = GridSearchCV(pipeline, grid, scoring=scorer, cv=FullDataSplit()).fit(stack)
    assert len(searches) == 1
    direct = GridSearchCV(
        Pipeline(
            [
                ("sketch", pipeline["sketch"]),
                ("leiden", MutualKNNLeiden(10, random_state=0)),
            ]
        ),
        grid,
        scoring=scorer,
        cv=FullDataSplit(),
    ).fit(stack)
    np.testing.assert_array_equal(
        cached.cv_results_["mean_test_score"], direct.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(
        cached.best_estimator_[-1].labels_, direct.best_estimator_[-1].labels_
    )


# -------------------------------------------------------------------------- prediction


def test_prediction_stability_over_folds(stack):
    pipeline = make(sketch__random_state=0, leiden__random_state=0)
    metrics = ["prediction_strength", "agreement", "rand", "n_clusters"]
    for cv in (KFold(2), ShuffleSplit(2, test_size=0.5, random_state=0)):
        found = cross_validate(
            pipeline,
            stack,
            scoring=make_prediction_stability_scorer(metrics),
            cv=cv,
            n_jobs=2,
        )
        for name in metrics[:3]:
            assert (found[f"test_{name}"] > 0.7).all()
            assert (found[f"test_{name}"] <= 1).all()
        assert (found["test_n_clusters"] == 4).all()


def test_prediction_strength_by_hand():
    class Predicts(FixedLabels):
        def predict(self, X):
            return np.array([0, 0, 1, 2, 2, 2])

    estimator = Predicts([[0, 0, 0, 1, 1, 1]]).set_params(random_state=0)
    X = np.zeros((6, 1))
    estimator.fit(X)
    score = make_prediction_stability_scorer(
        ["prediction_strength", "agreement", "rand"]
    )(estimator, X)
    assert score["prediction_strength"] == pytest.approx(1 / 3)
    assert score["agreement"] == pytest.approx(5 / 6)
    assert score["rand"] == pytest.approx(
        adjusted_rand_score([0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 2, 2])
    )
    Predicts.turns = None
    one = Predicts([[0] * 6], random_state=0).fit(X)
    assert make_prediction_stability_scorer(degenerate_score=-1)(one, X) == -1


# ------------------------------------------------------------------------- communities


def test_community_stability_tells_blobs_from_a_divided_one():
    rng = np.random.RandomState(0)
    # Two tight groups of directions, and one broad one that K-means cuts in two.
    X = np.concatenate(
        [
            rng.normal([10, 0, 0], 0.1, (100, 3)),
            rng.normal([0, 10, 0], 0.1, (100, 3)),
            rng.normal([0, 0, 10], 3, (200, 3)),
        ]
    )
    fitted = KMeans(4, n_init=1, random_state=3).fit(X)
    stability = community_stability(fitted, X, n_runs=10, subsample=0.5)
    assert stability.shape == (4,)
    tight = [fitted.labels_[0], fitted.labels_[100]]
    cut = np.setdiff1d(range(4), tight)
    assert stability[tight].min() > stability[cut].max()
    jobs = community_stability(fitted, X, n_runs=10, subsample=0.5, n_jobs=2)
    np.testing.assert_array_equal(stability, jobs)


def test_community_stability_is_hennigs_mean_of_jaccards():
    labels, clone_labels = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 1, 1])
    found = community_stability(
        FixedRows(clone_labels, labels), np.arange(6.0)[:, None], n_runs=30
    )
    rng = np.random.RandomState(0)
    rng.randint(2**31 - 1, size=1 + 30)  # the seeds
    jaccards = []
    for _ in range(30):
        rows = set(rng.permutation(6)[:5].tolist())
        jaccards.append(
            [
                max(
                    len(own & other & rows) / len((own | other) & rows)
                    for other in ({0, 1}, {2, 3, 4, 5})
                )
                for own in ({0, 1, 2}, {3, 4})
            ]
        )
    np.testing.assert_allclose(found, np.mean(jaccards, axis=0))


class FixedRows(ClusterMixin, BaseEstimator):
    """Labels a row by its number, the only feature."""

    def __init__(self, of_row=None, labels=None, random_state=None):
        self.of_row = of_row
        self.labels = labels
        self.random_state = random_state
        self.labels_ = labels

    def fit(self, X, y=None):
        self.labels_ = np.asarray(self.of_row)[X[:, 0].astype(int)]
        return self


def test_community_stability_of_a_pipeline(stack):
    fitted = make(sketch__random_state=0, leiden__random_state=0).fit(stack)
    found = community_stability(fitted, stack, n_runs=4, n_jobs=2)
    assert found.shape == (fitted[-1].n_clusters_,)
    assert (found > 0.7).all()
    with pytest.raises(ValueError, match="fitted on 400 rows and X has 300"):
        community_stability(fitted, stack[:300])


# -------------------------------------------------------------------------------- null


def test_permute_columns_takes_every_form(stack):
    named = LayerStack(stack.layers, names=["a", "b", "c"], ids=np.arange(400))
    permuted = permute_columns(named, random_state=0)
    assert permuted.names == named.names
    np.testing.assert_array_equal(permuted.ids, named.ids)
    again = permute_columns(named, random_state=0)
    for one, other, before in zip(
        permuted.layers, again.layers, named.layers, strict=True
    ):
        assert (one != other).nnz == 0
        assert (one != before).nnz > 0
        np.testing.assert_allclose(one.sum(axis=0), before.sum(axis=0), rtol=1e-5)
    assert permute_columns(dict(zip("ab", stack.layers, strict=False))).names == (
        "a",
        "b",
    )
    for mapping in (MappingProxyType, OrderedDict):
        layers = mapping(dict(zip("ab", stack.layers, strict=False)))
        assert permute_columns(layers).names == ("a", "b")
    wide = sp.hstack(stack.layers).tocsc()
    assert permute_columns(wide).shape == wide.shape
    few = sp.csr_array(([1.0], ([0], [0])), shape=(50, 3))
    assert permute_columns(few).shape == (50, 3)
    dense = np.arange(12, dtype=np.float16).reshape(4, 3)
    assert permute_columns(dense).dtype == np.float16
    with pytest.raises(ValueError, match="Expected 2D array"):
        permute_columns([1, 2, 3])


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_runs": 1}, "'n_runs' parameter"),
        ({"vary": 3}, "'vary' parameter"),
        ({"subsample": 1.0}, "'subsample' parameter"),
        ({"subsample": 1}, "'subsample' parameter"),
        ({"noise": "ignore"}, "'noise' parameter"),
        ({"min_clusters": 0}, "'min_clusters' parameter"),
        ({"max_cluster_fraction": 0}, "'max_cluster_fraction' parameter"),
        ({"min_coverage": 1.5}, "'min_coverage' parameter"),
        ({"degenerate_score": 2}, "'degenerate_score' parameter"),
        ({"metrics": "ami"}, "'metrics' parameter"),
        (
            {"metrics": ["stability", "ami"]},
            r"metrics must be among .*got \['stability'",
        ),
        ({"metrics": []}, r"metrics must be among .*got \[\]"),
        ({"reuse_fit": 1}, "'reuse_fit' parameter"),
        ({"n_jobs": "two"}, "'n_jobs' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
    ],
)
def test_bad_scorer_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_stability_scorer(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"metrics": "stability"}, "'metrics' parameter"),
        ({"metrics": ["stability"]}, r"metrics must be among .*prediction_strength"),
        ({"noise": 0}, "'noise' parameter"),
        ({"vary": None}, "'vary' parameter"),
    ],
)
def test_bad_prediction_scorer_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_prediction_stability_scorer(**parameters)


def test_what_cannot_be_scored(embedding, stack):
    scorer = make_stability_scorer(n_runs=2)
    with pytest.raises(ValueError, match=r"Nothing varies .* DBSCAN: it has no param"):
        scorer(DBSCAN(), embedding)
    with pytest.raises(ValueError, match=r"vary names no parameter\. Set subsample"):
        make_stability_scorer(vary=[])(MutualKNNLeiden(), embedding)
    with pytest.raises(ValueError, match=r"got \['leiden'\], but Pipeline has \['leid"):
        make_stability_scorer(vary="leiden")(make(), stack)
    with pytest.raises(
        TypeError, match=r"labels_ after fit; MultiLayerTfidfSketcher has"
    ):
        scorer(MultiLayerTfidfSketcher(), stack)
    with pytest.raises(ValueError, match=r"of 2 rows have [01] in common, too few"):
        make_stability_scorer(subsample=2)(
            MutualKNNLeiden(small_clusters="keep"), embedding
        )
    with pytest.raises(ValueError, match="subsample=500 takes 500 of 400 rows"):
        make_stability_scorer(subsample=500)(MutualKNNLeiden(), embedding)
    graph = FaissKNeighborsTransformer(10).fit_transform(embedding)
    clusterer = MutualKNNLeiden(10, metric="precomputed").fit(graph)
    assert scorer(clusterer, graph) > 0
    with pytest.raises(ValueError, match=r"MutualKNNLeiden takes a precomputed graph"):
        make_stability_scorer(metrics="null")(clusterer, graph)
    with pytest.raises(ValueError, match=r"MutualKNNLeiden takes a precomputed graph"):
        make_prediction_stability_scorer()(clusterer, graph)
    with pytest.raises(TypeError, match=r"with predict; DBSCAN has none"):
        make_prediction_stability_scorer(vary=[])(DBSCAN().fit(embedding), embedding)
    with pytest.raises(TypeError, match=r"MutualKNNLeiden has none\. Fit it first"):
        community_stability(make(), stack)
    with pytest.raises(TypeError, match="StandardScaler has none"):
        community_stability(StandardScaler().fit(embedding), embedding)


def test_layers_as_a_mapping(stack):
    layers = dict(zip(stack.names, stack.layers, strict=True))
    fitted = make(sketch__random_state=0, leiden__random_state=0).fit(stack)
    ((rows, _),) = FullDataSplit().split(layers)
    assert rows.size == 400
    for function in (
        make_stability_scorer(2, subsample=0.8, metrics=["stability", "null"]),
        make_stability_scorer(2, reuse_fit=True),
        make_prediction_stability_scorer(),
        partial(community_stability, n_runs=2),
    ):
        expected = function(fitted, stack)
        np.testing.assert_equal(function(fitted, layers), expected)


def test_nulls_are_the_same_in_any_form(stack):
    """A wide matrix and its layers, sparse ones, too, of any dtype."""
    dense = LayerStack([layer.toarray() for layer in stack.layers], names=stack.names)
    shuffled = permute_columns(dense, random_state=0)
    wide = permute_columns(np.hstack(dense.layers), random_state=0)
    np.testing.assert_array_equal(np.hstack(shuffled.layers), wide)
    objects = permute_columns(np.hstack(dense.layers).astype(object), random_state=0)
    np.testing.assert_array_equal(objects, wide)
    sparse = permute_columns(stack, random_state=0)
    of_wide = permute_columns(sp.hstack(stack.layers, format="csr"), random_state=0)
    assert (sp.hstack(sparse.layers, format="csr") != of_wide).nnz == 0


@pytest.mark.parametrize("wrap", [lambda X: X, lambda X: LayerStack([X])])
def test_entries_of_one_place_are_shuffled_as_their_sum(wrap):
    twice = sp.csr_array((np.ones(4), [0] * 4, [0, 2, 4, 4, 4]), shape=(4, 1))
    found = permute_columns(wrap(twice), random_state=0)
    found = found.layers[0] if isinstance(found, LayerStack) else found
    assert sorted(found.toarray().ravel()) == [0, 0, 2, 2]


def test_subsamples_of_an_array_in_a_file(stack, tmp_path):
    zarr = pytest.importorskip("zarr")
    X = stack.layers[0].toarray()
    array = zarr.open_array(
        tmp_path / "x.zarr", mode="w", shape=X.shape, dtype=X.dtype, chunks=(50, 300)
    )
    array[:] = X
    made = make_pipeline(
        MultiLayerTfidfSketcher(16, random_state=0), MutualKNNLeiden(10, random_state=0)
    ).fit(X)
    np.testing.assert_array_equal(
        community_stability(made, array, n_runs=2, random_state=0),
        community_stability(made, X, n_runs=2, random_state=0),
    )
