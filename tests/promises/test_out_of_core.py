"""Layers and embeddings in files that are larger than what a fit takes of memory."""

import errno
import io
import mmap
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

from skleiden import MutualKNNLeiden
from skleiden._blocks.runner import Local
from skleiden._kernels import knn
from skleiden._stages.distinct import find_distinct
from tests.children import run_script

pytestmark = pytest.mark.slow

WATCH = """
import sys, threading, time
import faiss, igraph  # noqa: F401 (their own memory is not the fit's)
import numpy as np
from sklearn.metrics import homogeneity_score
from sklearn.pipeline import make_pipeline
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.io import load_activations

def own():
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

# The buffers of BLAS, once made, stay: they are not the fit's either.
warm = np.random.RandomState(0).standard_normal((3000, 64))
for algorithm in ("exact", "ivf"):
    MutualKNNLeiden(5, algorithm=algorithm, n_jobs=2).fit(warm)
np.linalg.eigh(warm.T @ warm)

before, peak, done = own(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, own())

watcher = threading.Thread(target=watch)
watcher.start()
"""

LAYERS = """
stack = load_activations(sys.argv[1])
pipeline = make_pipeline(
    # Layers are judged the same way, whatever the weighting.
    MultiLayerTfidfSketcher(
        32,
        random_state=0,
        weighting=sys.argv[2],
        layer_weights="auto" if sys.argv[2] == "idf" else None,
    ),
    MutualKNNLeiden(15, random_state=0),
).fit(stack)
done.set()
watcher.join()
group = np.load(sys.argv[3])
print(peak - before, homogeneity_score(group, pipeline[-1].labels_))
"""

EMBEDDING = """
from skleiden._kernels import knn

knn._ROWS_CONVERTED = 256  # small beside the file, as usual ones beside a usual file
embedding = np.load(sys.argv[1], mmap_mode="r")
found = MutualKNNLeiden(
    5, algorithm=sys.argv[2], random_state=0, n_jobs=2
).fit(embedding)
done.set()
watcher.join()
group = np.load(sys.argv[3])
print(peak - before, homogeneity_score(group, found.labels_))
"""

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)


def run(program, *arguments):
    """Peak of a process's own memory, and homogeneity of what it found."""
    code, printed, error = run_script(WATCH + program, *arguments)
    assert code == 0, error
    return map(float, printed.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """80 MB of half-precision activations of 4 layers, with 5 planted groups."""
    folder = tmp_path_factory.mktemp("layers")
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, 4000)
    np.save(folder / "group.npy", group)
    for name in range(4):
        layer = rng.random((4000, 2500), dtype=np.float32)
        at_home = np.arange(2500) // 500 == group[:, None]
        layer *= layer > np.where(at_home, 0.4, 0.95)
        np.save(folder / f"layer_{name}.npy", layer.astype(np.float16))
    return folder


@needs_proc
@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_fit_takes_a_fraction_of_the_input(folder, weighting):
    group = folder / "group.npy"
    size = sum(path.stat().st_size for path in folder.glob("layer_*.npy"))
    taken, homogeneity = run(LAYERS, folder / "layer_*.npy", weighting, group)
    assert size > 75e6
    assert taken < size / 2
    assert homogeneity > 0.95


def make_embedding(folder, n_rows, n_columns):
    """A file of vectors of 100 groups, some of them zero or equal to others.

    They have many columns, because search and graph take a kilobyte or two a row,
    whatever the number of columns; and are not of unit length, so that two temporary
    files are made.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, n_columns), dtype=np.float32)
    group = rng.integers(0, 100, n_rows)
    group[::100] = 0
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(n_rows, n_columns)
    )
    for start in range(0, group.size, 5000):
        block = centres[group[start : start + 5000]]
        block += rng.standard_normal(block.shape, dtype=np.float32)
        block[::100] = centres[0]
        block[1::100] = 0
        vectors[start : start + 5000] = block
    group[1::100] = 100
    np.save(folder / "group.npy", group)
    return folder / "vectors.npy"


@needs_proc
@pytest.mark.parametrize(
    ("algorithm", "shape"),
    # All pairs of rows are compared: few rows, of many columns, are as large. Lists are
    # made by products of the columns: fewer of these.
    [("ivf", (64_000, 1000)), ("exact", (4000, 3000))],
)
def test_search_takes_a_fraction_of_the_embedding(tmp_path, algorithm, shape):
    embedding = make_embedding(tmp_path, *shape)
    group = embedding.with_name("group.npy")
    taken, homogeneity = run(EMBEDDING, embedding, algorithm, group)
    assert taken < 4 * shape[0] * shape[1] * 0.6  # lists of neighbours included
    assert homogeneity > 0.95


# --- what is copied to where ----------------------------------------------------------


@pytest.fixture
def mapped(tmp_path):
    """Vectors in a file, not of unit length, with equal and zero rows."""
    vectors = np.random.default_rng(0).standard_normal((2500, 8)).astype(np.float32)
    vectors[5] = vectors[3]
    vectors[7] = 0
    np.save(tmp_path / "vectors.npy", vectors)
    return np.load(tmp_path / "vectors.npy", mmap_mode="r")


def distinct_rows(X):
    """The distinct rows, as a fit finds them."""
    found = find_distinct(Local(), [(0, len(X), [X])], X.shape[1])
    return found._replace(vectors=found.vectors.to_keep())


def test_what_is_mapped(mapped):
    assert knn.is_mapped(mapped)
    assert knn.is_mapped(np.asarray(mapped)[3:].T)
    assert not knn.is_mapped(mapped[[1, 2]])
    assert not knn.is_mapped(pickle.loads(pickle.dumps(mapped)))
    assert not knn.is_mapped(np.frombuffer(b"abcd", dtype=np.float32))
    assert not knn.is_mapped(np.ones(3)[1:])


@pytest.mark.parametrize(
    "form",
    [
        lambda X: X,
        np.asarray,
        lambda X: X[::2],
        lambda X: X[:, 2:6],
        lambda X: X[:, ::-1],
    ],
    ids=["memmap", "ndarray", "every other", "columns", "reversed"],
)
def test_rows_are_scaled_and_made_distinct_in_files(mapped, form):
    X = form(mapped)
    unit = knn.unit_rows(X)
    assert knn.is_mapped(unit)
    assert unit.flags.c_contiguous
    in_memory = knn.unit_rows(np.array(X))
    np.testing.assert_array_equal(unit, in_memory)
    assert knn.unit_rows(unit) is unit
    distinct, expected = distinct_rows(unit), distinct_rows(in_memory)
    assert knn.is_mapped(distinct.vectors)
    for found, other in zip(distinct, expected, strict=True):
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i2", "bool"])
def test_other_dtypes_are_converted_in_a_file(mapped, tmp_path, dtype):
    np.save(tmp_path / "other.npy", (8 * mapped).astype(dtype))
    X = np.load(tmp_path / "other.npy", mmap_mode="r")
    unit = knn.unit_rows(X)
    assert (unit.dtype, knn.is_mapped(unit)) == (np.float32, True)
    np.testing.assert_array_equal(unit, knn.unit_rows(np.array(X)))


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="no madvise here")
def test_search_reads_rows_at_random_and_nothing_else_does(mapped, monkeypatch):
    advice = []

    class Map:
        def madvise(self, option):
            advice.append(option)

    def fail():
        with knn.read_at_random(mapped):
            assert advice == [mmap.MADV_RANDOM]
            raise KeyboardInterrupt

    monkeypatch.setattr(knn, "map_of", lambda _: Map())
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert advice == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]
    monkeypatch.delattr(mmap, "MADV_RANDOM")  # as on Windows
    with knn.read_at_random(mapped):
        assert len(advice) == 2


def test_zero_rows_alone(tmp_path):
    np.save(tmp_path / "zeros.npy", np.zeros((30, 4), dtype=np.float32))
    X = np.load(tmp_path / "zeros.npy", mmap_mode="r")
    assert distinct_rows(X).vectors.shape == (0, 4)


@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
def test_a_file_gives_the_same_as_memory(mapped, algorithm):
    found = MutualKNNLeiden(10, algorithm=algorithm, random_state=0)
    labels = found.fit(np.array(mapped)).labels_
    np.testing.assert_array_equal(found.fit(mapped).labels_, labels)
    expected = found.predict(np.array(mapped[::3]))
    np.testing.assert_array_equal(found.predict(mapped[::3]), expected)
    # Fitted on a temporary file without a name, it can be copied and sent.
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict(mapped[::3]), expected)
    with parallel_config("loky", n_jobs=2, max_nbytes=1):
        (sent,) = Parallel()([delayed(found.predict)(mapped[::3])])
    np.testing.assert_array_equal(sent, expected)


def test_no_temporary_file_is_left(mapped, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    found = MutualKNNLeiden(10, random_state=0).fit(mapped)
    if os.name == "posix":
        assert not list(folder.iterdir())
    del found


def test_no_room_for_the_temporary_file(mapped, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    message = r"file of 80000 bytes, .* cannot be written in '.*' \(No space.*TMPDIR"
    clusterer = MutualKNNLeiden(10)
    with pytest.raises(OSError, match=message) as caught:
        clusterer.fit(mapped)
    assert caught.value.errno == errno.ENOSPC
    assert not hasattr(clusterer, "n_features_in_")
