"""The same labels: every time, on any number of threads, in any wrapping."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.metrics import adjusted_rand_score

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._stages import replicate
from tests import golden

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = [f"{data}: {name}" for data in golden.DATA for name in golden.CLUSTERERS]


@pytest.fixture(scope="module")
def data():
    return {name: make() for name, make in golden.DATA.items()}


@pytest.fixture(scope="module")
def found(data):
    return golden.everything(data)


@pytest.fixture(scope="module")
def recorded():
    """What was found on machines of the recorded kind, by versions."""
    (known,) = json.loads(golden.GOLDEN.read_text()).values()
    return known


def comparable(name, recorded):
    """The stages that must be as recorded here, by what the record is of.

    With other versions than the recorded ones the last digits of similarities differ,
    but neither exact neighbours nor what igraph finds of them: they were the same from
    the oldest versions to the newest. HNSW is another program in every version.
    """
    if golden.here() not in json.loads(golden.GOLDEN.read_text()):
        return []  # it may round otherwise: see test_groups_are_found_on_any_machine
    if golden.versions() in recorded:
        return list(golden.STAGES)
    if "hnsw" in name:
        return []
    return ["neighbours"] if "leidenalg" in name else ["neighbours", "labels"]


def test_same_as_recorded(found, recorded):
    """Fails with the first stage of each case that differs from the record."""
    versions = golden.versions()
    expected = recorded.get(versions, list(recorded.values())[-1])
    stages = {name: comparable(name, recorded) for name in NAMES}
    differing = {
        name: first
        for name in NAMES
        for first in [s for s in stages[name] if found[name][s] != expected[name][s]][
            :1
        ]
    }
    assert not differing, (
        f"The first stages that differ are {differing}. Recorded with "
        f"{' and '.join(recorded)}; here are {versions}. If the change is meant, say "
        "so in CHANGELOG.md and run: python -m tests.golden --update"
    )


@pytest.mark.parametrize("name", golden.CLUSTERERS)
def test_groups_are_found_on_any_machine(name):
    """What can be said where rounding is another: planted groups are found."""
    X, group = golden.odd(), golden.odd_groups()
    labels = golden.fit(X, golden.CLUSTERERS[name])[1].labels_
    assert (labels[group < 0] == -1).all()
    assert adjusted_rand_score(group[group >= 0], labels[group >= 0]) > 0.9


@pytest.mark.parametrize("data", golden.DATA)
def test_labels_of_all_recorded_versions_agree(recorded, data):
    name = f"{data}: exact, igraph"
    assert len({stages[name]["labels"] for stages in recorded.values()}) == 1


def test_recorded_are_all(recorded):
    assert all(list(stages) == NAMES for stages in recorded.values())


def test_stages_tell_data_and_searches_apart(found):
    assert len({stages["embedding"] for stages in found.values()}) == len(golden.DATA)
    assert len({stages["labels"] for stages in found.values()}) > len(golden.DATA)


@pytest.mark.parametrize("n_jobs", [1, 3])  # found are those of all cores
def test_any_number_of_jobs(found, data, n_jobs):
    assert golden.everything(data, n_jobs=n_jobs) == found


@pytest.mark.parametrize("n_threads", ["1", "3"])
def test_any_number_of_threads(found, n_threads):
    run = subprocess.run(
        [sys.executable, "-m", "tests.golden"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": n_threads, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == found


def test_in_worker_processes(found, data):
    with joblib.parallel_config("loky", n_jobs=2):
        stages = joblib.Parallel()(
            joblib.delayed(golden.stages)(data[name], parameters)
            for name in golden.DATA
            for parameters in golden.CLUSTERERS.values()
        )
    assert dict(zip(NAMES, stages, strict=True)) == found


def test_in_threads_at_once(found, data):
    """igraph's generator belongs to the process, and FAISS's threads to OpenMP."""
    tasks = [
        (f"{name}: {kind}", data[name], parameters)
        for name in golden.DATA
        for kind, parameters in golden.CLUSTERERS.items()
    ]
    with ThreadPoolExecutor(4) as pool:
        again = dict(pool.map(lambda task: (task[0], golden.stages(*task[1:])), tasks))
    assert again == found


def mapped(array, folder, name):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def mapped_csr(matrix, folder):
    parts = [
        mapped(getattr(matrix, name), folder, name)
        for name in ("data", "indices", "indptr")
    ]
    return sp.csr_array(tuple(parts), shape=matrix.shape)


def long_indices(matrix):
    wide = matrix.copy()
    wide.indices = wide.indices.astype(np.int64)
    wide.indptr = wide.indptr.astype(np.int64)
    return wide


def test_any_wrapping_of_sparse_numbers(found, data, tmp_path):
    stack = data["sparse"]
    wide = sp.csr_array(sp.hstack(stack.layers, format="csr"))
    wrappings = {
        "matrices": LayerStack([sp.csr_matrix(layer) for layer in stack.layers]),
        "columns": LayerStack([sp.csc_array(layer) for layer in stack.layers]),
        "mapping": dict(zip(stack.names, stack.layers, strict=True)),
        "64-bit indices": LayerStack([long_indices(layer) for layer in stack.layers]),
        "float64": LayerStack([layer.astype(np.float64) for layer in stack.layers]),
        "wide array": wide,
        "wide matrix": sp.csr_matrix(wide),
        "wide, mapped": mapped_csr(wide, tmp_path),
    }
    expected = golden.fit(stack, {})[1].labels_
    assert golden.digest(expected) == found["sparse: exact, igraph"]["labels"]
    for name, X in wrappings.items():
        layers = stack.widths if name.startswith("wide") else None
        sketcher = MultiLayerTfidfSketcher(
            32, layers=layers, layer_weights=None, weighting="idf", random_state=0
        )
        labels = MutualKNNLeiden(15, random_state=0).fit_predict(
            sketcher.fit_transform(X)
        )
        assert_array_equal(labels, expected, err_msg=name)


def test_any_wrapping_of_dense_numbers(data, tmp_path):
    X = data["odd"]
    expected = golden.fit(X, {})[1].labels_
    read_only = X.copy()
    read_only.flags.writeable = False
    wrappings = {
        "stack": LayerStack([X]),
        "frame": pd.DataFrame(X),
        "mapped": mapped(X, tmp_path, "X"),
        "read-only": read_only,
        "columns first": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "lists": X.tolist(),
    }
    for name, wrapped in wrappings.items():
        labels = golden.fit(wrapped, {})[1].labels_
        assert_array_equal(labels, expected, err_msg=name)


@pytest.mark.parametrize("name", golden.DATA)
def test_dense_and_sparse_agree(data, name):
    """They add in another order: embeddings to 1e-6, labels on these data exactly."""
    X = data[name]
    layers = X.layers if isinstance(X, LayerStack) else [X]
    sparse = LayerStack([sp.csr_array(layer) for layer in layers])
    dense = LayerStack([layer.toarray() for layer in sparse.layers])
    (a, first), (b, second) = golden.fit(sparse, {}), golden.fit(dense, {})
    assert np.abs(a - b).max() < 1e-6
    assert adjusted_rand_score(first.labels_, second.labels_) == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_means_what_a_generator_means(data, seed, monkeypatch):
    monkeypatch.setattr(replicate, "N_ROWS", 200)  # fewer than there are
    X = data["sparse"][:400]
    embedding = MultiLayerTfidfSketcher(32, random_state=seed).fit_transform(X)
    again = MultiLayerTfidfSketcher(
        32, random_state=np.random.RandomState(seed)
    ).fit_transform(X)
    assert_array_equal(embedding, again)
    labels = MutualKNNLeiden(15, random_state=seed).fit_predict(embedding)
    generator = np.random.RandomState(seed)
    assert_array_equal(
        labels, MutualKNNLeiden(15, random_state=generator).fit_predict(embedding)
    )
