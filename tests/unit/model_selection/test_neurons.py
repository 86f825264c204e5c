"""Runs that see halves of each layer's neurons, wherever X is stored."""

import pickle
import tracemalloc
from itertools import pairwise

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks.sources import KeptColumns, keep_columns, source_of
from skleiden.model_selection import (
    StableLeiden,
    _runs,
    community_stability,
    consensus,
    make_prediction_stability_scorer,
    make_stability_scorer,
    permute_columns,
    resolution_profile,
)

METRICS = ["stability", "worst_pair", "net_information", "n_clusters", "modularity"]


def make(**parameters):
    """A pipeline with equal weights, which take no time to find."""
    sketcher = MultiLayerTfidfSketcher(64, layer_weights=None, random_state=3)
    return Pipeline(
        [
            ("sketch", sketcher),
            ("leiden", MutualKNNLeiden(n_neighbors=20, random_state=4)),
        ]
    ).set_params(**parameters)


def dense(stack):
    return np.concatenate([layer.toarray() for layer in stack.layers], axis=1)


def masks_of(widths, n_runs, seed=0, seeds_drawn=0):
    """The halves that `n_runs` runs see, as the scorers draw them."""
    rng = np.random.RandomState(seed)
    for _ in range(seeds_drawn):
        rng.randint(2**31 - 1)
    return _runs.draw_halves(widths, n_runs, rng)


def zeroed(stack, mask):
    """A stack in memory with zeros where the mask is false."""
    starts = np.cumsum([0, *stack.widths])
    layers = [
        layer.toarray() * mask[a:b]
        for layer, (a, b) in zip(stack.layers, pairwise(starts), strict=True)
    ]
    return LayerStack(layers, names=stack.names)


# ------------------------------------------------------------------------------- halves


@pytest.mark.parametrize("widths", [(8, 6), (7, 1, 3), (2,), (1, 2)])
def test_halves_are_of_each_layer_and_disjoint_in_turn(widths):
    masks = masks_of(widths, 5)
    assert len(masks) == 5
    starts = np.cumsum([0, *widths])
    for one, other in ((0, 1), (2, 3)):
        for width, start in zip(widths, starts, strict=False):
            first = masks[one][start : start + width]
            second = masks[other][start : start + width]
            assert (first | second).all()
            assert (first & second).any() == (width == 1)
            assert first.sum() == (width + 1) // 2
            assert second.sum() == max(width // 2, 1)


def test_each_column_is_seen_as_often():
    masks = masks_of((10, 30), 2000)
    np.testing.assert_allclose(np.mean(masks, axis=0), 0.5)
    assert len({mask.tobytes() for mask in masks[::2]}) > 900
    # Independent of one another, in and between layers.
    np.testing.assert_allclose(np.corrcoef(np.array(masks[::2]).T)[0, 10:], 0, atol=0.2)


# ----------------------------------------------------------------------------- scoring


def test_scores_are_those_of_fits_by_hand(stack):
    # The weights of layers, too, are those of the half.
    pipeline = make(sketch__layer_weights="auto")
    runs = [
        clone(pipeline).fit(zeroed(stack, mask))[-1].labels_
        for mask in masks_of(stack.widths, 3)
    ]
    found = make_stability_scorer(3, vary="neurons", metrics=METRICS)(pipeline, stack)
    by_hand = consensus(runs)
    assert found["stability"] == pytest.approx(by_hand.stability)
    assert found["worst_pair"] == by_hand.scores.min()
    assert found["stability"] < 1  # halves are not the same


def test_seeds_are_held_unless_they_vary_too(stack):
    alone, both, named = (
        make_stability_scorer(4, vary=vary, metrics=METRICS)(make(), stack)
        for vary in ("neurons", ["neurons", "all"], ["neurons", "leiden__random_state"])
    )
    assert alone != both != named != alone
    names = ["leiden__random_state", "sketch__random_state"]
    assert make_stability_scorer(4, vary=["neurons", *names], metrics=METRICS)(
        make(), stack
    ) == pytest.approx(both, abs=0.3)
    # States that are None are held at a seed of their own, one for all runs.
    free = make(sketch__random_state=None, leiden__random_state=None)
    scorer = make_stability_scorer(4, vary="neurons", metrics=METRICS)
    assert scorer(free, stack) == scorer(free, stack)


def in_file(layer, path):
    mapped = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=layer.shape
    )
    mapped[:] = layer
    mapped.flush()
    return np.load(path, mmap_mode="r")


def stored(kind, layer, folder):
    """A layer of zeros and float32 numbers, stored in some way."""
    layer = layer.toarray().astype(np.float32)
    path = folder / f"{layer.sum()}"
    if kind == "dense":
        return layer
    if kind == "CSR":
        return sp.csr_matrix(layer)
    if kind == "CSR of 64 bits":
        wide = sp.csr_array(layer)
        wide.indices, wide.indptr = (
            wide.indices.astype(np.int64),
            wide.indptr.astype(np.int64),
        )
        return wide
    if kind == "memory map":
        return in_file(layer, path.with_suffix(".npy"))
    if kind == "frame":
        pd = pytest.importorskip("pandas")
        return pd.DataFrame(layer, columns=[f"n{i}" for i in range(layer.shape[1])])
    if kind == "Zarr":
        zarr = pytest.importorskip("zarr")
        return zarr.create_array(store=path, data=layer, chunks=(100, layer.shape[1]))
    if kind == "HDF5":
        h5py = pytest.importorskip("h5py")
        return h5py.File(path, "w").create_dataset("x", data=layer, chunks=(100, 50))
    torch = pytest.importorskip("torch")
    kinds = {"tensor": torch.float32, "tensor of 16 bits": torch.bfloat16}
    return torch.from_numpy(layer).to(kinds[kind])


KINDS = ["CSR", "CSR of 64 bits", "memory map", "frame", "Zarr", "HDF5", "tensor"]


@pytest.fixture(scope="module")
def whole_numbers(stack):
    """The stack with numbers that every dtype holds, and its scores."""
    layers = [sp.csr_array(np.ceil(layer.toarray())) for layer in stack.layers]
    stack = LayerStack(layers, names=stack.names)
    expected = [
        make().fit(zeroed(stack, mask))[-1].labels_
        for mask in masks_of(stack.widths, 2)
    ]
    return stack, adjusted_rand_score(*expected)


@pytest.mark.parametrize("kind", ["dense", *KINDS, "tensor of 16 bits"])
def test_halves_wherever_layers_are_stored(kind, whole_numbers, tmp_path):
    stack, expected = whole_numbers
    X = {
        name: stored(kind, layer, tmp_path)
        for name, layer in zip(stack.names, stack.layers, strict=True)
    }
    scorer = make_stability_scorer(2, vary="neurons")
    assert scorer(make(), X) == pytest.approx(expected)
    assert scorer(make(), LayerStack(X)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["dense", *KINDS])
def test_halves_of_the_layers_of_one_matrix(kind, whole_numbers, tmp_path):
    stack, expected = whole_numbers
    X = stored(kind, sp.csr_array(dense(stack)), tmp_path)
    pipeline = make(sketch__layers=dict(zip(stack.names, stack.widths, strict=True)))
    scorer = make_stability_scorer(2, vary="neurons")
    assert scorer(pipeline, X) == pytest.approx(expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_halves_on_workers(sparse, whole_numbers, place):
    stack, expected = whole_numbers
    if not sparse:
        stack = LayerStack(
            [layer.toarray() for layer in stack.layers], names=stack.names
        )
    scorer = make_stability_scorer(2, vary="neurons")
    assert scorer(make(), place(stack)) == pytest.approx(expected)


def test_halves_of_chunks_of_columns(workers):
    da = pytest.importorskip("dask.array")
    X = np.arange(1.0, 61.0).reshape(6, 10)
    kept = np.arange(10) % 3 == 0
    found = keep_columns(da.from_array(X, chunks=(2, 4)), kept, lazily=True)
    np.testing.assert_array_equal(found.compute(), X * kept)


@pytest.mark.parametrize("n_jobs", [2])
@pytest.mark.parametrize("subsample", [None, 0.8])
def test_processes_change_nothing(stack, n_jobs, subsample):
    one, several = (
        make_stability_scorer(
            3,
            vary=["all", "neurons"],
            subsample=subsample,
            metrics=[*METRICS, "null"],
            n_jobs=jobs,
        )(make(), stack)
        for jobs in (None, n_jobs)
    )
    assert one == several
    assert one["null"] < 0.2 < one["stability"]


def test_vectors_without_layers(embedding, planted):
    """One layer, of which whatever is not ours gets a half in memory."""
    masks = masks_of((embedding.shape[1],), 2)
    halves = [embedding * mask for mask in masks]
    kmeans = KMeans(4, n_init=1, random_state=0)
    for estimator in (
        MutualKNNLeiden(20, random_state=0),
        kmeans,
        make_pipeline(StandardScaler(), kmeans),
    ):
        labels = [clone(estimator).fit_predict(half) for half in halves]
        found = make_stability_scorer(2, vary="neurons")(estimator, embedding)
        assert found == pytest.approx(adjusted_rand_score(*labels))
    lists = make_stability_scorer(2, vary="neurons")(kmeans, embedding.tolist())
    assert lists > 0.5


def test_deterministic_clusterers_can_be_asked(embedding):
    """Where no random state varies, halves do."""
    from sklearn.cluster import DBSCAN

    scorer = make_stability_scorer(2, vary="neurons", metrics="n_clusters")
    assert scorer(DBSCAN(eps=0.5), embedding) >= 0


# ------------------------------------------------------------------------------ sources


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.bool_])
@pytest.mark.parametrize("sparse", [False, True])
def test_columns_left_out_read_as_zeros(dtype, sparse):
    if sparse and dtype is np.float16:
        pytest.skip("SciPy has no sparse matrices of float16")
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 3, (20, 7)) - (dtype is not np.bool_)).astype(dtype)
    kept = np.array([1, 0, 1, 0, 0, 1, 1], dtype=bool)
    matrix = sp.csr_array(X) if sparse else X
    source = KeptColumns(matrix, kept)
    assert source.matrix is matrix  # nothing is copied until it is read
    expected = np.where(kept, X, X.dtype.type(0))
    for found, rows in (
        (source.whole(), slice(None)),
        (source.read(slice(3, 9)), slice(3, 9)),
        (source.select(np.array([5, 1])).whole(), [5, 1]),
    ):
        assert found.dtype == X.dtype == source.dtype
        assert sp.issparse(found) == sparse
        found = found.toarray() if sparse else found
        np.testing.assert_array_equal(found, expected[rows])
    again = pickle.loads(
        pickle.dumps(LayerStack._from_valid([source], ("a",), None, ()))
    )
    np.testing.assert_array_equal(source_of(again.layers[0]).kept, kept)


def test_a_cache_knows_halves_apart(stack, tmp_path):
    masks = masks_of(stack.widths, 2)
    one, other = (_runs.seen(make(), stack, mask) for mask in masks)
    before = joblib.hash(one)
    assert before != joblib.hash(other)
    make().fit(one)
    assert joblib.hash(_runs.seen(make(), stack, masks[0])) == before
    cached = make(memory=str(tmp_path))
    scorer = make_stability_scorer(2, vary="neurons")
    assert scorer(cached, stack) == scorer(make(), stack) == scorer(cached, stack)


def test_X_is_not_copied(tmp_path):
    """Halves of a memory map are read by blocks."""
    X = np.lib.format.open_memmap(
        tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(4000, 4000)
    )
    rng = np.random.default_rng(0)
    for start in range(0, 4000, 500):
        X[start : start + 500] = rng.standard_normal((500, 4000))
    half = _runs.seen(make(), LayerStack([X]), masks_of((4000,), 1)[0])
    sketcher = MultiLayerTfidfSketcher(8, random_state=0)
    tracemalloc.start()
    try:
        sketcher.fit_transform(half)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 2


# ------------------------------------------------------------------------------ others


def test_stable_leiden_is_fitted_on_all_neurons(stack, planted):
    stable = StableLeiden(make(), vary="neurons", n_runs=4, random_state=0).fit(stack)
    np.testing.assert_array_equal(stable.labels_, make().fit(stack)[-1].labels_)
    np.testing.assert_array_equal(
        stable.predict(stack), stable.estimator_.predict(stack)
    )
    runs = [
        make().fit(zeroed(stack, mask))[-1].labels_
        for mask in masks_of(stack.widths, 4)
    ]
    assert stable.stability_ == pytest.approx(consensus(runs).stability)
    expected = np.mean(
        [consensus([stable.labels_, run]).confidence for run in runs], axis=0
    )
    # Between two partitions, either of which may be the medoid, rows kept are the same.
    np.testing.assert_allclose(stable.confidence_, expected)
    several = clone(stable).set_params(n_jobs=2).fit(stack)
    np.testing.assert_array_equal(several.confidence_, stable.confidence_)


def test_stable_leiden_after_the_sketch(embedding):
    stable = StableLeiden(MutualKNNLeiden(20), vary="neurons", random_state=0)
    assert stable.fit(embedding).n_features_in_ == embedding.shape[1]


def test_profile_of_neurons(stack):
    profile = resolution_profile(
        make(),
        stack,
        resolutions=[0.3, 1.0],
        n_runs=2,
        n_permutations=1,
        vary="neurons",
    )
    rng = np.random.RandomState(0)
    masks = _runs.draw_halves(stack.widths, 2, rng)
    seeds = rng.randint(2**31 - 1, size=2)
    for seed, mask, labels in zip(seeds, masks, profile.partitions(1.0), strict=True):
        by_hand = make(leiden__random_state=seed).fit(zeroed(stack, mask))
        np.testing.assert_array_equal(by_hand[-1].labels_, labels)
    assert profile.best() in profile.levels
    # Of noise, halves find nothing again.
    noise = permute_columns(stack, random_state=0)
    none = resolution_profile(
        make(), noise, resolutions=[0.3, 1.0, 3.0], n_runs=4, vary="neurons"
    )
    assert none.levels == []
    with pytest.raises(ValueError, match="None of 3 resolutions"):
        none.best()


def test_profile_takes_processes_and_fewer_sketches(stack):
    one, two = (
        resolution_profile(
            make(),
            stack,
            resolutions=[1.0, 2.0],
            n_runs=4,
            n_sketches=2,
            n_permutations=0,
            vary=["all", "neurons"],
            n_jobs=n_jobs,
        )
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.partitions(2.0), two.partitions(2.0))
    assert one.table["n_runs"].tolist() == [4, 4]


def test_profile_varies_what_is_named(stack):
    """The sketch alone, where the null's draws are the same."""
    profile = resolution_profile(
        make(sketch__random_state=None),
        stack,
        resolutions=[1.0],
        n_runs=2,
        n_sketches=2,
        n_permutations=0,
        vary="sketch__random_state",
    )
    first, second = profile.partitions(1.0)
    assert adjusted_rand_score(first, second) > 0.5
    with pytest.raises(ValueError, match="needs a step with a random_state before"):
        resolution_profile(make(), stack, n_sketches=2, vary="leiden__random_state")


def test_prediction_of_what_half_of_the_neurons_find(stack):
    scorer = make_prediction_stability_scorer("rand", vary="neurons")
    assert cross_val_score(make(), stack, scoring=scorer, cv=KFold(2)).mean() > 0.5
    fitted = make().fit(stack[:200])
    (mask,) = masks_of(stack.widths, 1)
    by_hand = make().fit(zeroed(stack[200:], mask))[-1].labels_
    expected = adjusted_rand_score(fitted.predict(stack[200:]), by_hand)
    assert scorer(fitted, stack[200:]) == pytest.approx(expected)


@pytest.mark.parametrize("subsample", [None, 0.8])
def test_communities_that_other_neurons_find(stack, subsample):
    fitted = make().fit(stack)
    found = community_stability(
        fitted, stack, n_runs=4, vary="neurons", subsample=subsample
    )
    assert found.shape == (fitted[-1].n_clusters_,)
    assert found.min() > 0.6


# ----------------------------------------------------------------------------- refusals


def test_what_has_no_halves(embedding):
    graph = sp.csr_array(embedding @ embedding.T)
    precomputed = MutualKNNLeiden(10, metric="precomputed")
    with pytest.raises(ValueError, match="neither be permuted nor left out"):
        make_stability_scorer(vary="neurons")(precomputed, graph)
    with pytest.raises(ValueError, match="neither be permuted nor left out"):
        resolution_profile(precomputed, graph, n_permutations=0, vary="neurons")
    with pytest.raises(ValueError, match="neither be permuted nor left out"):
        StableLeiden(precomputed, vary=["all", "neurons"]).fit(graph)
    with pytest.raises(ValueError, match="got no layer of at least two"):
        make_stability_scorer(vary="neurons")(
            make(), LayerStack([embedding[:, :1]] * 3)
        )
    with pytest.raises(ValueError, match="takes a fit on all neurons"):
        make_stability_scorer(vary=["all", "neurons"], reuse_fit=True)
    with pytest.raises(ValueError, match=r"different halves of the neurons; got n_ske"):
        resolution_profile(MutualKNNLeiden(), embedding, n_sketches=1, vary="neurons")
    with pytest.raises(ValueError, match=r"got \['neuron'\], but.*or a list with"):
        make_stability_scorer(vary="neuron")(make(), embedding)


def test_nothing_varies_without_rows(embedding):
    fitted = MutualKNNLeiden(10, random_state=0).fit(embedding)
    with pytest.raises(ValueError, match="Nothing varies between the runs"):
        community_stability(fitted, embedding, vary=[], subsample=None)
