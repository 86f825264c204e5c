"""What describing communities takes: one pass over X, and no embedding made anew."""

import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks import sources
from skleiden.inspection import layer_agreement
from skleiden.inspection._communities import describe
from skleiden.inspection._layers import fitted_embedding
from skleiden.model_selection import StableLeiden
from skleiden.plotting import LayerAgreementDisplay, PrototypeHeatmapDisplay


class CountingStore(zarr.storage.MemoryStore):
    """Counts how often each chunk is read."""

    def __init__(self):
        super().__init__()
        self.reads = {}

    async def get(self, key, *args, **kwargs):
        if "/c/" in key:
            self.reads[key] = self.reads.get(key, 0) + 1
        return await super().get(key, *args, **kwargs)


def activations(n=300, repeated=True):
    """Rows of four kinds in two layers; some repeated, some zero."""
    rng = np.random.default_rng(0)
    kinds = rng.random((4, 40)) < 0.3
    X = (kinds[np.arange(n) % 4] * rng.random((n, 40))).astype(np.float32)
    if repeated:
        X[20:30] = X[10:20]
        X[[7, 9]] = 0
    return {"early": X[:, :15], "late": X[:, 15:]}


def make(*between, **options):
    return make_pipeline(
        MultiLayerTfidfSketcher(12, layer_weights=None, random_state=0),
        *between,
        MutualKNNLeiden(10, random_state=0, **options),
    )


def nested():
    inner = make()
    return make_pipeline(inner[0], StableLeiden(inner[1], n_runs=2, random_state=0))


def test_one_pass_over_the_layers():
    store = CountingStore()
    group = zarr.open_group(store, mode="w")
    layers = activations()
    for name, matrix in layers.items():
        chunks = (70, matrix.shape[1])
        array = group.create_array(
            name, shape=matrix.shape, dtype=matrix.dtype, chunks=chunks
        )
        array[:] = matrix
    stack = LayerStack({name: group[name] for name in layers})
    pipeline = make().fit(stack)
    store.reads.clear()
    found, sums = describe(pipeline, stack)
    assert len(store.reads) == 2 * 5
    # Of the five chunks of each layer, three hold rows that are checked first.
    assert sorted(store.reads.values()) == [1] * 4 + [2] * 6
    PrototypeHeatmapDisplay._from_sums(sums)
    assert sum(store.reads.values()) == 16
    in_memory, _ = describe(pipeline, layers)
    assert found.top_features == in_memory.top_features
    assert found.fingerprint == in_memory.fingerprint
    assert found.neurons == in_memory.neurons


@pytest.mark.parametrize(
    ("make_estimator", "is_kept"),
    [
        (make, True),
        (lambda: StableLeiden(make(), n_runs=2, random_state=0), True),
        (nested, True),
        (lambda: make(PCA(10, random_state=0)), False),
    ],
    ids=["pipeline", "runs", "runs in a pipeline", "a step between"],
)
@pytest.mark.parametrize("repeated", [True, False])
def test_the_embedding_is_what_the_clusterer_holds(
    monkeypatch, make_estimator, is_kept, repeated
):
    X = activations(repeated=repeated)
    estimator = make_estimator().fit(X)
    sketcher = getattr(estimator, "estimator_", estimator)[0]
    expected = sketcher.transform(X)
    calls = []

    def transform(self, X):
        calls.append(X)
        return expected

    monkeypatch.setattr(MultiLayerTfidfSketcher, "transform", transform)
    embedding, components = fitted_embedding(estimator, X)
    assert components == {"early": 12, "late": 12}
    assert len(calls) == (not is_kept)
    assert_allclose(embedding, expected, atol=1e-5)
    assert_array_equal(embedding.any(axis=1), expected.any(axis=1))


def test_agreement_is_that_of_the_embedding():
    X = activations()
    pipeline = make().fit(X)
    expected = layer_agreement(
        pipeline[0].transform(X), pipeline[-1].labels_, {"early": 12, "late": 12}
    )
    found, _ = describe(pipeline, X)
    shown = LayerAgreementDisplay.from_estimator(pipeline, X).agreement
    for name, values in expected.items():
        assert_allclose(found.layer_agreement[name], values, atol=1e-6)
        assert_allclose(shown[name], values, atol=1e-6)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_figures_of_the_sums_are_those_of_the_layers(form):
    X = {name: form(matrix) for name, matrix in activations().items()}
    pipeline = make().fit(X)
    _, sums = describe(pipeline, X)
    drawn = PrototypeHeatmapDisplay._from_sums(sums, n_features=2, max_communities=3)
    expected = PrototypeHeatmapDisplay.from_estimator(
        pipeline, X, n_features=2, max_communities=3
    )
    assert drawn.neurons == expected.neurons
    assert drawn.communities == expected.communities
    assert_array_equal(drawn.values, expected.values)


def test_number_of_features_is_checked_before_the_work(monkeypatch):
    X = activations()
    pipeline = make().fit(X)
    monkeypatch.setattr("skleiden.inspection._communities.community_sums", pytest.fail)
    with pytest.raises(ValueError, match="n_features must be an integer of at least 1"):
        describe(pipeline, X, n_features=0)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("ids", [None, [f"q{i}" for i in range(300)]], ids=["", "ids"])
def test_fingerprint_is_that_of_plain_bytes(monkeypatch, form, ids):
    """Whatever the rows read at once, and in every version: files hold it."""
    monkeypatch.setattr(sources, "_BLOCK_SIZE", 500)
    stack = LayerStack({n: form(X) for n, X in activations().items()}, ids=ids)
    digest = hashlib.blake2b(digest_size=16)
    for name, X in zip(stack.names, stack.layers, strict=True):
        digest.update(f"{name} {X.shape} float32 ".encode())
        if form is np.asarray:
            digest.update(X.tobytes())
        else:
            digest.update(X.indptr.astype("i8").tobytes())
            digest.update(X.indices.astype("i8").tobytes())
            digest.update(X.data.tobytes())
    if ids is not None:
        digest.update(repr(ids).encode())
    found, _ = describe(make().fit(stack), stack, max_map_rows=0)
    assert found.fingerprint == digest.hexdigest()
