"""The sweep over resolutions: its table, its choices, its null and its interruption."""

import os
import pickle
import sys
from itertools import combinations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import Pipeline, make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._kernels import leiden
from skleiden._stages.search import NeighborSearch
from skleiden.model_selection import (
    ResolutionProfile,
    _profile,
    consensus,
    permute_columns,
    resolution_profile,
)
from tests.children import run_script

COLUMNS = [
    "resolution",
    "n_runs",
    "n_clusters",
    "coverage",
    "largest_fraction",
    "modularity",
    "stability",
    "worst_pair",
    "net_information",
    "null",
    "above_null",
    "seconds",
]


def make(**parameters):
    """A pipeline with equal weights, which take no time to find."""
    return Pipeline(
        [
            ("sketch", MultiLayerTfidfSketcher(64, layer_weights=None)),
            ("leiden", MutualKNNLeiden(n_neighbors=20)),
        ]
    ).set_params(**parameters)


def same_table(one, other):
    for column in COLUMNS[:-1]:
        np.testing.assert_array_equal(one.table[column], other.table[column], column)


@pytest.fixture(scope="module")
def profile(stack):
    return resolution_profile(
        make(), stack, resolutions=[0.01, 1, 8, 1e5], n_runs=3, n_permutations=2
    )


def test_table(profile):
    assert isinstance(profile, ResolutionProfile)
    assert list(profile.table) == COLUMNS
    assert all(column.shape == (4,) for column in profile.table.values())
    table = profile.table
    np.testing.assert_array_equal(table["resolution"], [0.01, 1, 8, 1e5])
    np.testing.assert_array_equal(table["n_runs"], 3)
    assert table["n_clusters"][:2].tolist() == [1, 4]
    assert table["stability"][[0, 3]].tolist() == [0, 0]  # degenerate both
    assert table["above_null"][[0, 1, 3]].tolist() == [False, True, False]
    assert np.isnan(table["null"][[0, 3]]).all()
    assert (table["null"][1:3] < table["stability"][1:3]).all()
    assert (table["seconds"] > 0).all()
    assert (table["worst_pair"] <= table["stability"]).all()


def test_layers_as_a_mapping(stack):
    layers = dict(zip(stack.names, stack.layers, strict=True))
    options = {"resolutions": [0.01, 1], "n_runs": 2, "n_permutations": 1}
    expected = resolution_profile(make(), stack, **options)
    same_table(resolution_profile(make(), layers, **options), expected)


def test_choices(profile):
    assert profile.levels == [1.0]
    assert profile.best() == profile.best("stable") == 1.0
    with pytest.raises(ValueError, match=r"rule must be one of .*got 'finest'"):
        profile.best("finest")
    assert repr(profile) == (
        "<ResolutionProfile: 4 resolutions from 0.01 to 1e+05, levels at 1>"
    )


def test_partitions_and_consensus(profile, planted):
    labels = profile.partitions(profile.best())
    assert labels.shape == (3, 400)
    assert labels.dtype == np.int32
    assert adjusted_rand_score(planted, consensus(labels).labels) > 0.9
    with pytest.raises(ValueError, match=r"one of \[0.01, 1.0, 8.0, 1.*got 2.0"):
        profile.partitions(2.0)


def test_frame(profile, monkeypatch):
    frame = profile.to_frame()
    assert list(frame.columns) == COLUMNS
    assert frame["n_clusters"].tolist() == profile.table["n_clusters"].tolist()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas: pip install pandas"):
        profile.to_frame()


def test_profile_is_picklable(profile):
    again = pickle.loads(pickle.dumps(profile))
    same_table(profile, again)
    assert again.best() == profile.best()


def test_every_run_is_a_fit(stack):
    """With a sketch for each run, all seeds differ and runs are plain refits."""
    profile = resolution_profile(
        make(), stack, resolutions=[1, 4], n_runs=3, n_sketches=3, n_permutations=0
    )
    rng = np.random.RandomState(0)
    fixed = rng.randint(2**31 - 1, size=2)  # seeds of what would not vary
    assert fixed.shape == (2,)
    sketches = rng.randint(2**31 - 1, size=3)
    seeds = rng.randint(2**31 - 1, size=3)
    for resolution in (1.0, 4.0):
        fits = [
            make(
                sketch__random_state=sketch,
                leiden__random_state=seed,
                leiden__resolution=resolution,
            ).fit(stack)[-1]
            for sketch, seed in zip(sketches.tolist(), seeds.tolist(), strict=True)
        ]
        found = profile.partitions(resolution)
        for fitted, labels in zip(fits, found, strict=True):
            np.testing.assert_array_equal(labels, fitted.labels_)
        row = profile.table["resolution"] == resolution
        pairs = [
            adjusted_rand_score(a.labels_, b.labels_) for a, b in combinations(fits, 2)
        ]
        assert profile.table["stability"][row] == pytest.approx(np.mean(pairs))


def test_one_sketch_is_the_estimators_own(stack):
    pipeline = make(sketch__random_state=5)
    profile = resolution_profile(
        pipeline, stack, resolutions=[4], n_runs=2, n_permutations=0
    )
    embedding = pipeline["sketch"].fit_transform(stack)
    alone = resolution_profile(
        pipeline["leiden"],
        embedding,
        resolutions=[4],
        n_runs=2,
        n_permutations=0,
    )
    assert profile.table["coverage"] == pytest.approx(alone.table["coverage"], abs=0.1)
    seeds = np.random.RandomState(0)
    seeds.randint(2**31 - 1)  # holds Leiden's own seed, which varies all the same
    for labels, seed in zip(
        profile.partitions(4.0), seeds.randint(2**31 - 1, size=2).tolist(), strict=True
    ):
        fitted = clone(pipeline["leiden"]).set_params(random_state=seed, resolution=4)
        np.testing.assert_array_equal(labels, fitted.fit(embedding).labels_)


@pytest.mark.parametrize("n_sketches", [1, 2])
def test_processes_change_nothing(stack, n_sketches):
    profiles = [
        resolution_profile(
            make(),
            stack,
            resolutions=5,
            n_runs=3,
            n_sketches=n_sketches,
            n_permutations=1,
            n_jobs=n_jobs,
        )
        for n_jobs in (None, 2)
    ]
    same_table(*profiles)
    assert profiles[0].levels == profiles[1].levels


def test_graph_is_searched_and_handed_over_once(stack, monkeypatch):
    searches, networks = [], []
    search, network = NeighborSearch.run, leiden.network
    monkeypatch.setattr(
        NeighborSearch,
        "run",
        lambda self, *args: searches.append(1) or search(self, *args),
    )
    monkeypatch.setattr(
        leiden, "network", lambda *args: networks.append(1) or network(*args)
    )
    resolution_profile(make(), stack, resolutions=4, n_permutations=0)
    assert len(searches) == len(networks) == 1
    resolution_profile(
        make(),
        stack,
        resolutions=4,
        n_sketches=2,
        n_permutations=2,
    )
    assert len(searches) == len(networks) == 1 + 2 * 3


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"leiden__objective": "cpm"},
        {"leiden__objective": "rber"},
        {"leiden__small_clusters": "keep", "leiden__graph": "union"},
        {"leiden__small_clusters": "noise", "leiden__weights": "jaccard"},
    ],
)
def test_range_is_found(stack, planted, parameters):
    profile = resolution_profile(
        make(**parameters), stack, resolutions=8, n_runs=2, n_permutations=0
    )
    table = profile.table
    assert table["resolution"].shape == (8,)
    steps = np.diff(np.log(table["resolution"]))
    np.testing.assert_allclose(steps, steps[0])
    # From one community, or nearly, to mostly small ones; the planted four between.
    assert table["largest_fraction"][0] > 0.4
    assert table["coverage"][-1] < 0.6 or table["n_clusters"][-1] > 50
    found = profile.partitions(profile.best())[0]
    assert adjusted_rand_score(planted, found) > 0.7


def test_range_has_what_no_edge_joins():
    """Communities that are components are there at any low resolution."""
    rng = np.random.RandomState(0)
    labels = np.repeat(np.arange(3), 80)
    X = np.kron(np.eye(3), np.ones(8))[labels] + 0.1 * rng.standard_normal((240, 24))
    table = resolution_profile(
        MutualKNNLeiden(20), X, resolutions=8, n_runs=2, n_permutations=0
    ).table
    assert table["n_clusters"][:3].tolist() == [3, 3, 3]
    assert table["above_null"][:3].all()
    assert table["n_clusters"][-1] > 3


def test_range_without_anything_to_find():
    with pytest.raises(ValueError, match="None of 3 resolutions is more stable"):
        resolution_profile(
            MutualKNNLeiden(3), np.eye(12), resolutions=3, n_runs=2, n_permutations=0
        ).best()


def test_resolutions_are_sorted_and_distinct(stack):
    profile = resolution_profile(
        make(), stack, resolutions=(4, 1, 4.0), n_runs=2, n_permutations=0
    )
    assert profile.table["resolution"].tolist() == [1, 4]


# -------------------------------------------------------------------------------- null


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_sketches", [1, 4])
def test_no_resolution_is_stable_without_structure(stack, seed, n_sketches):
    nothing = permute_columns(stack, random_state=seed)
    profile = resolution_profile(
        make(), nothing, resolutions=8, n_runs=4, n_sketches=n_sketches
    )
    assert not profile.table["above_null"].any()
    assert profile.levels == []
    assert "none more stable than chance" in repr(profile)
    for rule in ("informative", "stable", "finest_stable"):
        with pytest.raises(ValueError, match="None of 8 resolutions is more stable"):
            profile.best(rule)


@pytest.mark.parametrize("seed", range(2))
def test_one_blob_is_told(seed):
    blob = np.random.RandomState(seed).normal(size=(400, 12))
    profile = resolution_profile(MutualKNNLeiden(15), blob, resolutions=8)
    assert not profile.table["above_null"].any()
    assert "none more stable than chance" in repr(profile)


def nested(n_coarse=5, n_fine=5, n_each=40):
    """Directions around 25 centres, which are around 5 centres."""
    rng = np.random.RandomState(0)
    coarse = np.repeat(np.arange(n_coarse), n_fine * n_each)
    fine = np.repeat(np.arange(n_coarse * n_fine), n_each)
    X = (
        rng.normal(size=(n_coarse, 60))[coarse]
        + 0.5 * rng.normal(size=(n_coarse * n_fine, 60))[fine]
        + 0.8 * rng.normal(size=(fine.size, 60))
    )
    return X, coarse, fine


def test_levels_are_the_scales_of_nested_communities():
    X, coarse, fine = nested()
    profile = resolution_profile(
        MutualKNNLeiden(40), X, resolutions=16, n_permutations=1
    )
    found = [consensus(profile.partitions(level)).labels for level in profile.levels]
    assert len(found) == 2
    assert adjusted_rand_score(coarse, found[0]) > 0.95
    assert adjusted_rand_score(fine, found[1]) > 0.9
    # What tells the most, and is still found again, is the fine one.
    assert profile.best() == profile.levels[1]
    assert profile.best("stable") <= profile.levels[0]
    assert profile.best("finest_stable") >= profile.levels[1]


# ------------------------------------------------------------------------ interruption


def interrupt_after(monkeypatch, n_resolutions):
    """Let the sweep's (n + 1)-th resolution be stopped by Ctrl-C."""
    done = []
    run = _profile._run_one

    def run_or_stop(*arguments):
        if len(done) == n_resolutions:
            raise KeyboardInterrupt
        done.append(1)
        return run(*arguments)

    monkeypatch.setattr(_profile, "_run_one", run_or_stop)


def test_interrupted_sweep_keeps_what_is_done(stack, monkeypatch):
    arguments = {"resolutions": [0.5, 1, 2, 4, 8], "n_runs": 2, "n_permutations": 1}
    whole = resolution_profile(make(), stack, **arguments)
    interrupt_after(monkeypatch, 3)
    with pytest.warns(UserWarning, match="Interrupted: the profile holds 3 of 5 resol"):
        part = resolution_profile(make(), stack, **arguments)
    # The ends and the middle first.
    assert part.table["resolution"].tolist() == [0.5, 2, 8]
    rows = [0, 2, 4]
    for column in ("n_clusters", "stability", "net_information"):
        np.testing.assert_array_equal(part.table[column], whole.table[column][rows])
    # Without a null nothing can be above it, which is not to say that nothing is there.
    assert not part.table["above_null"].any()
    assert "interrupted before its null" in repr(part)
    with pytest.raises(
        ValueError, match="interrupted before its null was done at 3 of"
    ):
        part.best()


def test_interrupted_in_the_null(stack, monkeypatch):
    interrupt_after(monkeypatch, 3 + 2)
    with pytest.warns(UserWarning, match="3 of 3 resolutions; .* or no null"):
        part = resolution_profile(
            make(), stack, resolutions=[1, 2, 4], n_runs=2, n_permutations=1
        )
    assert part.table["resolution"].tolist() == [1, 2, 4]
    assert part.table["above_null"].tolist() == [True, False, True]


def test_interrupted_with_fewer_sketches(stack, monkeypatch):
    interrupt_after(monkeypatch, 2 + 2 + 1)
    with pytest.warns(UserWarning, match="2 of 2 resolutions"):
        part = resolution_profile(
            make(),
            stack,
            resolutions=[1, 4],
            n_runs=3,
            n_sketches=3,
            n_permutations=0,
        )
    assert part.table["n_runs"].tolist() == [3, 2]


def test_interrupted_before_anything_is_done(stack, monkeypatch):
    interrupt_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        resolution_profile(make(), stack, resolutions=[1, 2])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_a_real_interrupt_stops_processes_and_keeps_the_rest():
    code, printed, error = run_script(
        """
        import os, signal, warnings
        from sklearn.pipeline import make_pipeline
        from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
        from skleiden.datasets import make_layered_activations
        from skleiden.model_selection import _profile, resolution_profile

        add, done = _profile._Sweep.add, []

        def add_and_interrupt(self, *arguments):
            add(self, *arguments)
            done.append(1)
            if len(done) == 3:
                os.kill(os.getpid(), signal.SIGINT)

        _profile._Sweep.add = add_and_interrupt
        warnings.simplefilter("ignore")
        # A process in the background may have been told to ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stack, _ = make_layered_activations(600, n_layers=2, random_state=0)
        profile = resolution_profile(
            make_pipeline(
                MultiLayerTfidfSketcher(layer_weights=None), MutualKNNLeiden()
            ),
            stack, resolutions=40, n_runs=3, n_jobs=2,
        )
        print(profile.table["resolution"].size)
        """,
        timeout=120,
    )
    assert code == 0, error
    assert 3 <= int(printed) < 40
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_a_killed_worker_leaves_what_is_done():
    """As the system does where memory is short."""
    code, printed, error = run_script(
        """
        import os, signal, warnings
        from sklearn.pipeline import make_pipeline
        from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
        from skleiden.datasets import make_layered_activations
        from skleiden.model_selection import resolution_profile

        class Fatal(MutualKNNLeiden):
            # At the finest resolution, which is swept late.
            def __setstate__(self, state):
                if state["resolution"] == 4.0:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().__setstate__(state)

        stack, _ = make_layered_activations(600, n_layers=2, random_state=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            profile = resolution_profile(
                make_pipeline(MultiLayerTfidfSketcher(layer_weights=None), Fatal()),
                stack, n_runs=3, resolutions=[i / 10 for i in range(1, 41)], n_jobs=2,
            )
        print(profile.table["resolution"].size)
        print([str(one.message) for one in caught if "died" in str(one.message)])
        """,
        timeout=120,
    )
    assert code == 0, error
    size, told = printed.splitlines()
    assert 2 <= int(size) < 40
    assert "A worker process died (too little memory, mostly): the profile" in told


def test_out_of_memory_leaves_what_is_done(stack, monkeypatch):
    from skleiden.model_selection import _profile

    add, done = _profile._Sweep.add, []

    def add_and_fail(self, *arguments):
        add(self, *arguments)
        done.append(1)
        if len(done) == 2:
            raise MemoryError("no room")

    monkeypatch.setattr(_profile._Sweep, "add", add_and_fail)
    with pytest.warns(UserWarning, match="Out of memory: the profile holds 2 of 4"):
        profile = resolution_profile(
            make(),
            stack,
            resolutions=[0.5, 1, 2, 4],
            n_runs=2,
        )
    assert profile.table["resolution"].size == 2


def test_progress_is_shown_only_if_asked(stack, capfd):
    arguments = {"resolutions": [1, 2], "n_runs": 2, "n_permutations": 1}
    resolution_profile(make(), stack, **arguments)
    assert capfd.readouterr().err == ""
    resolution_profile(make(), stack, verbose=1, **arguments)
    assert "4/4" in capfd.readouterr().err


# --------------------------------------------------------------------------- bad input


def test_precomputed_graph(embedding):
    graph = FaissKNeighborsTransformer(20).fit_transform(embedding)
    clusterer = MutualKNNLeiden(10, metric="precomputed")
    with pytest.raises(ValueError, match="can neither be permuted"):
        resolution_profile(clusterer, graph)
    profile = resolution_profile(clusterer, graph, resolutions=4, n_permutations=0)
    direct = resolution_profile(
        MutualKNNLeiden(10), embedding, resolutions=4, n_permutations=0
    )
    same_table(profile, direct)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resolutions": 1}, "'resolutions' parameter"),
        ({"resolutions": "many"}, "'resolutions' parameter"),
        ({"resolutions": []}, r"finite values above 0; got \[\]"),
        ({"resolutions": [1, 0]}, r"finite values above 0; got \[1, 0\]"),
        ({"resolutions": [1, "a"]}, r"finite values above 0; got \[1, 'a'\]"),
        ({"resolutions": [1, np.inf]}, r"finite values above 0; got \[1, inf\]"),
        ({"n_runs": 1}, "'n_runs' parameter"),
        ({"n_sketches": 0}, "'n_sketches' parameter"),
        ({"n_runs": 3, "n_sketches": 4}, "n_sketches must be at most n_runs=3; got 4"),
        ({"n_permutations": -1}, "'n_permutations' parameter"),
        ({"max_cluster_fraction": 2}, "'max_cluster_fraction' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
    ],
)
def test_bad_parameters(stack, parameters, message):
    with pytest.raises(ValueError, match=message):
        resolution_profile(make(), stack, **parameters)


def test_bad_estimators(embedding, stack):
    with pytest.raises(TypeError, match=r"needs a MutualKNNLeiden, .*got KMeans"):
        resolution_profile(make_pipeline(KMeans()), embedding)
    with pytest.raises(ValueError, match="'surprise' has no resolution to sweep"):
        resolution_profile(MutualKNNLeiden(objective="surprise"), embedding)
    with pytest.raises(
        ValueError, match="n_sketches=2 needs a step with a random_stat"
    ):
        resolution_profile(MutualKNNLeiden(), embedding, n_sketches=2)
    with pytest.raises(ValueError, match="'n_neighbors' parameter"):
        resolution_profile(MutualKNNLeiden(0), embedding)
    with pytest.raises(TypeError, match="got a LayerStack"):
        resolution_profile(MutualKNNLeiden(), stack)
