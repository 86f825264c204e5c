"""Files and sparse matrices that lie, each in a child process that may not die."""

import copy
import csv
import io
import json
import os
import socket
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.lib import format as npy
from sklearn.neighbors import kneighbors_graph

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden, align_layers
from skleiden.cli import main
from skleiden.inspection import top_features
from skleiden.io import load_activations, load_texts
from skleiden.model_selection import permute_columns
from tests.children import check_refused, outcomes

pytestmark = pytest.mark.slow

# No message and no other test has this name.
STEM = "quorvex"
rng = np.random.default_rng(0)
X = (rng.integers(1, 40, (64, 4)) / 8 * (rng.random((64, 4)) < 0.6)).astype("f4")


# --- sparse matrices in files ---------------------------------------------------------


def parts(form, **changes):
    """What SciPy's save_npz would write of X, but for the changes; None leaves out."""
    matrix = sp.coo_array(X).asformat(form)
    if form == "coo":
        row, col = matrix.coords if hasattr(matrix, "coords") else matrix.nonzero()
        given = {"row": row, "col": col}
    elif form == "dia":
        given = {"offsets": matrix.offsets}
    else:
        given = {"indices": matrix.indices, "indptr": matrix.indptr}
    given |= {"data": matrix.data, "shape": np.array(X.shape), "format": np.array(form)}
    for name, change in changes.items():
        given[name] = change(given.get(name)) if callable(change) else change
    return {name: value for name, value in given.items() if value is not None}


def put(place, value, dtype=None):
    """A change of one number of an array."""

    def change(array):
        array = array.astype(dtype or array.dtype)
        array[place] = value
        return array

    return change


FAR = 10**15
OF_BLOCKS = {"data": lambda d: np.ones((d.shape[0], 3, 1)), "shape": (64, 4)}
SPARSE_FILES = {
    # rows and columns that there are not
    "csc row": (
        parts("csc", indices=put(slice(5), 66)),
        "indices .* 0 to 63; got . to",
    ),
    "csc last row": (parts("csc", indices=put(-1, 64)), "from 0 to 63; got 0 to 64"),
    "csc negative": (parts("csc", indices=put(3, -1)), "0 to 63; got -1 to 63"),
    "csr negative": (parts("csr", indices=put(0, -1)), "0 to 3; got -1 to 3"),
    "csr column": (parts("csr", indices=put(0, 4)), "0 to 3; got 0 to 4"),
    "bsr column": (parts("bsr", indices=put(0, 2**30)), "indices must be from 0 to"),
    "bsr negative": (parts("bsr", indices=put(0, -3)), "got -3"),
    "coo row": (parts("coo", row=put(0, 64)), "row must be from 0 to 63"),
    "coo column": (parts("coo", col=put(0, -1)), "col must be from 0 to 3; got -1"),
    "long": (parts("csc", indices=put(0, 2**40, "i8")), "got 0 to 1099511627776"),
    "unsigned": (parts("csc", indices=put(0, 2**64 - 1, "u8")), "184467440737095"),
    "wrapped": (parts("csr", indices=put(0, 2**32, "i8")), "got 0 to 4294967296"),
    "dia offset": (parts("dia", offsets=put(0, 2**31 - 1)), "offsets must be from -63"),
    "dia low offset": (parts("dia", offsets=put(0, -(2**31))), "got -2147483648"),
    "dia twice": (parts("dia", offsets=lambda o: np.full_like(o, 1)), "must differ"),
    # pointers
    "csc pointer": (parts("csc", indptr=put(-1, 2**30)), "indptr ends at 1073741824"),
    "csr falls": (parts("csr", indptr=put(5, 0)), "start at 0 and never fall"),
    "csc falls": (parts("csc", indptr=put(1, 2**30)), "start at 0 and never fall"),
    "csr negative pointer": (parts("csr", indptr=put(1, -9)), "never fall"),
    "csr late": (parts("csr", indptr=put(0, 1)), "must start at 0"),
    "csr short": (parts("csr", indptr=lambda p: p[:-1]), "rows of blocks.*65; got 64"),
    "bsr long": (
        parts("bsr", indptr=lambda p: np.append(p, p[-1])),
        "indptr must have",
    ),
    "no pointer": (parts("csr", indptr=np.array([], "i4")), "65; got 0"),
    # lengths
    "csr lengths": (parts("csr", data=lambda d: d[:-1]), "of one length; got"),
    "coo lengths": (parts("coo", row=lambda r: r[:-1]), "of one length; got"),
    "dia lengths": (
        parts("dia", data=lambda d: d[:-1]),
        "one row for each of the offs",
    ),
    # dtypes and dimensions
    "float": (
        parts("csr", indices=lambda i: i.astype("f8")),
        "integers; got dtype flo",
    ),
    "text": (parts("csc", indptr=lambda p: p.astype("U9")), "integers; got dtype <U9"),
    "boolean": (parts("coo", row=lambda r: r > 3), "row must be integers; got dtype b"),
    "2-D": (
        parts("csc", indices=lambda i: i[None]),
        "indices .* 1 dim.*; got one of 2",
    ),
    "0-D": (parts("csr", indptr=np.array(0)), "1 dimension.*; got one of 0"),
    "flat bsr": (parts("bsr", data=lambda d: d.ravel()), "data .* 3 dimension"),
    "flat dia": (parts("dia", data=lambda d: d.ravel()), "data .* 2 dimension"),
    "complex": (
        parts("csr", data=lambda d: d + 1j),
        "must be real numbers; got dtype c",
    ),
    "words": (
        parts("csc", data=lambda d: d.astype("U3")),
        "real numbers; got dtype <U3",
    ),
    # shapes
    "three": (parts("csr", shape=np.array([64, 4, 1])), r"two whole numbers; got \(64"),
    "negative shape": (parts("csc", shape=np.array([-64, 4])), "0 to 2.*got \\(-64, 4"),
    "float shape": (parts("csr", shape=np.array([64.0, 4])), "two whole numbers"),
    "no shape": (parts("coo", shape=np.array(64)), "two whole numbers"),
    "blocks": (parts("bsr", **OF_BLOCKS), "not a multiple of its blocks"),
    "no blocks": (parts("bsr", data=lambda d: d[:, :, :0]), "not a multiple of its bl"),
    "coo rows": (
        parts("coo", shape=np.array([FAR, 4])),
        "claims 1000000000000000 rows",
    ),
    "csc rows": (
        parts("csc", shape=np.array([FAR, 4])),
        "claims 1000000000000000 rows",
    ),
    "dia rows": (
        parts("dia", shape=np.array([FAR, 4])),
        "claims 1000000000000000 rows",
    ),
    "csr columns": (parts("csr", shape=np.array([64, FAR])), "claims .* columns, far"),
    "many rows": (parts("coo", shape=np.array([2**31, 4])), "claims 2147483648 rows"),
    # forms
    "lil": (
        parts("csr", format=np.array("lil")),
        "of the format 'lil'; these are read",
    ),
    "method": (parts("csr", format=np.array("__class__")), "format '__class__'; these"),
    "formats": (
        parts("csr", format=np.array(["csr", "csc"])),
        "format None; these are",
    ),
    "lacks": (parts("csr", indices=None, indptr=None), "lacks indices and indptr"),
    "coords": (
        parts("coo", row=None, col=None, coords=np.ones((3, 9), "i4")),
        "lacks row and col",
    ),
}


def load(name, folder):
    """The numbers of the stack of a file, mapped and read."""
    found = []
    for mmap in (True, False):
        stack = load_activations(Path(folder) / name, mmap=mmap)
        dense = [m.toarray() if sp.issparse(m) else np.asarray(m) for m in stack.layers]
        found.append([matrix.tolist() for matrix in dense])
    assert found[0] == found[1]
    return found[0]


@pytest.fixture(scope="module")
def of_sparse_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    names = {f"{STEM} {case}.npz": case for case in SPARSE_FILES}
    for name, case in names.items():
        np.savez(folder / name, **SPARSE_FILES[case][0])
    found = outcomes(__name__, "load", names, folder)
    return {names[name]: outcome for name, outcome in found.items()}


@pytest.mark.parametrize("case", SPARSE_FILES)
def test_sparse_files_that_lie(of_sparse_files, case):
    message = SPARSE_FILES[case][1]
    check_refused(of_sparse_files[case], rf"{STEM} {case}\.npz' .*{message}")


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", ">i4", ">i8", "i8"]
)
def test_indices_of_any_integers(tmp_path, form, dtype):
    """As other software writes them."""
    given = parts(form)
    for name in {"indices", "indptr", "row", "col", "offsets"} & set(given):
        if given[name].min() >= 0 or dtype[-2] == "i":
            given[name] = given[name].astype(np.int64 if dtype == "i1" else dtype)
    if form == "csr" and dtype == "i8":
        given |= {"format": np.array(b"csr"), "_is_array": np.array(True)}
    np.savez(tmp_path / "a.npz", **given)
    assert load("a.npz", tmp_path) == [X.tolist()]


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize("dtype", ["f2", "f8", "i2", "?", ">f4"])
def test_sparse_files_of_any_numbers(tmp_path, form, dtype):
    np.savez(tmp_path / "a.npz", **parts(form, data=lambda d: d.astype(dtype)))
    assert load("a.npz", tmp_path) == [X.astype(dtype).tolist()]


def test_coordinates_as_of_newer_versions(tmp_path):
    given = parts("coo")
    given["coords"] = np.stack([given.pop("row"), given.pop("col")])
    np.savez(tmp_path / "a.npz", **given)
    assert load("a.npz", tmp_path) == [X.tolist()]


def test_sparse_files_without_entries(tmp_path):
    for form in ("csr", "csc", "bsr", "coo", "dia"):
        sp.save_npz(tmp_path / "a.npz", sp.coo_array((5, 3)).asformat(form))
        assert load("a.npz", tmp_path) == [np.zeros((5, 3)).tolist()]


# --- sparse matrices in memory --------------------------------------------------------

GRAPH = kneighbors_graph(X, 5, mode="distance")


def tampered(form, **changes):
    """X, or a graph of its rows, with changed parts, which SciPy has not seen."""

    def make(whole):
        matrix = sp.csr_array(whole).asformat(form)
        for name, change in changes.items():
            if name == "coords":
                both = getattr(matrix, "coords", None) or (matrix.row, matrix.col)
                row, col = change(both)
                if hasattr(matrix, "coords"):
                    matrix.coords = (row, col)
                else:
                    matrix.row, matrix.col = row, col
            else:
                setattr(matrix, name, change(copy.copy(getattr(matrix, name))))
        return matrix

    return make


def lists(name, row, change):
    def changed(array):
        array[row] = change(array[row])
        return array

    return {name: changed}


def with_key(key):
    def make(whole):
        matrix = sp.dok_array(whole)
        getattr(matrix, "_dict", matrix)[key] = 1.0
        return matrix

    return make


TAMPERED = {
    "csr negative": (tampered("csr", indices=put(0, -1)), "got -1 to"),
    "csr column": (tampered("csr", indices=put(0, 64)), "indices must be from 0 to"),
    "csr far": (
        tampered("csr", indices=put(0, 2**31 - 1)),
        "indices must be from 0 to",
    ),
    "csr falls": (tampered("csr", indptr=put(5, 0)), "start at 0 and never fall"),
    "csr beyond": (tampered("csr", indptr=put(-1, 2**30)), "indptr ends at 1073741824"),
    "csr short": (tampered("csr", indices=lambda i: i[:-1]), "of one length"),
    "csr pointers": (tampered("csr", indptr=lambda p: p[:-1]), "65; got 64"),
    "csr floats": (
        tampered("csr", indices=lambda i: i.astype("f8")),
        "indices must be signed integers; got dtype float64",
    ),
    "csr unsigned": (
        tampered("csr", indices=lambda i: i.astype("u8")),
        "indices must be signed integers; got dtype uint64",
    ),
    "csr list": (
        tampered("csr", indptr=lambda p: p.tolist()),
        r"indptr must be an array of 1 dimension\(s\); got list",
    ),
    "csr shape": (tampered("csr", _shape=lambda _: (2**40, 4)), "indptr must have one"),
    "csr negative shape": (tampered("csr", _shape=lambda _: (-1, 4)), "got \\(-1, 4"),
    "csc row": (tampered("csc", indices=put(0, 64)), "indices must be from 0 to 63"),
    "csc beyond": (tampered("csc", indptr=put(-1, 2**30)), "indptr ends at"),
    "csc negative": (tampered("csc", indices=put(0, -9)), "got -9"),
    "bsr column": (tampered("bsr", indices=put(0, 2**30)), "indices must be from 0"),
    "bsr blocks": (
        tampered("bsr", data=lambda d: np.zeros((d.shape[0], 3, 1), d.dtype)),
        "not a multiple of its blocks' shape",
    ),
    "coo row": (
        tampered("coo", coords=lambda c: (put(0, 2**30)(c[0]), c[1])),
        "row must be from 0 to 63",
    ),
    "coo negative": (
        tampered("coo", coords=lambda c: (c[0], put(0, -1)(c[1]))),
        "col must be from 0 to",
    ),
    "coo short": (tampered("coo", data=lambda d: d[:1]), "of one length"),
    "dia offset": (tampered("dia", offsets=put(0, 2**31 - 1)), "offsets must be from"),
    "dia twice": (tampered("dia", offsets=lambda o: np.full_like(o, 1)), "must differ"),
    "lil column": (
        tampered("lil", **lists("rows", 3, lambda _: [99])),
        "one length|99",
    ),
    "lil far": (
        tampered("lil", **lists("rows", 3, lambda r: [2**70, *r[1:]])),
        "rows must be integers of 64 bits|rows and of data",
    ),
    "lil lengths": (
        tampered("lil", **lists("data", 3, lambda d: d * 99)),
        "one length",
    ),
    "lil nothing": (
        tampered("lil", **lists("rows", 3, lambda _: None)),
        "one list for",
    ),
    "dok row": (with_key((64, 0)), "rows must be from 0 to 63; got 0 to 64"),
    "dok negative": (with_key((-1, 0)), "rows must be from 0 to 63; got -1 to"),
    "dok key": (with_key((1, 2, 3)), "keys must be pairs"),
    "dok words": (with_key(("a", 0)), "rows must be integers of 64 bits"),
}
DOORS = {
    "layers": lambda make: LayerStack([make(X)]),
    "sketcher": lambda make: MultiLayerTfidfSketcher(2).fit(make(X)),
    "features": lambda make: top_features(make(X), np.arange(64) % 2),
    "graph": lambda make: MutualKNNLeiden(5, metric="precomputed").fit(make(GRAPH)),
}
TRIED = [f"{door}/{case}" for door in DOORS for case in TAMPERED]


def enter(name):
    door, case = name.split("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SciPy, that a form is slow to change
        return repr(DOORS[door](TAMPERED[case][0]))


@pytest.fixture(scope="module")
def of_tampered():
    return outcomes(__name__, "enter", TRIED)


@pytest.mark.parametrize("name", TRIED)
def test_matrices_in_memory_that_lie(of_tampered, name):
    door, case = name.split("/")
    what = "Layer 'layer_0'" if door == "layers" else "X"
    message = rf"{what} is not a valid sparse matrix of .*{TAMPERED[case][1]}.* again"
    check_refused(of_tampered[name], message)


def test_flags_that_lie():
    """That a matrix says it has no doubled entries is not believed."""
    double = sp.csr_array(
        (np.repeat(sp.csr_array(X).data / 2, 2), np.repeat(sp.csr_array(X).indices, 2),
         2 * sp.csr_array(X).indptr), shape=X.shape,
    )  # fmt: skip
    double.has_canonical_format = double.has_sorted_indices = True
    sketcher = MultiLayerTfidfSketcher(2, random_state=0)
    np.testing.assert_allclose(
        sketcher.fit_transform(double), sketcher.fit_transform(X)
    )


def test_entries_behind_the_last_row():
    """SciPy keeps them until it uses the matrix; they are not part of it."""
    whole = sp.csr_array(X)
    whole.data = np.append(whole.data, np.nan).astype("f4")
    whole.indices = np.append(whole.indices, 3).astype(whole.indices.dtype)
    sketcher = MultiLayerTfidfSketcher(2, random_state=0)
    np.testing.assert_allclose(sketcher.fit_transform(whole), sketcher.fit_transform(X))


def test_the_check_copies_nothing(tmp_path):
    """Memory maps of the parts stay maps."""
    whole, mapped = sp.csr_array(X), {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(whole, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    matrix = sp.csr_array(tuple(mapped.values()), shape=X.shape)
    (layer,) = LayerStack([matrix]).layers
    assert layer is matrix
    for name, part in mapped.items():
        assert np.shares_memory(getattr(layer, name), part)


# --- files that claim more than they hold, and other odd ones -------------------------


def header_of(shape, descr="<f4"):
    text = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(text, fields)
    return text.getvalue()


def raw_header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def patched_sizes(path, content, file_size):
    """An archive whose directory says that its member is larger than it is."""
    archive(path, x=content)
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 24 : at + 28] = struct.pack("<I", file_size)
    path.write_bytes(whole)


def bomb(path, size=2**29):
    """An array of zeros, a thousandth of its size when it is packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head, zeros, count = header_of((size // 4096, 1024)), bytes(2**20), size // 2**20
    packed = [packer.compress(head), packer.flush(zlib.Z_FULL_FLUSH)]
    packed += [packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)] * count
    data, crc = b"".join([*packed, packer.flush()]), zlib.crc32(head)
    for _ in range(count):
        crc = zlib.crc32(zeros, crc)
    sizes = struct.pack("<III", crc, len(data), size + len(head))
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes
    local += struct.pack("<HH", 5, 0) + b"x.npy"
    entry = b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + sizes
    entry += struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0) + b"x.npy"
    place = len(local) + len(data)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), place, 0)
    path.write_bytes(local + data + entry + end)


def overlapping(path):
    """Fifty members that are one and the same."""
    content = header_of((2**18, 4)) + bytes(2**22)
    archive(path, x=content)
    whole = path.read_bytes()
    at, stop = whole.rindex(b"PK\x01\x02"), whole.rindex(b"PK\x05\x06")
    entry = whole[at:stop]
    entries = b"".join(entry.replace(b"x.npy", b"%c.npy" % (65 + i)) for i in range(50))
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 50, 50, len(entries), at, 0)
    path.write_bytes(whole[:at] + entries + end)


def tensors(path, entries, metadata=None, content=b""):
    more = {} if metadata is None else {"__metadata__": metadata}
    is_text = isinstance(entries, bytes)
    text = entries if is_text else json.dumps({**entries, **more}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def tensor(shape, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, stop]}


def saved(path, content, **options):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content(torch), path, **options)


def with_pickle(path, made):
    """A torch file with another pickle."""
    saved(path, lambda t: {"a": t.ones(4)})
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            is_pickle = name.endswith("data.pkl")
            file.writestr(name, made(content) if is_pickle else content)


def longer(pickled, numel=2**20):
    """The pickle of a tensor of 4 numbers that says it has more."""
    return pickled.replace(b"K\x04", b"J" + struct.pack("<i", numel))


DEEP = 200_000
BROKEN_NPY = "is broken, truncated, or holds objects instead of numbers: "
F8 = tensor([64, 4], 256, "F8_E4M3")
ODD_FILES = {
    # NumPy
    "huge.npy": (
        lambda p: p.write_bytes(header_of((10**12, 4))),
        BROKEN_NPY + "it has 0",
    ),
    "overflow.npy": (lambda p: p.write_bytes(header_of((2**62, 8))), "its header says"),
    "negative.npy": (
        lambda p: p.write_bytes(header_of((-1, 4)) + X.tobytes()),
        r"its header says -16, for the shape \(-1, 4\)",
    ),
    "both negative.npy": (
        lambda p: p.write_bytes(header_of((-64, -4)) + X.tobytes()),
        r"for the shape \(-64, -4\)",
    ),
    "more.npy": (
        lambda p: p.write_bytes(header_of((3, 4)) + X.tobytes()),
        "it has 1024 bytes of numbers, but its header says 48",
    ),
    "nested.npy": (lambda p: p.write_bytes(raw_header(b"(" * 9000)), BROKEN_NPY),
    "long.npy": (lambda p: p.write_bytes(raw_header(b"1" * 60000)), BROKEN_NPY),
    "version 3.npy": (
        lambda p: p.write_bytes(b"\x93NUMPY\x03\x00" + bytes(99)),
        "records",
    ),
    "records.npy": (
        lambda p: np.save(p, np.zeros((2, 2), [("a", "f4")])),
        "must hold real numbers; got dtype",
    ),
    # archives
    "huge.npz": (lambda p: archive(p, x=header_of((10**12, 4))), "'x': it has 0 bytes"),
    "sizes.npz": (
        lambda p: patched_sizes(p, header_of((2**20, 900)), 2**32 - 2**20),
        "members claim more bytes than the file has",
    ),
    "bomb.npz": (bomb, "claims to hold .* over 500 times as many"),
    "overlapping.npz": (overlapping, "claim more bytes than|[Oo]verlap"),
    "less.npz": (
        lambda p: archive(p, x=header_of((3, 4)) + X.tobytes()),
        "'x': it has 1024 bytes of numbers, but its header says 48",
    ),
    "document.npz": (lambda p: archive(p, word=b"<?xml"), f"{BROKEN_NPY}'word': "),
    "empty member.npz": (lambda p: archive(p, x=b""), f"{BROKEN_NPY}'x': "),
    "no member.npz": (lambda p: zipfile.ZipFile(p, "w").close(), "2-D arrays; got"),
    "negative.npz": (lambda p: archive(p, x=header_of((-64, -4)) + X.tobytes()), "-64"),
    # safetensors
    "metadata.safetensors": (
        lambda p: tensors(p, {"x": tensor([64, 4], 1024)}, ["ids"], X.tobytes()),
        "is broken or truncated",
    ),
    "number.safetensors": (
        lambda p: tensors(p, {"x": tensor([64, 4], 1024)}, {"ids": 1}, X.tobytes()),
        "is broken or truncated",
    ),
    "text ids.safetensors": (
        lambda p: tensors(p, {"x": tensor([64, 4], 1024)}, {"ids": '"a"'}, X.tobytes()),
        "must be a JSON list; got str",
    ),
    "object ids.safetensors": (
        lambda p: tensors(p, {"x": tensor([64, 4], 1024)}, {"ids": "{}"}, X.tobytes()),
        "must be a JSON list; got a mapping of 0",
    ),
    "deep ids.safetensors": (
        lambda p: tensors(
            p, {"x": tensor([64, 4], 1024)}, {"ids": "[" * DEEP}, X.tobytes()
        ),
        "must be a JSON list: it is nested too deeply",
    ),
    "f8.safetensors": (
        lambda p: tensors(p, {"x": F8}, None, bytes(256)),
        "has dtype F8_E4M3, which is not read|is broken or truncated",
    ),
    "twice.safetensors": (
        lambda p: tensors(
            p,
            b'{"x": %b, "x": %b}' % ((json.dumps(tensor([64, 4], 1024)).encode(),) * 2),
            None,
            X.tobytes(),
        ),
        "is broken or truncated",
    ),
    "far.safetensors": (
        lambda p: tensors(p, {"x": tensor([2**40, 4], 2**44)}, None, X.tobytes()),
        "is broken or truncated",
    ),
    "no width.safetensors": (
        lambda p: tensors(p, {"x": tensor([0, 2**63], 0)}),
        "is broken or truncated",
    ),
    "header.safetensors": (lambda p: p.write_bytes(b"\xff" * 8 + b"{}"), "is broken"),
    "short.safetensors": (lambda p: p.write_bytes(b"\x01"), "is broken or truncated"),
    # torch
    "meta.pt": (
        lambda p: saved(p, lambda t: {"a": t.ones(4, device="meta")}),
        "'meta'",
    ),
    "sparse.pt": (
        lambda p: saved(p, lambda t: {"a": t.ones(4).to_sparse()}),
        "a sparse",
    ),
    "sparse matrix.pt": (
        lambda p: saved(p, lambda t: t.ones(4, 4).to_sparse_csr()),
        "a sparse tensor|is broken",
    ),
    "quantized.pt": (
        lambda p: saved(
            p, lambda t: {"a": t.quantize_per_tensor(t.ones(4), 0.1, 0, t.qint8)}
        ),
        "a quantized tensor",
    ),
    "nested.pt": (
        lambda p: saved(p, lambda t: {"a": t.nested.nested_tensor([t.ones(4)] * 2)}),
        "a nested tensor|only code inside",
    ),
    "complex.pt": (lambda p: saved(p, lambda t: {"a": t.ones(4) + 1j}), "of complex"),
    "complex matrix.pt": (
        lambda p: saved(p, lambda t: t.ones(4, 4) + 1j),
        "of complex",
    ),
    "storage.pt": (
        lambda p: saved(p, lambda t: {"a": t.ones(4).untyped_storage()}),
        "'a' in .* is a (Unt|T)ypedStorage of torch, not a tensor|only code inside",
    ),
    "size.pt": (lambda p: saved(p, lambda t: {"a": t.Size([1, 2])}), "a Size of torch"),
    "dtype.pt": (lambda p: saved(p, lambda t: {"a": t.float32}), "a dtype of torch"),
    "record.pt": (
        lambda p: saved(p, lambda t: {"a": {"post": t.ones(4).to_sparse()}}),
        "'a' in .* is a sparse tensor",
    ),
    "expanded.pt": (
        lambda p: saved(p, lambda t: t.ones(1, 1).expand(10**6, 10**6)),
        "tensors claim 4000000000000",
    ),
    "expanded vectors.pt": (
        lambda p: saved(p, lambda t: {i: t.ones(1).expand(10**9) for i in "ab"}),
        "tensors claim 8000000000",
    ),
    "longer.pt": (
        lambda p: with_pickle(p, longer),
        "is broken or truncated|only code inside",  # as older torch says it
    ),
    "somewhat longer.pt": (
        lambda p: with_pickle(p, lambda made: longer(made, 20)),
        "is broken or truncated|only code inside",
    ),
    "bytearray.pt": (
        lambda p: with_pickle(
            p, lambda _: b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x40\x85R."
        ),
        "it holds a bytearray",
    ),
    "deep key.pt": (
        lambda p: with_pickle(p, lambda _: b"\x80\x02}N" + b"\x85" * DEEP + b"K\x01s."),
        "nests tuples more than 100 deep",
    ),
    "deep key by memo.pt": (
        lambda p: with_pickle(
            p, lambda _: b"\x80\x02}Nq\x01" + b"0h\x01\x85q\x01" * DEEP + b"K\x01s."
        ),
        "nests tuples more than 100 deep",
    ),
    "deep list.pt": (
        lambda p: with_pickle(
            p, lambda _: b"\x80\x02" + b"]" * 999 + b"a" * 998 + b"."
        ),
        "must hold a mapping of prompt ids to vectors; got list",
    ),
    "old bytearray.pt": (
        lambda p: p.write_bytes(b"\x80\x02c__builtin__\nbytearray\nJ\0\0\0\x40\x85R."),
        "it holds a bytearray",
    ),
    "no pickle.pt": (
        lambda p: p.write_bytes(b"\x80\x02" + b"\xff" * 9),
        "is broken or",
    ),
    # JSON
    "deep.json": (lambda p: p.write_text('{"a":' + "[" * DEEP), "is nested too deeply"),
    "deep objects.json": (
        lambda p: p.write_text('{"a":' * DEEP),
        "is nested too deeply",
    ),
    "digits.json": (
        lambda p: p.write_text('{"a": [1' + "0" * 5000 + "]}"),
        "valid JSON",
    ),
    "large.json": (
        lambda p: p.write_text('{"a": [1.5, 1' + "0" * 400 + "]}"),
        "not an arr",
    ),
    "too large.json": (lambda p: p.write_text('{"a": [1e999, 1]}'), "NaN or infinity"),
    "utf-16.json": (
        lambda p: p.write_text('{"a": [1]}', "utf-16"),
        "is not a file of act",
    ),
    "latin.json": (
        lambda p: p.write_bytes(b'{"\xe9": [1]}'),
        "is not valid JSON: 'utf-8'",
    ),
    "many twice.json": (
        lambda p: p.write_text(
            "{" + ",".join(f'"{i % 20000}":[1]' for i in range(40000)) + "}"
        ),
        "'0' is there more than once",
    ),
}


@pytest.fixture(scope="module")
def of_odd_files(tmp_path_factory):
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("odd")
    names = {f"{STEM} {case}": case for case in ODD_FILES}
    for name, case in names.items():
        ODD_FILES[case][0](folder / name)
    cases = [f"load:{name}" for name in names]
    cases += [f"command:{name}" for name, case in names.items() if case in AT_COMMAND]
    cases += [f"take:{n_bytes}" for n_bytes in TAKEN]
    ended = outcomes(__name__, "of_a_kind", cases, folder, preload=["torch"])
    found = {case: ended[f"load:{name}"] for name, case in names.items()}
    for case in AT_COMMAND:
        found[case]["command"] = ended[f"command:{STEM} {case}"]
    found |= {n_bytes: ended[f"take:{n_bytes}"] for n_bytes in TAKEN}
    return found


# One of each kind of error, which all go through one place.
AT_COMMAND = [
    *("overflow.npy", "bomb.npz", "far.safetensors", "deep ids.safetensors"),
    *("meta.pt", "longer.pt", "deep key.pt", "deep.json", "large.json", "latin.json"),
]


def command(name, folder):
    out = Path(folder) / "results"
    return main(["cluster", str(Path(folder) / name), "--out", str(out)])


# Sizes of arrays that nothing is written to, whose memory the system would never give.
TAKEN = [10**9, 1000, 10**8]


def take(n_bytes, _):
    np.empty(int(n_bytes), dtype=np.uint8)


def of_a_kind(case, folder):
    """Run a case of one of three kinds, which "load:file" or "take:1000" name."""
    kind, _, case = case.partition(":")
    return {"load": load, "command": command, "take": take}[kind](case, folder)


@pytest.mark.parametrize("n_bytes", TAKEN)
def test_what_a_case_takes_is_measured(of_odd_files, n_bytes):
    assert abs(of_odd_files[n_bytes]["peak"] - n_bytes) < 2**22


@pytest.mark.parametrize("case", ODD_FILES)
def test_odd_files(of_odd_files, case):
    message = ODD_FILES[case][1]
    outcome = of_odd_files[case]
    named = rf"(?=.*(?:{STEM} {case}|layer '{STEM} {case.rpartition('.')[0]}'))"
    check_refused(outcome, f"(?s){named}.*{message}")


@pytest.mark.parametrize("case", AT_COMMAND)
def test_odd_files_at_the_command(of_odd_files, case):
    """One line, and no traceback."""
    outcome = of_odd_files[case]["command"]
    assert outcome.get("result") == 1, outcome
    progress, line = outcome["printed"].splitlines()
    assert progress == "Load ..."
    assert line.startswith("skleiden: error: ")


# --- what is not a file ---------------------------------------------------------------


def make_pipe(path):
    os.mkfifo(path)
    return "a named pipe, not a regular file; reading it might wait forever"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # its name may have about 100 letters
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
    return "a socket, not a regular file"


def make_device(path):
    path.symlink_to("/dev/zero")
    return "a device, not a regular file"


def make_folder(path):
    path.mkdir()
    return "is a folder"


def make_nothing(path):
    path.symlink_to(path.parent / "nowhere")
    return "[Nn]o file"


ENDS = {
    "activations": f"{STEM}.npy",
    "tensors": f"{STEM}.safetensors",
    "texts": f"{STEM}.csv",
    "texts as JSON": f"{STEM}.json",
    "ids": f"{STEM}.txt",
    "ids beside": f"{STEM}.ids.json",
}
MAKERS = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_device,
    "folder": make_folder,
    "nothing": make_nothing,
}


def read(case, folder):
    end = case.split("/")[1]
    folder = Path(folder) / case.replace("/", " ")
    path, array = folder / ENDS[end], folder / f"{STEM}.npy"
    if end.startswith("texts"):
        return load_texts(path)
    if end.startswith("ids"):
        np.save(array, X)
        return repr(load_activations(array, ids=path if end == "ids" else None))
    return repr(load_activations([path]))


NO_FILES = [
    f"{maker}/{end}"
    for maker in MAKERS
    for end in ENDS
    if (maker, end) != ("nothing", "ids beside")  # it need not be there
]


@pytest.fixture(scope="module")
def of_no_files(tmp_path_factory):
    folder, messages = tmp_path_factory.mktemp("none"), {}
    for case in NO_FILES:
        maker, end = case.split("/")
        inside = folder / case.replace("/", " ")
        inside.mkdir()
        messages[case] = MAKERS[maker](inside / ENDS[end])
    found = outcomes(__name__, "read", NO_FILES, folder, timeout=20)
    return {case: (found[case], messages[case]) for case in NO_FILES}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("case", NO_FILES)
def test_what_is_not_a_file_is_not_waited_for(of_no_files, case):
    outcome, message = of_no_files[case]
    errors = ("ValueError", "IsADirectoryError", "FileNotFoundError")
    check_refused(outcome, rf"{STEM}\..*{message}|{message}.*{STEM}\.", errors)


# --- texts ----------------------------------------------------------------------------

LONG = "a long prompt, " * 20_000


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.csv", f'id,text\nq0,"{LONG}"\n', {"q0": LONG}),
        ("a.csv", "PK1,Why?\n", {"PK1": "Why?"}),
        ("a.csv", "id,text\n{a},Why?\n", {"{a}": "Why?"}),
        ("a.csv", "\ufeffq0,Why?\r\n", {"q0": "Why?"}),
        ("a.csv", "q0,a\u2028b\x0bc\x85d\n", {"q0": "a\u2028b\x0bc\x85d"}),
        ("a.csv", 'q0,"a\r\nb"\n', {"q0": "a\r\nb"}),
        ("a.json", '\ufeff{"q0": "Why?"}', {"q0": "Why?"}),
        ("a.json", '{"q10": {"a": 1}}', None),
        ("a.json", '  {"q0": "a\\u0000b"}', {"q0": "a\0b"}),
        ("a.csv", "", {}),
    ],
)
def test_texts_that_are_right(tmp_path, name, content, texts):
    limit = csv.field_size_limit()
    (tmp_path / name).write_bytes(content.encode())
    if texts is None:
        with pytest.raises(ValueError, match=r"{id: text}; got a mapping of 1 to dict"):
            load_texts(tmp_path / name)
    else:
        assert load_texts(tmp_path / name) == texts
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\nq0,Why?\n".encode("utf-16"), "is not a CSV .* UTF-16 or UTF-32"),
        ("id,text\nq0,Why?\n".encode("utf-32"), "is not a CSV .* UTF-16 or UTF-32"),
        ("id,text\nq0,Why?\n".encode("utf-16-le"), "is not a CSV .* NUL characters"),
        (b"q0,Why\0?\n", "is not a CSV file: it holds NUL characters"),
        (b"q0,\xe9\n", "is not a CSV file: 'utf-8' codec"),
        (b'id,text\nq0,"Why?\nq1,What?\n', "is not a CSV file: unexpected end of data"),
        (b'q0,"a"b\n', "is not a CSV file: "),
        (b"[" * DEEP, "is not valid JSON: it is nested too deeply"),
        (b'{"q0": "a", "q1": "b", "q0": "c"}', "is not valid JSON: 'q0' is there"),
        (b"\x93NUMPY\x01\x00", "is not a CSV file: 'utf-8' codec"),
    ],
)
def test_texts_that_are_not(tmp_path, content, message):
    path = tmp_path / f"{STEM}.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{STEM}\.csv' {message}"):
        load_texts(path)


# --- names of files and layers --------------------------------------------------------


def test_names_in_natural_order(tmp_path):
    """Digits of other scripts are digits, raised ones are not, and any number fits."""
    names = ["²3", "²10", "a\u0669", "a\u0661\u0660", "b007", "b8", "b" + "9" * 200]
    for name in reversed(names):
        np.save(tmp_path / f"{name}.npy", X)
    assert load_activations(tmp_path / "*.npy").names == (*names[2:], *names[:2])


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_names_of_layers_in_natural_order(tmp_path, form):
    from safetensors.numpy import save_file

    names = [
        "layers.9",
        "layers.9.mlp",
        "layers.10",
        "m" + "8" * 5000,
        "m" + "9" * 5000,
    ]
    path = tmp_path / f"a.{form}"
    if form == "npz":
        np.savez(path, **dict.fromkeys(reversed(names), X))
    else:
        save_file(dict.fromkeys(reversed(names), X), path)
    assert load_activations(path).names == tuple(names)


def test_two_layers_of_one_name(tmp_path):
    np.savez(tmp_path / "a.npz", b=X, c=X)
    np.save(tmp_path / "a.b.npy", X)
    with pytest.raises(ValueError, match=r"got 'a\.b' more than once.*Pass {layer"):
        load_activations(tmp_path / "a.*")


def test_one_array_twice_in_an_archive(tmp_path):
    path = tmp_path / f"{STEM}.npz"
    content = header_of(X.shape) + X.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, about the same
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", content)
            file.writestr("x.npy", content)
    with pytest.raises(ValueError, match=rf"{STEM}.* holds \['x'\] more than once"):
        load_activations(path)


@pytest.mark.parametrize("name", ["a\0b.npy", "a" * 300 + ".npy"])
def test_impossible_names(name):
    for paths in (name, [name], {"x": name}):
        with pytest.raises(
            (ValueError, OSError), match=r"name of a file|too long|No file"
        ):
            load_activations(paths)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_records_in_json(tmp_path, width):
    """Wherever their brackets stand, they are no header of safetensors."""
    i = "q" * width
    (tmp_path / "a.json").write_text(json.dumps({i: {"post": [1.0, 2.0]}}))
    stack = load_activations(tmp_path / "a.json")
    assert stack.ids.tolist() == [i]
    assert stack.layers[0].toarray().tolist() == [[1.0, 2.0]]


# --- and what is right ----------------------------------------------------------------


def test_an_archive_that_is_mostly_zeros_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((2000, 2000), "f4"))
    assert load_activations(tmp_path / "a.npz").shape == (2000, 2000)
    bomb(tmp_path / "b.npz", 2**22)
    assert load_activations(tmp_path / "b.npz").shape == (1024, 1024)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_arrays_without_numbers(tmp_path, shape, mmap):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    np.savez(tmp_path / "b.npz", x=np.zeros(shape))
    tensors(tmp_path / "c.safetensors", {"x": tensor(shape, 0)})
    for name in ("a.npy", "b.npz", "c.safetensors"):
        assert load_activations(tmp_path / name, mmap=mmap).shape == shape


KINDS = {
    "with gradients": lambda x: x.requires_grad_(),
    "negated": lambda x: (x - 1j * x).conj().imag,
    "float8": lambda x: x.to(_torch().float8_e5m2),
    "bfloat16": lambda x: x.to(_torch().bfloat16),
    "int16": lambda x: x.to(_torch().int16),
    "expanded": lambda x: x.expand(3, *x.shape)[1],
    "columns first": lambda x: x.T.contiguous().T,
    "parameters": lambda x: _torch().nn.Parameter(x),
}


def _torch():
    import torch

    return torch


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_other_kinds(tmp_path, kind, mmap):
    """They hold the same small whole numbers."""
    whole = np.rint(X % 3)
    matrix = KINDS[kind](_torch().as_tensor(whole))
    _torch().save(matrix, tmp_path / "a.pt")
    _torch().save(dict(enumerate(matrix)), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        (layer,) = load_activations(tmp_path / name, mmap=mmap).layers
        dense = layer.toarray() if sp.issparse(layer) else layer
        np.testing.assert_array_equal(dense, whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.ones(3).to_sparse(), "'a' of layer 'x' is a sparse tensor"),
        (
            lambda t: t.ones(3, device="meta"),
            "is a tensor without values, on the device",
        ),
        (
            lambda t: t.ones(3).untyped_storage(),
            "is a UntypedStorage of torch, not a t",
        ),
        (
            lambda t: t.zeros(3, dtype=t.uint8).view(t.bits8),
            "is a tensor of torch.bits8",
        ),
        (lambda _: [1.5, 10**400], "'a' of layer 'x' is not an array of (real )?numb"),
    ],
)
def test_vectors_in_memory(make, message):
    import torch

    with pytest.raises(ValueError, match=message):
        align_layers({"x": {"a": make(torch)}})


def test_sparse_blocks_of_dask_arrays():
    """Blocks are made by the workers, after X was checked."""

    def outside(block):
        matrix = sp.csr_array(block)
        matrix.indices = np.where(matrix.indices == 4, 10**6, matrix.indices)
        return matrix

    X = da.ones((60, 5), chunks=(20, -1)).map_blocks(outside, meta=sp.csr_array((0, 0)))
    message = r"^X.* is not a valid sparse matrix .* from 0 to 4; got 0 to 1000000"
    for use in (
        lambda: MultiLayerTfidfSketcher(8, layers=[2, 3]).fit(X),
        lambda: MultiLayerTfidfSketcher(8).fit(LayerStack([X])),
        lambda: permute_columns(X).compute(),
    ):
        with (
            dask.config.set(scheduler="synchronous"),
            pytest.raises(ValueError, match=message),
        ):
            use()
