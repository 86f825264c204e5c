"""The benchmarks run, and the reference recipe still has the faults it is kept for."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import adjusted_rand_score

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import make_layered_activations

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def recipe(benchmark_scripts) -> ModuleType:
    return benchmark_scripts("notebook_recipe")


@pytest.fixture(scope="module")
def bench_pipeline(benchmark_scripts) -> ModuleType:
    return benchmark_scripts("bench_pipeline")


@pytest.fixture(scope="module")
def bench_agreement(benchmark_scripts) -> ModuleType:
    return benchmark_scripts("bench_agreement")


@pytest.fixture(scope="module")
def bench_resolution(benchmark_scripts) -> ModuleType:
    return benchmark_scripts("bench_resolution")


@pytest.fixture(scope="module")
def activations() -> tuple[list[sp.csr_array], np.ndarray]:
    stack, labels = make_layered_activations(
        400, n_layers=2, n_communities=5, signal=0.8, random_state=0
    )
    return list(stack.layers), labels


@pytest.fixture(scope="module")
def quick_results(bench_pipeline, tmp_path_factory) -> dict:
    output = tmp_path_factory.mktemp("benchmarks") / "results.json"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        bench_pipeline.main(["--quick", "--layers", "3", "--output", str(output)])
    assert "| whole, s |" in printed.getvalue()
    return json.loads(output.read_text())


# ----------------------------------------------------------------------- bench_pipeline


def test_quick_run_reports_costs_and_conditions(quick_results):
    assert quick_results["settings"]["rows"] == 2000
    assert [run["method"] for run in quick_results["runs"]] == ["notebook", "skleiden"]
    for name in ("sketch", "neighbors", "graph_and_leiden", "cluster", "whole"):
        seconds = quick_results["summary"]["seconds"][name]
        assert seconds["notebook"] > 0
        assert seconds["ratio"] == pytest.approx(
            seconds["notebook"] / seconds["skleiden"]
        )
    for figure in quick_results["summary"].get("memory_mb", {}).values():
        assert figure["notebook"] >= 0
        assert figure["skleiden"] >= 0
    assert quick_results["environment"]["cpu_count"] >= 1
    assert set(quick_results["environment"]["packages"]) > {"skleiden", "faiss-cpu"}


def test_quick_run_finds_the_planted_communities_both_ways(quick_results):
    agreement = quick_results["agreement"]
    for score in ("ari", "ami"):
        assert 0.5 < agreement[score]["notebook_planted"] <= 1
        assert 0.5 < agreement[score]["skleiden_planted"] <= 1
        assert 0.5 < agreement[score]["notebook_skleiden"] <= 1
        assert 0.8 < agreement[score]["notebook_skleiden_same_embedding"] <= 1
    for recall in agreement["knn_recall"].values():
        assert 0 <= recall <= 1
    modularity = agreement["modularity_same_embedding"]
    assert modularity["skleiden"] >= 0.99 * modularity["notebook"] > 0


def test_medians_and_ratios_are_of_alternating_pairs(bench_pipeline):
    def run(seconds: float, memory: dict) -> dict:
        return {"seconds": {"whole": seconds}, "memory_mb": memory}

    pairs = [
        {"notebook": run(10.0, {"peak": 8.0}), "skleiden": run(1.0, {"peak": 4.0})},
        {"notebook": run(12.0, {"peak": 8.0}), "skleiden": run(2.0, {"peak": 4.0})},
        {"notebook": run(40.0, {"peak": 9.0}), "skleiden": run(5.0, {})},
    ]
    summary = bench_pipeline.summarise(pairs)
    assert summary["seconds"]["whole"] == {
        "notebook": 12.0,
        "skleiden": 2.0,
        "ratio": 8.0,
    }
    assert summary["memory_mb"]["peak"] == {
        "notebook": 8.0,
        "skleiden": None,
        "ratio": None,
    }


def test_modularity_is_igraphs(bench_pipeline):
    import igraph

    rng = np.random.default_rng(0)
    rows, columns = np.triu_indices(30, k=1)
    kept = rng.random(rows.size) < 0.3
    rows, columns, weight = rows[kept], columns[kept], rng.random(kept.sum())
    upper = sp.coo_array((weight, (rows, columns)), shape=(30, 30))
    affinity = sp.csr_array(upper + upper.T)
    network = igraph.Graph(n=30, edges=np.column_stack([rows, columns]).tolist())

    labels = rng.integers(0, 4, 30)
    noisy = np.where(np.arange(30) < 3, -1, labels)
    alone = np.where(noisy < 0, 10 + np.arange(30), noisy)
    for ours, theirs in ((labels, labels), (noisy, alone)):
        expected = network.modularity(theirs.tolist(), weights=weight.tolist())
        assert_allclose(bench_pipeline.modularity(affinity, ours), expected)


def test_recall_counts_distinct_true_neighbors(bench_pipeline):
    embedding = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    true = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])
    assert bench_pipeline.exact_recall(embedding, true) == 1
    assert bench_pipeline.exact_recall(embedding, true[:, [0, 0]]) == 0.5
    assert bench_pipeline.exact_recall(embedding, (true + 3) % 6) == 0


# ---------------------------------------------------------------------- bench_agreement


@pytest.fixture
def activation_file(tmp_path, bench_pipeline, activations) -> Path:
    path = tmp_path / "activations.npz"
    bench_pipeline.write_layers(path, *activations)
    return path


def test_agreement_and_permutation_are_scored(
    bench_agreement, activation_file, tmp_path, capsys
):
    output = tmp_path / "agreement.json"
    bench_agreement.main(
        [
            *(str(activation_file), "--seeds", "0", "--resolutions", "1"),
            *("--n-neighbors", "15", "--permute", "1", "--output", str(output)),
            *("--predict", "--taken"),
        ]
    )
    results = json.loads(output.read_text())
    found = {(s["weighting"], s["method"]): s["ami"] for s in results["scores"]}
    assert len(found) == 2 * 10
    # Standardising is for dense activations; these are too sparse for it.
    assert min(ami for (weighting, _), ami in found.items() if weighting == "idf") > 0.5
    idf, _ = results["permutation"]
    assert min(ari[0] for ari in idf["ari"].values()) > 0.5
    *_, all_votes, own_removed = results["prediction"][0]
    assert 1 >= float(all_votes) >= float(own_removed) > 0.7
    assert "| idf | 64 | 1 | " in capsys.readouterr().out


def test_rules_of_choice_are_compared(
    bench_resolution, equal_weights, monkeypatch, tmp_path, capsys
):
    equal_weights(bench_resolution)
    load = bench_resolution.load

    def some_rows(name):
        X, labels = load(name)
        rows = np.arange(len(labels))[:300]
        return X[rows], labels[rows]

    monkeypatch.setattr(bench_resolution, "load", some_rows)
    output = tmp_path / "choice.json"
    bench_resolution.main(
        [
            *("--n-jobs", "1", "--output", str(output), "choice", "wine", "planted-5"),
            *("--weighting", "idf", "--n-components", "64"),
        ]
    )
    found = json.loads(output.read_text())["choice"]
    assert [entry["data"] for entry in found] == ["wine", "planted-5", "planted-5"]
    for entry in found:
        assert set(entry["chosen"]) == {
            "informative",
            "stable",
            "finest_stable",
            "unguarded",
        }
        assert max(entry["ami"].values()) == entry["best"]
        assert all(0 <= share <= 1 for share in entry["share"].values())
    assert found[1]["share"]["informative"] > 0.9
    assert "| lowest |" in capsys.readouterr().out


# Of 500 rows the finest resolutions leave no community.
@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
def test_cost_of_a_sweep_is_measured(bench_resolution, equal_weights):
    equal_weights(bench_resolution)
    results = bench_resolution.cost(500, 1, 1, search=True, n_resolutions=3)
    assert results["rows"] == 500
    medians = results["medians"]
    assert min(medians.values()) > 0
    assert medians["sweep / fit"] == pytest.approx(medians["sweep"] / medians["fit"])
    assert medians["grid search / sweep"] > 1


def test_activation_files_are_read_as_written(
    bench_pipeline, activation_file, activations
):
    layers, labels = bench_pipeline.read_layers(activation_file)
    assert_array_equal(labels, activations[1])
    for read, written in zip(layers, activations[0], strict=True):
        assert read.dtype == np.float32
        assert (read != written).nnz == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "Cannot read", id="missing"),
        pytest.param(b"prompt,layer\n", "Cannot read", id="text"),
        pytest.param(np.eye(3), "holds a single array", id="npy"),
        pytest.param({"a": np.eye(3)}, "holds a: expected an npz", id="other names"),
        pytest.param({"layer_0_data": np.ones(3)}, "is no CSR matrix", id="parts"),
    ],
)
def test_files_of_another_form_are_refused(
    bench_agreement, tmp_path, capsys, content, message
):
    path = tmp_path / "activations.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        with path.open("wb") as file:
            np.save(file, content)
    with pytest.raises(SystemExit):
        bench_agreement.main([str(path)])
    assert message in capsys.readouterr().err


def test_rows_and_labels_must_be_equally_many(bench_pipeline, tmp_path, activations):
    path = tmp_path / "activations.npz"
    bench_pipeline.write_layers(path, activations[0], activations[1][:-1])
    with pytest.raises(ValueError, match=r"\[400\] rows and there are 399 labels"):
        bench_pipeline.read_layers(path)


# ------------------------------------ the recipe: what it does, and what is wrong in it


def test_recipe_finds_planted_communities(recipe, activations):
    layers, labels = activations
    result = recipe.run(layers, k=15)
    assert adjusted_rand_score(labels, result.labels) > 0.9
    assert (result.edges.source < result.edges.target).all()
    assert set(result.seconds) == {"sketch", "neighbors", "mutual_edges", "leiden"}
    norms = np.linalg.norm(result.embedding, axis=1)
    assert_allclose(norms, 1, rtol=1e-5)


def test_recipe_ignores_layer_weights(recipe, activations):
    plain = recipe.sketch(activations[0])
    weighted = recipe.sketch(activations[0], layer_weights=[100, 1e-4])
    assert_allclose(weighted, plain, atol=1e-6)


def test_recipe_pads_with_the_first_neighbor_and_calls_it_mutual(recipe):
    # Each row has one neighbour, in a cycle: none of them is mutual.
    one_way = recipe.Neighbors(np.array([[1], [2], [0]]), np.full((3, 1), 0.9))
    assert recipe.mutual_edges(one_way).source.size == 0
    padded = recipe.Neighbors(*(np.repeat(part, 3, axis=1) for part in one_way[:2]))
    assert recipe.mutual_edges(padded).source.size == 6

    found = recipe.neighbors(np.eye(3, dtype=np.float32), k=5)
    assert_array_equal(found.indices[:, 2:], found.indices[:, :1].repeat(3, axis=1))


def test_recipe_scatters_identical_rows(recipe, activations):
    copies = [sp.vstack([x[[0] * 100], x], format="csr") for x in activations[0]]
    labels = recipe.run(copies, k=10).labels
    assert np.unique(labels[:100]).size > 30


def test_recipe_clusters_zero_rows(recipe, activations):
    emptied = []
    for layer in activations[0]:
        keep = np.ones(layer.shape[0], dtype=np.float32)
        keep[:60] = 0
        emptied.append(sp.csr_array(sp.diags_array(keep) @ layer))
    labels = recipe.run(emptied, k=10).labels
    assert (labels >= 0).all()
    assert np.unique(labels[:60]).size > 20


def test_recipe_breaks_down_on_negative_similarities(recipe):
    few = np.random.default_rng(0).normal(size=(12, 50))
    with pytest.raises(BaseException, match="Cannot accept negative weights"):
        recipe.run([few])


def test_recipe_accepts_nan(recipe, activations):
    # Only the sketch: what HNSW makes of NaN depends on FAISS, whose 1.9 never returns.
    broken = [layer.toarray() for layer in activations[0]]
    broken[0][3, 5] = np.nan
    assert_array_equal(np.isnan(recipe.sketch(broken)).any(axis=1).nonzero()[0], [3])


@pytest.fixture
def wheels(tmp_path):
    """Archives as the packages have them, but small."""
    trivia = tmp_path / "trivia.whl"
    with zipfile.ZipFile(trivia, "w") as archive:
        for name, n in (("cars", 60), ("books", 50), ("few", 3)):
            lines = [f"Is {name} {i} red?:\n- yes" for i in range(n)]
            content = "\n".join(["AUTHOR: Nobody", *lines])
            archive.writestr(f"redbot/cogs/trivia/data/lists/{name}.yaml", content)
    evals = tmp_path / "evals.whl"
    with zipfile.ZipFile(evals, "w") as archive:
        for task, n in (("sums", 150), ("rhymes", 40), ("few", 3)):
            samples = [
                {"input": [{"role": "system", "content": "Be brief."},
                           {"role": "user", "content": f"{task} {i}?"}]}
                for i in range(n)
            ] + [{"text": "without input"}, {"input": "one text"}]  # fmt: skip
            content = "\n".join(json.dumps(sample) for sample in samples) + "\n\n"
            archive.writestr(f"evals/registry/data/{task}/samples.jsonl", content)
    return {"trivia": trivia, "evals": evals}


@pytest.mark.parametrize(
    ("kind", "sizes"), [("trivia", [50, 60]), ("evals", [40, 100])]
)
def test_texts_are_read_from_archives(benchmark_scripts, wheels, kind, sizes):
    make = benchmark_scripts("make_text_activations")
    texts, labels = make.read_texts(kind, wheels[kind])
    assert np.bincount(labels).tolist() == sizes
    assert len(set(texts)) == len(texts) == sum(sizes)
    word = 1 if kind == "trivia" else 0
    first = {text.split()[word] for text in np.array(texts)[labels == 0]}
    assert len(first) == 1
    assert (np.diff(labels) != 0).sum() > 20  # they are mixed
    with pytest.raises(SystemExit, match="has no texts where those of"):
        make.read_texts("evals" if kind == "trivia" else "trivia", wheels[kind])


def test_imports_are_timed(tmp_path):
    path = tmp_path / "imports.json"
    script, options = str(FOLDER / "bench_import.py"), ["--repeats", "1", "--output"]
    run = subprocess.run(
        [sys.executable, script, *options, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads(path.read_text())
    assert len(results["rounds"]) == 1
    assert run.stdout.count("|") == 15


def test_similarities_of_inactive_layers(benchmark_scripts, activations, tmp_path):
    script = benchmark_scripts("bench_inactive_layers")
    layers, labels = activations
    for pattern in script.PATTERNS:
        active = script.activity(pattern, labels, 2, seed=0)
        assert active.any(axis=1).all()
        assert active.all() == (pattern == "all")
    active = script.activity("random .5", labels, 2, seed=0)
    found = dict(script.similarities(layers, active, seed=0))
    both = active.all(axis=1)
    assert 0 < both.sum() < labels.size
    same = np.ix_(both, both)
    assert_allclose(found["embedding"][same], found["common"][same], atol=1e-5)
    one, all_layers = np.flatnonzero(~both)[0], np.flatnonzero(both)[0]
    pair = one, all_layers
    assert_allclose(found["common"][pair], found["embedding"][pair] * 2**0.5, rtol=1e-5)
    assert script.partition(found["common"], 1.0, 0).labels_.shape == labels.shape


def test_groups_of_neurons_are_judged_by_other_prompts(benchmark_scripts):
    bench_neurons = benchmark_scripts("bench_neurons")
    stack, labels, groups, _ = make_layered_activations(
        1000,
        n_layers=2,
        n_neurons=150,
        n_communities=6,
        n_neuron_groups=5,
        return_neuron_groups=True,
        signal=0.8,
        random_state=0,
    )
    n, none, ami, null, layer, *driven = bench_neurons.measure(stack, labels, 0, 1.0)
    assert n >= 5
    assert 0 <= none < 0.1
    assert ami > 0.4 > 0.05 > abs(null)
    assert abs(layer) < 0.1
    assert driven[0] == 6
    assert driven[1] > driven[3]
    assert bench_neurons.n_driven(labels, groups, stack) == [6, 6]


def test_groups_of_neurons_are_printed_as_they_come(
    benchmark_scripts, monkeypatch, tmp_path, capsys
):
    bench_neurons = benchmark_scripts("bench_neurons")
    prompts = bench_neurons.load_prompt_activations()
    prompts.data = LayerStack(prompts.data.layers[:1])
    monkeypatch.setattr(bench_neurons, "load_prompt_activations", lambda: prompts)
    output = tmp_path / "neurons.json"
    bench_neurons.main(["--rows", "150", "--seeds", "1", "--output", str(output)])
    runs = json.loads(output.read_text())["data"]
    assert list(runs) == ["prompts, 1.0", "prompts, 4.0"]
    header, _, *rows = capsys.readouterr().out.splitlines()[:4]
    assert header.startswith("| data | neurons x prompts |")
    for row, ((one,), resolution) in zip(
        rows, zip(runs.values(), "14", strict=True), strict=True
    ):
        start = f"| prompts | 1,536 x 150 | {resolution} | {one[0]:.0f} | "
        assert row.startswith(start)
        assert row.count("|") == header.count("|")


def test_skleiden_runs_by_its_defaults_if_asked(bench_pipeline, activations):
    stack = LayerStack(activations[0])
    sketcher = MultiLayerTfidfSketcher(random_state=42)
    leiden = MutualKNNLeiden(random_state=42)
    for defaults in (True, False):
        if not defaults:
            sketcher.set_params(layer_weights=None)
            leiden.set_params(hubness=None)
        expected = leiden.fit_predict(sketcher.fit_transform(stack))
        _, extras = bench_pipeline.run_skleiden(list(stack.layers), defaults)
        assert_array_equal(extras()["labels"], expected)


def test_comparisons_are_timed(benchmark_scripts, capsys):
    script = benchmark_scripts("bench_compare")
    for run in script.cases(1000).values():
        assert 0.8 < run().ari < 1
    script.main(["--rows", "1000", "--repeats", "1"])
    assert capsys.readouterr().out.count("\n| labels") == 2
