"""Stacks whose rows are the neurons of all layers."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks import transposed
from skleiden._blocks.rows import densified
from skleiden._blocks.sources import source_of
from skleiden.datasets import make_layered_activations
from skleiden.inspection import (
    cross_table,
    describe_communities,
    explain,
    top_features,
)
from skleiden.io import (
    load_communities,
    load_estimator,
    save_communities,
    save_estimator,
)
from skleiden.model_selection import (
    community_stability,
    layer_profile,
    make_stability_scorer,
    permute_columns,
    resolution_profile,
)


@pytest.fixture(scope="module")
def layers():
    """Two layers, ReLU-like: 50 prompts, 7 and 5 neurons."""
    rng = np.random.RandomState(0)
    return [
        np.maximum(rng.standard_normal((50, 7)), 0).astype(np.float32),
        np.maximum(rng.standard_normal((50, 5)), 0),
    ]


def as_map(matrix, folder, name):
    path = folder / f"{name}.npy"
    np.save(path, matrix)
    return np.load(path, mmap_mode="r")


def as_zarr(matrix, folder, name):
    zarr = pytest.importorskip("zarr")
    chunks = (90, max(3, matrix.shape[1] // 4))  # each is a file
    array = zarr.create_array(
        store=str(folder / name), shape=matrix.shape, chunks=chunks, dtype=matrix.dtype
    )
    array[:] = matrix
    return array


def as_tensor(matrix, folder, name):
    return pytest.importorskip("torch").tensor(matrix)


STORED = {
    "arrays": lambda matrix, *_: matrix,
    "Fortran order": lambda matrix, *_: np.asfortranarray(matrix),
    "maps": as_map,
    "CSR": lambda matrix, *_: sp.csr_matrix(matrix),
    "one CSR": lambda matrix, _, name: sp.csr_array(matrix) if name == "0" else matrix,
    "Zarr": as_zarr,
    "tensors": as_tensor,
}


def stored(layers, kind, folder):
    return LayerStack(
        [STORED[kind](layer, folder, str(i)) for i, layer in enumerate(layers)]
    )


def on_workers(layers, sparse, chunks=(11, 7)):
    da = pytest.importorskip("dask.array")
    arrays = [da.from_array(layer, chunks=chunks) for layer in layers]
    if sparse:
        arrays = [array.map_blocks(sp.csr_array) for array in arrays]
    return LayerStack(arrays)


def whole(stack):
    (layer,) = stack.layers
    return densified(source_of(layer).whole())


@pytest.mark.parametrize("at_once", [1, 60, 2**24])
@pytest.mark.parametrize("kind", STORED)
def test_rows_are_the_neurons_of_all_layers(
    layers, kind, at_once, tmp_path, monkeypatch
):
    monkeypatch.setattr(transposed, "_AT_ONCE", at_once)
    expected = np.hstack(layers).T
    neurons = stored(layers, kind, tmp_path).neurons()
    assert neurons.shape == (12, 50)
    assert neurons.dtype == np.float64
    np.testing.assert_array_equal(whole(neurons), expected)
    for rows in (slice(2, 9), slice(None, None, 3), [9, 0, 3, 8, 11, 9], []):
        some = neurons[rows]
        np.testing.assert_array_equal(whole(some), expected[rows])
        assert some.ids.tolist() == neurons.ids[rows].tolist()
        assert some.row_layers.tolist() == neurons.row_layers[rows].tolist()
    again = pickle.loads(pickle.dumps(neurons))
    np.testing.assert_array_equal(whole(again), expected)
    assert again.row_layers.tolist() == neurons.row_layers.tolist()


def test_each_row_is_named_by_its_layer_and_number(layers):
    stack = LayerStack({"a": layers[0], "b:c": layers[1]}, ids=[*map(str, range(50))])
    neurons = stack.neurons()
    assert neurons.ids[[0, 6, 7]].tolist() == ["a:0", "a:6", "b:c:0"]
    assert neurons.row_layers[[0, 6, 7]].tolist() == ["a", "a", "b:c"]
    assert neurons.prompts.tolist() == stack.ids.tolist()
    with pytest.raises(ValueError, match=r"are neurons already; call neurons\(\) of"):
        neurons.neurons()
    for ids in (None, range(100, 150)):
        numbered = LayerStack(layers, ids=ids).neurons()
        assert numbered.columns == (None,)
        assert numbered.prompts.tolist() == list(ids or range(50))
        assert numbered[:3].prompts is numbered.prompts


def embedded(stack, power=1.0, **parameters):
    sketcher = MultiLayerTfidfSketcher(2**17, power=power, random_state=0, **parameters)
    return sketcher, np.asarray(sketcher.fit_transform(stack))


class TestCorrelation:
    """Neurons are compared by their correlation over prompts."""

    @pytest.mark.parametrize("kind", STORED)
    def test_similarities_are_correlations(self, layers, kind, tmp_path):
        sketcher, found = embedded(stored(layers, kind, tmp_path).neurons())
        assert sketcher.weighting_ == ("correlation",)
        assert sketcher.n_components_ == (2 * 2**17,)
        np.testing.assert_allclose(
            found @ found.T, np.corrcoef(np.hstack(layers).T), atol=1e-5
        )

    @pytest.mark.parametrize("sparse", [False, True])
    def test_on_workers(self, layers, sparse):
        _, found = embedded(on_workers(layers, sparse).neurons())
        _, expected = embedded(LayerStack(layers).neurons())
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_of_signed_values_and_of_the_positive_part(self, layers):
        signed = [layer - 1 for layer in layers]
        sketcher, found = embedded(LayerStack(signed).neurons())
        assert not sketcher.positive_part_[0]
        expected = np.corrcoef(np.hstack(layers).T)
        np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)
        tails = [np.where(layer == 0, -0.1, layer) for layer in layers]
        sketcher, found = embedded(LayerStack(tails).neurons())
        assert sketcher.positive_part_[0]
        np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)

    @pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
    @pytest.mark.parametrize(("scale", "offset"), [(1e-300, 0), (1e300, 0), (1, 1e9)])
    def test_scale_and_offset_of_neurons_change_nothing(
        self, layers, storage, scale, offset
    ):
        X = np.hstack(layers).astype(np.float64)
        _, expected = embedded(LayerStack([X]).neurons())
        X[:, 3:] = scale * X[:, 3:] + offset
        _, found = embedded(LayerStack([storage(X)]).neurons())
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
    def test_silent_and_constant_neurons_are_in_no_group(self, layers, storage):
        X = np.hstack(layers)
        X[:, 2], X[:, 5], X[:, 6] = 0, 3, 0.1
        sketcher, found = embedded(LayerStack([storage(X)]).neurons())
        assert np.flatnonzero(~found.any(axis=1)).tolist() == [2, 5, 6]
        assert sketcher.n_zero_rows_ == 3

    def test_in_several_layers(self):
        # Not neurons: two layers of correlated rows, in one matrix and in two.
        X = np.random.RandomState(0).standard_normal((30, 12)) + 3
        halves = [X[:, :7], X[:, 7:]]
        parameters = {"weighting": "correlation", "layer_weights": None}
        _, one = embedded(X, layers=[7, 5], **parameters)
        _, sparse = embedded(sp.csr_array(X), layers=[7, 5], **parameters)
        _, two = embedded(LayerStack(halves), **parameters)
        np.testing.assert_allclose(one, two, atol=1e-6)
        np.testing.assert_allclose(sparse, two, atol=1e-6)
        expected = sum(map(np.corrcoef, halves)) / 2
        np.testing.assert_allclose(two @ two.T, expected, atol=1e-5)

    def test_roots_are_taken_by_default(self, layers):
        neurons = LayerStack(layers).neurons()
        _, found = embedded(neurons, power=None)
        _, expected = embedded(neurons, power=0.5)
        np.testing.assert_array_equal(found, expected)
        roots = np.sqrt(np.hstack(layers))
        np.testing.assert_allclose(found @ found.T, np.corrcoef(roots.T), atol=1e-5)

    def test_scales_of_layers_far_apart(self):
        X = np.random.RandomState(0).standard_normal((30, 12)) + 3
        X[:, 7:] *= 1e-270
        parameters = {"weighting": "correlation", "layer_weights": None}
        _, dense = embedded(X, layers=[7, 5], **parameters)
        _, sparse = embedded(sp.csr_array(X), layers=[7, 5], **parameters)
        expected = (np.corrcoef(X[:, :7]) + np.corrcoef(1e270 * X[:, 7:])) / 2
        np.testing.assert_allclose(dense @ dense.T, expected, atol=1e-5)
        np.testing.assert_allclose(sparse @ sparse.T, expected, atol=1e-5)

    def test_centring_twice_is_refused(self, layers):
        sketcher = MultiLayerTfidfSketcher(center=True)
        with pytest.raises(ValueError, match="center=True is not for weighting='corr"):
            sketcher.fit(LayerStack(layers).neurons())

    def test_columns_divide_among_all_the_layers_of_neurons(self, layers):
        neurons = LayerStack(layers).neurons()
        assert MultiLayerTfidfSketcher(8).fit(neurons).n_components_ == (16,)
        assert MultiLayerTfidfSketcher([8]).fit(neurons).n_components_ == (8,)


@pytest.fixture(scope="module")
def planted():
    """A stack of 1,000 prompts, and the groups of its neurons."""
    stack, _, groups, _ = make_layered_activations(
        1000,
        n_layers=3,
        n_neurons=200,
        n_communities=12,
        n_neuron_groups=8,
        return_neuron_groups=True,
        nnz_per_row=40,
        signal=0.7,
        random_state=0,
    )
    return stack, groups


def pipeline(seed=0, n_components=64):
    return make_pipeline(
        MultiLayerTfidfSketcher(n_components, random_state=seed),
        MutualKNNLeiden(random_state=seed),
    )


class TestGroups:
    def test_planted_groups_are_found(self, planted):
        stack, groups = planted
        in_one = groups >= 0
        labels = pipeline().fit_predict(stack.neurons())
        score = adjusted_mutual_info_score(labels[in_one], groups[in_one])
        assert score >= 0.98

    @pytest.mark.parametrize("kind", ["arrays", "maps", "one CSR", "Zarr", "tensors"])
    def test_labels_are_those_of_the_transpose(self, planted, kind, tmp_path):
        stack, _ = planted
        expected = pipeline().fit_predict(stack.neurons())
        dense = [layer.toarray() for layer in stack.layers]
        found = pipeline().fit_predict(stored(dense, kind, tmp_path).neurons())
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_on_workers(self, planted, sparse, workers):
        stack, _ = planted
        dense = [layer.toarray() for layer in stack.layers]
        expected = pipeline().fit_predict(stack.neurons())
        there = on_workers(dense, sparse, (300, 70))
        found = pipeline().fit_predict(there.neurons())
        np.testing.assert_array_equal(found, expected)

    def test_rows_are_permuted_where_they_are_neurons(self, planted):
        stack, _ = planted
        dense = LayerStack([layer.toarray() for layer in stack.layers])
        for made in (stack, dense):
            neurons = permute_columns(made.neurons(), random_state=3)
            np.testing.assert_array_equal(
                whole(neurons), whole(permute_columns(made, random_state=3).neurons())
            )
            assert neurons.row_layers is not None

    def test_rare_neurons_are_no_groups(self):
        # 60% of 400 independent neurons fire in one to three of 600 prompts.
        rng = np.random.RandomState(0)
        rates = np.where(rng.rand(400) < 0.6, rng.randint(1, 4, 400) / 600, 0.2)
        noise = LayerStack([rng.rand(600, 400) * (rng.rand(600, 400) < rates)])
        neurons = noise.neurons()
        profile = resolution_profile(pipeline(), neurons, resolutions=6, n_runs=3)
        with pytest.raises(ValueError, match="None of 6 resolutions is more stable"):
            profile.best()
        found = layer_profile(None, neurons, random_state=0)
        assert not found.table["above_null"].any()

    def test_prompts_permuted_within_neurons_say_nothing(self, planted):
        stack, _ = planted
        null = permute_columns(stack, random_state=0)
        halves = [
            pipeline().fit_predict(null[rows].neurons())
            for rows in (slice(0, 500), slice(500, 1000))
        ]
        assert adjusted_mutual_info_score(*halves) < 0.02

    def test_halves_of_the_prompts(self, planted):
        neurons = planted[0].neurons()
        scorer = make_stability_scorer(2, vary="prompts")
        null = permute_columns(planted[0], random_state=0)
        # A third of the neurons is in no planted group.
        assert scorer(pipeline(), neurons) > 0.3
        assert scorer(pipeline(), null.neurons()) < 0.05
        with pytest.raises(ValueError, match="are prompts here; write 'prompts'"):
            make_stability_scorer(2, vary="neurons")(pipeline(), neurons)
        with pytest.raises(ValueError, match="are neurons here; write 'neurons'"):
            make_stability_scorer(2, vary="prompts")(pipeline(), planted[0])

    def test_a_half_of_the_prompts_is_as_if_there_were_no_others(self, planted):
        from skleiden.model_selection._runs import seen

        stack = planted[0]
        half = np.arange(1000) % 2 == 0
        some = stack.neurons()[:40]  # what rows say of columns is theirs alone
        found = embedded(seen(pipeline(), some, half))[1]
        expected = embedded(stack[half].neurons()[:40])[1]
        # Prompts fall into other columns: what they say is the same.
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-2)

    def test_are_described_by_prompts_and_layers(self, planted, tmp_path):
        stack, groups = planted
        ids = [f"p{i}" for i in range(1000)]
        texts = {name: f"prompt {i} of {i % 3}" for i, name in enumerate(ids)}
        neurons = LayerStack(dict(zip("abc", stack.layers, strict=True)), ids=ids)
        neurons = neurons.neurons()
        fitted = pipeline().fit(neurons)
        stability = community_stability(
            fitted, neurons, n_runs=2, subsample=None, vary="prompts"
        )
        found = describe_communities(
            fitted, neurons, texts=texts, stability=stability, n_features=4
        )
        labels = fitted[-1].labels_
        assert found.summary["rows"] == "neurons"
        assert set(found.keywords) == set(range(labels.max() + 1))
        for group, features in found.top_features.items():
            assert len(features) == 4
            first = features[0]
            assert first.name == f"p{first.neuron}"
            assert first.text == texts[first.name]
            of_group = np.hstack([layer.toarray() for layer in stack.layers])
            of_group = of_group[:, labels == group]
            standard = (of_group - of_group.mean(axis=0)) / of_group.std(axis=0)
            assert first.mean == pytest.approx(standard.mean(axis=1)[first.neuron])
            shares = [found.layer_share[name][group] for name in "abc"]
            own = neurons.row_layers[labels == group]
            assert shares == pytest.approx([(own == name).mean() for name in "abc"])
        save_communities(tmp_path / "found.json", found)
        again = load_communities(tmp_path / "found.json")
        assert again.top_features == found.top_features
        assert again.keywords == found.keywords
        for name, shares in found.layer_share.items():
            np.testing.assert_array_equal(again.layer_share[name], shares)
        row = int(np.flatnonzero(groups == 0)[0])
        told = explain(fitted, neurons, row)
        roots = np.sqrt(np.hstack([layer.toarray() for layer in stack.layers]))
        similar = np.corrcoef(roots.T)[row]
        others = (labels == labels[row]) & (np.arange(labels.size) != row)
        assert told.similarity == pytest.approx(similar[others].mean())
        assert told.baseline == pytest.approx(similar[labels != labels[row]].mean())
        assert top_features(neurons, labels)[0][0].name.startswith("p")

    def test_sparse_and_dense_are_described_alike(self, planted):
        stack, groups = planted
        dense = LayerStack([layer.toarray() for layer in stack.layers])
        for shift in (0, -0.5):  # with the positive part, and with signs
            both = [
                LayerStack([make(layer + shift) for layer in dense.layers]).neurons()
                for make in (np.asarray, sp.csr_array)
            ]
            one, other = (top_features(neurons, groups) for neurons in both)
            for group, features in one.items():
                for a, b in zip(features, other[group], strict=True):
                    assert a[:2] == b[:2]
                    assert a[2:7] == pytest.approx(b[2:7], abs=1e-6)

    def test_figures_do_not_depend_on_what_rows_are_compared_by(self, planted):
        stack, _ = planted
        for X, weighting in ((stack, "correlation"), (stack.neurons(), "zscore")):
            fitted = make_pipeline(
                MultiLayerTfidfSketcher(weighting=weighting, random_state=0),
                MutualKNNLeiden(random_state=0),
            ).fit(X)
            found = describe_communities(fitted, X, max_map_rows=0)
            assert found.top_features == top_features(X, fitted[-1].labels_)

    def test_silent_prompts_explain_nothing(self, layers):
        silent = [np.vstack([layer, np.zeros_like(layer)]) for layer in layers]
        stack = LayerStack([layer[:30] for layer in layers]).neurons()
        neurons = LayerStack([layer[20:80] for layer in silent]).neurons()
        for X in (stack, neurons):
            fitted = make_pipeline(
                MultiLayerTfidfSketcher(2**15, power=1.0, random_state=0),
                MutualKNNLeiden(3, min_cluster_size=2, random_state=0),
            ).fit(X)
            embedding, labels = fitted[0].transform(X), fitted[-1].labels_
            told = explain(fitted, X, 0)
            others = (labels == labels[0]) & (np.arange(labels.size) > 0)
            expected = (embedding[others] @ embedding[0]).mean()
            assert told.similarity == pytest.approx(expected, abs=1e-4)

    def test_other_prompts_are_refused(self, layers, tmp_path):
        names = [f"p{i}" for i in range(50)]
        fitted = MultiLayerTfidfSketcher(random_state=0)
        fitted.fit(LayerStack(layers, ids=names).neurons())
        path = tmp_path / "sketcher.skl"
        save_estimator(path, fitted)
        for sketcher in (fitted, load_estimator(path)):
            sketcher.transform(LayerStack(layers, ids=names).neurons()[:3])
            sketcher.transform(LayerStack(layers).neurons())  # without names
            other = LayerStack(layers, ids=names[::-1]).neurons()
            with pytest.raises(ValueError, match=r"must be those of the fit.*'p49'"):
                sketcher.transform(other)
        again = LayerStack(layers, ids=names)[[0, 0, *range(48)]].neurons()
        assert MultiLayerTfidfSketcher().fit(again).n_features_in_ == 50

    def test_mixtures_of_numbers(self, layers):
        half = layers[0].astype(np.float16)
        for kinds in ((half, sp.csr_array(layers[1])), (layers[0].astype(">f4"), 0)):
            stack = LayerStack([kinds[0], sp.csr_array(layers[1])])
            neurons = stack.neurons()
            expected = np.hstack([kinds[0], layers[1]]).T
            np.testing.assert_array_equal(whole(neurons), expected)
            np.testing.assert_array_equal(np.asarray(neurons["neurons"]), expected)
        da = pytest.importorskip("dask.array")
        one = da.from_array(layers[0], chunks=(20, 7))
        other = da.from_array(layers[1], chunks=(20, 5)).map_blocks(sp.csr_array)
        _, found = embedded(LayerStack([one, other]).neurons())
        _, expected = embedded(LayerStack(layers).neurons())
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_fingerprints_are_of_what_is_read(self, planted, tmp_path):
        dense = [layer.toarray() for layer in planted[0].layers]
        found = []
        for kind in ("arrays", "one CSR", "Zarr"):
            neurons = stored(dense, kind, tmp_path).neurons()
            fitted = pipeline().fit(neurons)
            about = describe_communities(fitted, neurons, max_map_rows=0)
            found.append(about.fingerprint)
        assert found[0] == found[1] == found[2]

    def test_texts_are_those_of_prompts(self, planted):
        stack, _ = planted
        ids = np.random.RandomState(0).permutation(1000)
        neurons = LayerStack([*stack.layers], ids=ids).neurons()
        fitted = pipeline().fit(neurons)
        texts = {name: f"text {name}" for name in range(1000)}
        found = describe_communities(fitted, neurons, texts=texts)
        first = found.top_features[0][0]
        assert first.name == str(ids[first.neuron])
        assert first.text == f"text {first.name}"
        with pytest.raises(ValueError, match="one entry for each prompt, which is a c"):
            describe_communities(fitted, neurons, texts=["one"])


@pytest.fixture(scope="module")
def both(planted):
    stack, _ = planted
    prompts, neurons = pipeline(), pipeline()
    labels = prompts.fit_predict(stack)
    groups = neurons.fit_predict(stack.neurons())
    return replace(
        describe_communities(prompts, stack, max_map_rows=0),
        neuron_groups=describe_communities(neurons, stack.neurons(), max_map_rows=0),
        cross_table=cross_table(labels, groups, stack),
    )


class TestTogether:
    """Communities of prompts, groups of neurons, and which drive which."""

    def test_saved_and_loaded(self, both, tmp_path):
        path = tmp_path / "both.json"
        save_communities(path, both)
        again = load_communities(path)
        np.testing.assert_array_equal(
            again.neuron_groups.labels, both.neuron_groups.labels
        )
        assert again.neuron_groups.ids.tolist() == both.neuron_groups.ids.tolist()
        for name, values in vars(both.cross_table).items():
            np.testing.assert_array_equal(getattr(again.cross_table, name), values)
            assert type(getattr(again.cross_table, name)) is type(values)
        assert again.cross_table.describe() == both.cross_table.describe()

    @pytest.mark.parametrize(
        ("keys", "value", "message"),
        [
            (["cross_table", "effects", 0, 0], "big", "effects of cross_table must be"),
            (
                ["cross_table", "effects", 0],
                [],
                "effects of cross_table must be a JSON arr",
            ),
            (["cross_table", "drives", 0, 0], 1, "drives of cross_table must be true"),
            (["cross_table", "group_sizes", 0], -1, "group_sizes of cross_table must"),
            (["cross_table", "layers", 0, 0], 2, "layers of cross_table must be a num"),
            (["cross_table", "layer_names", 0], 3, "layer_names of cross_table must"),
            (["cross_table"], [], "cross_table must be a JSON object"),
            (["neuron_groups"], 3, "neuron_groups must be a JSON object"),
            (["neuron_groups"], None, "cross_table must have a row for each of neuron"),
            (["neuron_groups", "n_samples"], 3, "n_samples must agree with rows"),
            (
                ["neuron_groups", "communities", 0, "layer_share", "layer_0"],
                -1,
                "layer_share of community 0 must be a number from 0",
            ),
            (
                ["communities", 0, "keywords"],
                [3],
                "keywords of community 0 must be str",
            ),
            (
                ["communities", 0, "top_features", 0, "name"],
                3,
                "name in top_features of community 0 must be str",
            ),
        ],
    )
    def test_files_are_checked(self, both, tmp_path, keys, value, message):
        path = tmp_path / "both.json"
        save_communities(path, both)
        document = json.loads(path.read_text())
        *places, last = keys
        place = document
        for key in places:
            place = place[key]
        place[last] = value
        path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match=message):
            load_communities(path)

    def test_a_table_of_others_is_refused(self, both):
        with pytest.raises(ValueError, match=r"got shape \(.*\) for no groups and"):
            replace(both, neuron_groups=None)
        with pytest.raises(ValueError, match=r"communities\. Give both, of the same"):
            replace(both, labels=np.zeros_like(both.labels), top_features={})
