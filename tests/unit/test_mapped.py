"""Files under arrays: shared by input and output, cut off, or become shorter."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.inspection import prototypes, top_features
from tests.children import outcomes

pytestmark = pytest.mark.slow

rng = np.random.default_rng(0)
X = rng.random((40, 16), dtype=np.float32)


def sketcher():
    return MultiLayerTfidfSketcher(16, layer_weights=None, random_state=0)


@pytest.fixture
def path(tmp_path):
    """A file of X."""
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


# --- out in the file of X -------------------------------------------------------------


def other_name(path, link):
    link(path, path.with_name("other.npy"))
    return path.with_name("other.npy")


def in_hdf5(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["x"] = X
        offset = file["x"].id.get_offset()
    (layer,) = [h5py.File(path.with_suffix(".h5"), "r")["x"]]
    return layer, np.memmap(
        path.with_suffix(".h5"), "f4", mode="r+", offset=offset, shape=X.shape
    )


def in_zarr(path):
    folder = path.with_suffix(".zarr")
    layer = zarr.create_array(
        folder, shape=X.shape, dtype="f4", chunks=X.shape, compressors=None
    )
    layer[:] = X
    (chunk,) = [file for file in folder.rglob("0") if file.is_file()]
    return layer, np.memmap(chunk, "f4", mode="r+", shape=X.shape)


def mapped(path, mode="r"):
    return np.load(path, mmap_mode=mode)


def csr_of(path, name):
    parts = {"data": X.ravel(), "indices": np.tile(np.arange(16, dtype="i4"), 40)}
    np.save(path, parts[name])
    parts[name] = mapped(path)
    return sp.csr_array(
        (parts["data"], parts["indices"], np.arange(41, dtype="i4") * 16),
        shape=X.shape,
    )


def raw(path, access):
    """A map that NumPy did not make."""
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=access)
    return np.frombuffer(mapped, "f4", count=X.size, offset=128).reshape(X.shape)


def renamed(path):
    first = mapped(path)
    path.rename(path.with_name("other.npy"))
    return first, mapped(path.with_name("other.npy"), "r+")


def of_torch(path):
    import torch

    size = 32 + X.size
    tensor = torch.from_file(str(path), shared=False, size=size, dtype=torch.float32)
    return tensor.numpy()[32:].reshape(X.shape), over(path)


def over(path):
    return np.memmap(path, "f4", mode="r+", offset=128, shape=X.shape)


SHARED = {
    "the same map": lambda p: (mapped(p, "r+"),) * 2,
    "another map": lambda p: (mapped(p), mapped(p, "r+")),
    "half of it": lambda p: (mapped(p)[20:], mapped(p, "r+")[:20]),
    "overlapping rows": lambda p: (mapped(p)[10:30], mapped(p, "r+")[20:]),
    "an ndarray of it": lambda p: (np.asarray(mapped(p)), np.asarray(over(p))),
    "rows reversed": lambda p: (mapped(p)[::-1], mapped(p, "r+")),
    "a hard link": lambda p: (mapped(p), mapped(other_name(p, os.link), "r+")),
    "a symbolic link": lambda p: (mapped(p), mapped(other_name(p, os.symlink), "r+")),
    "values of CSR": lambda p: (csr_of(p, "data"), over(p)),
    "indices of CSR": lambda p: (csr_of(p, "indices"), over(p)),
    "private copy": lambda p: (mapped(p, "c"), mapped(p, "r+")),
    "raw and mapped": lambda p: (raw(p, mmap.ACCESS_READ), mapped(p, "r+")),
    "mapped and raw": lambda p: (mapped(p), raw(p, mmap.ACCESS_WRITE)),
    "raw and raw": lambda p: (raw(p, mmap.ACCESS_READ), raw(p, mmap.ACCESS_WRITE)),
    "renamed": renamed,
    "torch": of_torch,
    "HDF5": in_hdf5,
    "Zarr": in_zarr,
}
if not Path("/proc/self/maps").exists():  # where less is known of maps
    for name in ("raw and mapped", "mapped and raw", "raw and raw", "renamed", "torch"):
        del SHARED[name]
# Of the same file, and yet of different places in it, or of a private copy.
APART = {"half of it"}


@pytest.mark.parametrize("method", ["fit_transform", "transform"])
@pytest.mark.parametrize("case", SHARED)
def test_out_in_the_file_of_the_input(path, case, method):
    given, out = SHARED[case](path)
    before, made = np.array(out), sketcher().fit(X)
    if case in APART:
        expected = made.fit(given).transform(np.array(given))
        np.testing.assert_array_equal(getattr(made, method)(given, out=out), expected)
        return
    message = "out must not share memory, or its place in a file, with X; got layer"
    with pytest.raises(ValueError, match=message):
        getattr(made, method)(LayerStack([given]), out=out)
    np.testing.assert_array_equal(out, before)


def test_out_that_is_a_private_copy_of_the_file(path):
    out = mapped(path, "c")
    found = sketcher().fit_transform(mapped(path), out=out)
    np.testing.assert_array_equal(found, sketcher().fit_transform(X))
    np.testing.assert_array_equal(np.load(path), X)


def test_out_in_a_file_that_was_removed(path, tmp_path):
    given, out = (
        mapped(path),
        np.lib.format.open_memmap(
            tmp_path / "out.npy", mode="w+", dtype="f4", shape=X.shape
        ),
    )
    if os.name == "posix":
        path.unlink()
    assert sketcher().fit_transform(given, out=out) is out


# --- an embedding that is not whole ---------------------------------------------------

KILLED = """
import os, signal, sys
import numpy as np
from skleiden import MultiLayerTfidfSketcher
from skleiden._stages import sketch

folder, X = sys.argv[1], np.load(f"{sys.argv[1]}/x.npy")
done = []

class Output(sketch.Output):
    def write(self, *arguments):
        super().write(*arguments)
        done.append(1)
        if len(done) == blocks:
            os.kill(os.getpid(), signal.SIGKILL)

sketch.Output = Output
made = MultiLayerTfidfSketcher(
    16, layers=[8, 8], layer_weights=None, batch_size=10
)
for blocks in map(int, sys.argv[2:]):
    child = os.fork()
    if not child:
        path = f"{folder}/{blocks} out.npy"
        out = np.lib.format.open_memmap(path, mode="w+", dtype="f4", shape=(40, 32))
        made.fit_transform(X, out=out)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KILLED_AFTER = ["1", "5", "8"]  # blocks
CUT_OFF = (
    r"lies in the memory map '.*out\.npy', whose first row is NaN\. .* was cut off"
)


OTHERS = MutualKNNLeiden(5, random_state=0).fit(rng.random((20, 32)))


def refused(embedding):
    for made in (MutualKNNLeiden(5), FaissKNeighborsTransformer(5)):
        with pytest.raises(ValueError, match=CUT_OFF):
            made.fit(embedding)
    with pytest.raises(ValueError, match=CUT_OFF):
        OTHERS.predict(embedding)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of embeddings whose writers were killed after so many blocks."""
    folder = tmp_path_factory.mktemp("killed")
    np.save(folder / "x.npy", X)
    arguments = [sys.executable, "-c", KILLED, str(folder), *KILLED_AFTER]
    finished = subprocess.run(
        arguments, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert finished.stdout.split() == ["-9"] * len(KILLED_AFTER)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("blocks", KILLED_AFTER)
def test_killed_while_it_writes(killed, blocks):
    path = killed / f"{blocks} out.npy"
    embedding = np.load(path, mmap_mode="r")
    assert embedding[1:].any()
    for part in (
        embedding,
        embedding[7:],
        np.asarray(embedding)[::2],
        embedding[:, 3:],
    ):
        refused(part)
    with pytest.raises(ValueError, match="NaN"):
        MutualKNNLeiden(5).fit(np.load(path))


def test_error_while_it_writes(tmp_path):
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype="f4", shape=(40, 32)
    )
    huge = X.copy()
    huge[-1] = 3e38
    made = MultiLayerTfidfSketcher(16, layers=[8, 8], batch_size=10, random_state=0)
    with pytest.raises(ValueError, match="overflow float32"):
        made.fit_transform(huge, out=out)
    refused(out)
    made.fit_transform(X, out=out)
    np.testing.assert_array_equal(out, made.fit_transform(X))
    MutualKNNLeiden(5).fit(out)


@pytest.mark.parametrize("n", [1, 2, 40])
def test_first_row_has_a_gap_and_few_rows_are_there(n):
    with_gaps = X[:n].copy()
    with_gaps[0, :8] = 0
    out = np.full((n, 32), np.nan, dtype=np.float32)
    made = MultiLayerTfidfSketcher(16, layers=[8, 8], random_state=0)
    found = made.fit_transform(with_gaps, out=out)
    np.testing.assert_array_equal(found, made.transform(with_gaps))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


# --- a file that becomes shorter ------------------------------------------------------

SHORTER = [
    *(f"dense {t}" for t in ("fit", "transform", "cluster", "predict")),
    *(f"dense {t}" for t in ("prototypes", "top_features")),
    *(f"data {t}" for t in ("fit", "transform", "prototypes")),
    "indices transform",
]


def use_of_a_file_that_became_shorter(case, folder):
    """Run in a child process, which dies of what the system does of itself."""
    kind, task = case.split()
    dense = rng.random((4000, 16), dtype=np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)

    def mapped(name, array):
        path = f"{folder}/{case} {name}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    if kind == "dense":
        X, shortened = mapped("x", dense), "x"
    else:
        stored = sp.csr_array(dense)
        parts = [mapped(n, getattr(stored, n)) for n in ("data", "indices", "indptr")]
        X, shortened = sp.csr_array(tuple(parts), shape=dense.shape), kind
    made = sketcher().fit(X[:100])
    clusterer = MutualKNNLeiden(5, random_state=0)
    if task == "predict":
        clusterer.fit(X)
    labels = np.arange(4000) % 3
    os.truncate(f"{folder}/{case} {shortened}.npy", 5000)
    {
        "fit": lambda: sketcher().fit(LayerStack([X])),
        "transform": lambda: made.transform(X),
        "cluster": lambda: clusterer.fit(X),
        "predict": lambda: clusterer.predict(dense[:5]),
        "prototypes": lambda: prototypes(LayerStack([X]), labels),
        "top_features": lambda: top_features(LayerStack([X]), labels),
    }[task]()


@pytest.fixture(scope="module")
def of_shorter_files(tmp_path_factory):
    use = use_of_a_file_that_became_shorter.__name__
    return outcomes(__name__, use, SHORTER, tmp_path_factory.mktemp("shorter"))


@pytest.mark.skipif(os.name != "posix", reason="a mapped file cannot be cut elsewhere")
@pytest.mark.parametrize("case", SHORTER)
def test_file_that_became_shorter(of_shorter_files, case):
    name, outcome = case.replace("dense", "x").split()[0], of_shorter_files[case]
    assert outcome.get("error") == "OSError", outcome
    assert "become shorter: it has 5000 bytes" in outcome["message"], outcome
    assert f"{case} {name}.npy" in outcome["message"], outcome
