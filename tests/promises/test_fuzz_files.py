"""Files that are damaged in any way: a named error, or what was written.

Each damage is drawn by the name of its case, so that a case can be run again alone. All
run in child processes, as damaged files may kill the process that reads them.
"""

import atexit
import functools
import io
import json
import random
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skleiden import LayerStack, MutualKNNLeiden
from skleiden.inspection import Communities
from skleiden.io import (
    load_activations,
    load_communities,
    load_estimator,
    load_texts,
    save_communities,
    save_estimator,
)
from tests.children import PEAK, outcomes

pytestmark = pytest.mark.slow

# Names that no message and no form of file has.
STEM, LAYER = "quorvex", "wumbo"
EXAMPLES = 60
X = np.random.default_rng(0).random((6, 4)).astype("f4")
IDS = [f"q{i}" for i in range(6)]


# --- whole files ----------------------------------------------------------------------


def npy(path):
    np.save(path, X)


def npz(path):
    np.savez(path, **{LAYER: X, "ids": np.array(IDS)})


def compressed(path):
    np.savez_compressed(path, **{LAYER: X, "ids": np.array(IDS)})


def sparse(form):
    return lambda path: sp.save_npz(path, sp.coo_array(X).asformat(form))


def tensors(path):
    from safetensors.numpy import save_file

    save_file({LAYER: X}, path, {"ids": json.dumps(IDS)})


def torch_file(path, **options):
    import torch

    # One memory each, as torch.save keeps that whole of which a tensor is a part.
    content = {i: torch.tensor(row) for i, row in zip(IDS, X, strict=True)}
    torch.save(content, path, **options)


def old_torch_file(path):
    torch_file(path, _use_new_zipfile_serialization=False)


def json_file(path):
    content = {i: row.tolist() for i, row in zip(IDS, X, strict=True)}
    path.write_text(json.dumps(content))


def table(form):
    def write(path):
        import pyarrow as pa
        from pyarrow import parquet

        made = pa.table({"id": IDS, LAYER: pa.array(list(X))})
        if form == "parquet":
            parquet.write_table(made, path)
            return
        new = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, new(sink, made.schema) as file:
            file.write_table(made)

    return write


def lines(path):
    rows = zip(IDS, X.tolist(), strict=True)
    path.write_text("".join(f"{json.dumps({'id': i, LAYER: r})}\n" for i, r in rows))


def triplets(path):
    cells = sp.coo_array(X)
    np.savez(path, row=cells.row, latent=cells.col, value=cells.data, ids=np.array(IDS))


def hdf5(**options):
    def write(path):
        import h5py

        with h5py.File(path, "w", libver=options.pop("libver", "earliest")) as file:
            file.create_dataset(LAYER, data=X, **options)
            file["ids"] = IDS

    return write


def zarr_folder(zarr_format):
    def write(path):
        import zarr

        summed = {"compressors": [zarr.codecs.Crc32cCodec()]}
        options = summed if zarr_format == 3 else {}
        group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        array = group.create_array(
            LAYER, shape=X.shape, dtype=X.dtype, chunks=(2, 4), **options
        )
        array[:] = X

    return write


# Of the forms with a sum for each piece of data, what comes back is what was written.
SUMMED = {
    "npz": npz,
    "compressed": compressed,
    "triplets": triplets,
    **{form: sparse(form) for form in ("csr", "csc", "bsr", "coo", "dia")},
    "summed hdf5": hdf5(chunks=(2, 4), fletcher32=True, libver="latest"),
    "zarr": zarr_folder(3),
}
# Of others, entries differ where their bytes do.
PLAIN = {
    "npy": npy,
    "tensors": tensors,
    "torch": torch_file,
    "old torch": old_torch_file,
}
# Of the last, text that was changed is another text, and metadata other metadata.
FREE = {
    "json": json_file,
    "lines": lines,
    **{form: table(form) for form in ("parquet", "arrow", "stream")},
    "hdf5": hdf5(),
    "chunked hdf5": hdf5(chunks=(2, 4), compression="gzip"),
    "old zarr": zarr_folder(2),
}
FORMS = {**SUMMED, **PLAIN, **FREE}
SUFFIXES = {"npy": "npy", "tensors": "safetensors"}  # which writers insist on


def path_of(form, folder):
    zipped = form in SUMMED and "hdf5" not in form and form != "zarr"
    return folder / f"{STEM}.{'npz' if zipped else SUFFIXES.get(form, 'dat')}"


# --- damage ---------------------------------------------------------------------------


def damage(draw, data):
    """What becomes of bytes: some changed, some gone, some added; and of which kind."""
    kind = draw.choice(["change", "change", "cut", "insert", "repeat"])
    at = draw.randrange(max(len(data), 1))
    content = draw.choice(
        [
            draw.randbytes(draw.randint(1, 8)),
            b"\xff" * 4,
            b"\0" * 4,
            b"\xff\xff\xff\x7f",
        ]
    )
    if kind == "change":
        changed = data[:at] + content + data[at + len(content) :]
        return kind, changed[: len(data)]
    if kind == "cut":
        return kind, data[:at]
    if kind == "insert":
        return kind, data[:at] + content + data[at:]
    return kind, data[:at] + data[at // 2 :]


def read_all(path, mmap):
    """The ids and numbers of the only layer of a file, which are all read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that read the file
        stack = load_activations(path, mmap=mmap)
        assert isinstance(stack, LayerStack)
        (layer,) = stack[::-1].layers
    values = layer.toarray() if sp.issparse(layer) else np.asarray(layer)
    assert values.shape == stack.shape
    return stack.ids, values[::-1]


@functools.cache
def written(form):
    """The files of a form, which are read well; and the ids and numbers in them."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    path = path_of(form, folder)
    FORMS[form](path)
    ids, values = read_all(path, mmap=False)
    np.testing.assert_array_equal(values, X)
    return path, ids, values


def damaged(case):
    """Damage a file and read it: "refused", "same" or "changed"."""
    form, _ = case.split("/")
    draw = random.Random(case)
    whole, ids, values = written(form)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / whole.name
        copy = shutil.copytree if whole.is_dir() else shutil.copyfile
        copy(whole, path)
        target, is_folder = path, path.is_dir()
        if is_folder:
            target = draw.choice(sorted(p for p in path.rglob("*") if p.is_file()))
        before = target.read_bytes()
        kind, after = damage(draw, before)
        target.write_bytes(after)
        try:
            ids_found, found = read_all(path, mmap=draw.random() < 0.5)
        except ValueError as error:
            if STEM not in str(error):
                raise
            return "refused"
        if is_folder and target.name[0] in ".z":  # metadata
            return "changed"
        same = np.array_equal(found, values) and np.array_equal(ids_found, ids)
        if form in SUMMED:
            assert same, f"{kind}: {found}"
        if form in PLAIN and not same:
            assert kind == "change", kind
            check_entries(before, after, found)
        return "same" if same else "changed"


def check_entries(before, after, found):
    """Check that entries differ only where their bytes do."""
    starts = [before.index(row.tobytes()) for row in X]
    touched = np.array([a != b for a, b in zip(before, after, strict=True)])
    if touched[: min(starts)].any():  # the header, which may say something else
        return
    assert found.dtype == X.dtype
    assert found.shape == X.shape
    for start, row, values in zip(starts, X, found, strict=True):
        entries = touched[start : start + row.nbytes].reshape(-1, 4).any(axis=1)
        np.testing.assert_array_equal(values[~entries], row[~entries])


SPARSE = ("csr", "csc", "bsr", "coo", "dia")
RESULTS = ("communities", "estimator")


def run_case(case):
    """Run a function on a case of it, which "function:case" names."""
    function, _, case = case.partition(":")
    return globals()[function](case)


@pytest.fixture(scope="module")
def results():
    """Outcomes of the cases of each function, all of one child."""
    cases = {
        "damaged": [f"{form}/{i}" for form in FORMS for i in range(EXAMPLES)],
        "damaged_parts": [
            f"{form}/{i}" for form in SPARSE for i in range(2 * EXAMPLES)
        ],
        "damaged_result": [f"{kind}/{i}" for kind in RESULTS for i in range(30)],
    }
    found = outcomes(
        __name__,
        "run_case",
        [f"{function}:{case}" for function, of in cases.items() for case in of],
        timeout=180,
        preload=["torch", "zarr", "faiss", "igraph", "sklearn.pipeline"],
    )
    return {
        function: {case: found[f"{function}:{case}"] for case in of}
        for function, of in cases.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_damaged_activations(results, form):
    found = {
        case: end
        for case, end in results["damaged"].items()
        if case.split("/")[0] == form
    }
    wrong = {case: end for case, end in found.items() if "result" not in end}
    assert not wrong
    assert len(found) == EXAMPLES
    assert [end["result"] for end in found.values()].count("refused") > 5
    dear = [case for case, end in found.items() if end["peak"] > PEAK]
    assert not dear


# --- sparse matrices whose parts are damaged before they are written ------------------


def plain(form, shape, data, **others):
    """What the parts of a valid matrix say, entry by entry."""
    dense = np.zeros(shape, dtype=data.dtype)
    if form == "coo":
        for value, i, j in zip(data, others["row"], others["col"], strict=True):
            dense[i, j] += value
    elif form == "dia":
        for diagonal, offset in zip(data, others["offsets"], strict=True):
            for j in range(min(len(diagonal), shape[1])):
                if 0 <= j - offset < shape[0]:
                    dense[j - offset, j] += diagonal[j]
    else:
        indptr, indices = others["indptr"], others["indices"]
        blocks = data if form == "bsr" else data[:, None, None]
        rows, columns = blocks.shape[1:]
        for i in range(len(indptr) - 1):
            for entry in range(indptr[i], indptr[i + 1]):
                a, b = (i, indices[entry]) if form != "csc" else (indices[entry], i)
                place = np.s_[
                    a * rows : (a + 1) * rows, b * columns : (b + 1) * columns
                ]
                dense[place] += blocks[entry]
    return dense


ODD = [-1, 0, 1, 2, 3, 5, 64, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63)]


def damaged_parts(case):
    """Change numbers of the parts of a sparse matrix: "refused", or what they say."""
    form, _ = case.split("/")
    draw = random.Random(case)
    whole = io.BytesIO()
    sp.save_npz(whole, sp.coo_array(np.where(X > 0.5, X, 0)).asformat(form))
    whole.seek(0)
    with np.load(whole) as archive:
        parts = {name: archive[name] for name in archive.files}
    if "coords" in parts:
        parts["row"], parts["col"] = parts.pop("coords")
    for _ in range(draw.randint(1, 2)):
        name = draw.choice(sorted(set(parts) - {"format", "_is_array", "data"}))
        part = parts[name].astype(draw.choice(["i8", parts[name].dtype.str]))
        action = draw.choice(["put", "put", "put", "cut", "swap"])
        if part.size and action == "put":
            with np.errstate(all="ignore"):
                value = np.array(draw.choice(ODD)).astype(part.dtype)
            part[draw.randrange(part.size)] = value
        elif action == "cut":
            part = part[: draw.randint(0, part.size)]
        elif part.size > 1:
            a, b = draw.sample(range(part.size), 2)
            part[[a, b]] = part[[b, a]]
        parts[name] = part
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{STEM}.npz"
        np.savez(path, **parts)
        try:
            _, found = read_all(path, mmap=True)
        except ValueError as error:
            if STEM not in str(error):
                raise
            return "refused"
    shape = tuple(parts["shape"].tolist())
    others = {
        n: p for n, p in parts.items() if n not in ("format", "_is_array", "shape")
    }
    np.testing.assert_allclose(found, plain(form, shape, **others))
    return "right"


@pytest.mark.parametrize("form", SPARSE)
def test_damaged_parts_of_sparse_matrices(results, form):
    found = {
        case: end
        for case, end in results["damaged_parts"].items()
        if case.startswith(form)
    }
    assert len(found) == 2 * EXAMPLES
    assert not {case: end for case, end in found.items() if "result" not in end}
    assert {end["result"] for end in found.values()} == {"refused", "right"}
    assert max(end["peak"] for end in found.values()) < PEAK


# --- results, and any bytes -----------------------------------------------------------


@functools.cache
def clusterer():
    return MutualKNNLeiden(2, small_clusters="keep").fit(X)


def damaged_result(case):
    kind, _ = case.split("/")
    draw = random.Random(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STEM
        if kind == "communities":
            known = {"texts": list("abcd"), "stability": [0.5, 1.0]}
            save_communities(path, Communities([0, 0, 1, -1], **known))
        else:
            save_estimator(path, clusterer())
        path.write_bytes(damage(draw, path.read_bytes())[1])
        load = load_communities if kind == "communities" else load_estimator
        try:
            found = load(path)
        except ValueError as error:
            if STEM not in str(error):
                raise
            return "refused"
    if kind == "estimator":  # the archive has a sum for each array
        np.testing.assert_array_equal(found.labels_, clusterer().labels_)
    return "read"


def test_damaged_results(results):
    found = results["damaged_result"]
    assert not {case: end for case, end in found.items() if "result" not in end}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("load", [load_activations, load_texts])
def test_any_bytes(tmp_path, content, load):
    path = tmp_path / f"{STEM}.dat"
    path.write_bytes(content)
    try:
        load(path)
    except ValueError as error:
        if STEM not in str(error):
            raise


def test_archive_of_an_archive(tmp_path):
    inner = io.BytesIO()
    np.savez(inner, x=X)
    path = tmp_path / f"{STEM}.npz"
    np.savez(path, x=np.frombuffer(inner.getvalue(), dtype=np.uint8))
    with pytest.raises(ValueError, match=rf"{STEM}.* 2-D arrays; got arrays of shapes"):
        load_activations(path)
