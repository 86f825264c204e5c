"""Zarr folders and HDF5 files that lie, that are cut off, or that lead elsewhere."""

import bz2
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import contextmanager

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from skleiden import LayerStack, MultiLayerTfidfSketcher
from skleiden._blocks.sources import source_of
from skleiden.io import load_activations
from skleiden.model_selection import permute_columns
from tests import children

X = np.random.default_rng(0).random((40, 8), dtype=np.float32)
IDS = [f"q{i}" for i in range(40)]
NAME = "unlikely"  # of files, which no message has but for the file
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")


# --- making stores --------------------------------------------------------------------


def zarr_store(path, layers=None, *, v=3, chunks=(10, 8), **options):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # dtypes of ids that are not yet in the standard
        group = zarr.open_group(path, mode="w", zarr_format=v)
        for name, matrix in (layers or {"l9": X, "mlp/l10": X[:, ::-1]}).items():
            group.create_array(
                name,
                shape=matrix.shape,
                dtype=matrix.dtype,
                chunks=chunks[: matrix.ndim],
                **options,
            )[:] = matrix
    return path


def chunk_of(path, v=3, name="l9", place=(1, 0)):
    if v == 3:
        return path.joinpath(name, "c", *map(str, place))
    return path / name / ".".join(map(str, place))


def meta_of(path, v=3, name="l9"):
    return path / name / ("zarr.json" if v == 3 else ".zarray")


def change(file, **entries):
    metadata = json.loads(file.read_text()) | entries
    file.write_text(json.dumps(metadata))


def cut(file, by=1):
    file.write_bytes(file.read_bytes()[:-by])


def h5_file(path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


def part_of_zarr(path, v=3, **options):
    zarr_store(path, v=v, **options)
    chunk_of(path, v).unlink()


# --- what reads another file, or waits ------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("taken", ["ids", "layer"])
def test_dataset_in_another_file_is_refused(tmp_path, taken, mmap):
    other = tmp_path / "secret"
    other.write_bytes(b"root:x:0:0:root\n" * 20)
    # The file is told by its name, as from the folder that the process runs in.
    external = [(str(other), 0, 320)]

    def make(file):
        if taken == "ids":
            file["l9"] = X
            file.create_dataset("ids", (40,), "S8", external=external)
        else:
            file.create_dataset("l9", (40, 8), "u1", external=external)

    path = h5_file(tmp_path / f"{NAME}.h5", make)
    name = "ids" if taken == "ids" else "l9"
    message = rf"Dataset '{name}' in '.*{NAME}\.h5' is stored in other files, .*secret'"
    with pytest.raises(ValueError, match=message):
        load_activations(path, mmap=mmap)


@pytest.mark.parametrize("source", ["another file", "a missing file", "the same file"])
@pytest.mark.parametrize("taken", ["ids", "layer"])
def test_virtual_dataset_is_refused(tmp_path, taken, source):
    values = np.arange(40) if taken == "ids" else X
    name = "ids" if taken == "ids" else "l9"
    if source == "another file":
        h5_file(tmp_path / "other.h5", lambda file: file.update({name: values}))

    def make(file):
        file["plain"] = X
        file["source"] = values
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = (
            h5py.VirtualSource(file["source"])
            if source == "the same file"
            else h5py.VirtualSource("other.h5", name, values.shape)
        )
        file.create_virtual_dataset(name, layout)

    path = h5_file(tmp_path / f"{NAME}.h5", make)
    message = rf"Dataset '{name}' in '.*{NAME}\.h5' is virtual: .* Copy its values"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@pytest.mark.parametrize("name", ["l10", "ids", "mlp/l10"])
def test_link_to_another_file_is_refused(tmp_path, name):
    h5_file(tmp_path / "other.h5", lambda file: file.update({"x": X}))

    def make(file):
        file["l9"] = X
        file[name] = h5py.ExternalLink("other.h5", "/x")

    path = h5_file(tmp_path / f"{NAME}.h5", make)
    message = rf"Link '{name}' in '.*{NAME}\.h5' leads to another file, 'other\.h5'"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@pytest.mark.parametrize("target", ["/nothing", "/l9/nothing", "/l10"])
def test_link_that_leads_nowhere_is_refused(tmp_path, target):
    def make(file):
        file["l9"] = X
        file["l10"] = h5py.SoftLink(target)  # the last is a circle

    path = h5_file(tmp_path / f"{NAME}.h5", make)
    message = rf"Link 'l10' in '.*{NAME}\.h5' leads to '{target}', which is not in the"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@posix
@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize("place", ["chunk", "metadata", "array", "inside"])
def test_link_in_a_zarr_folder_is_refused(tmp_path, place, v):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    link = {
        "chunk": chunk_of(path, v),
        "metadata": meta_of(path, v),
        "array": path / "l11",
        "inside": chunk_of(path, v),
    }[place]
    if place == "array":
        target = zarr_store(tmp_path / "other.zarr", v=v) / "l9"
    else:
        target = tmp_path / "other"
        shutil.copy(link, target)
        if place == "inside":
            target = chunk_of(path, v, place=(0, 0))
        link.unlink()
    link.symlink_to(target)
    message = rf"{NAME}\.zarr.*{link.name}' is a symbolic link in the Zarr folder"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@posix
def test_zarr_folder_that_is_itself_a_link(tmp_path):
    zarr_store(tmp_path / "real.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    assert load_activations(tmp_path / "link.zarr").names == ("l9", "mlp/l10")


# --- linked layers --------------------------------------------------------------------


def test_layer_of_several_names_is_taken_once_and_said(tmp_path):
    def make(file):
        file["l9"] = X
        file["again"] = file["l9"]  # before it in the order of the file
        file["soft"] = h5py.SoftLink("/l9")
        file["mlp/l10"] = X[:, ::-1]
        file["other"] = file["mlp"]
        file["mlp/up"] = file["/"]  # a circle
        file["mean"] = X[0]
        file["mean again"] = file["mean"]  # no layer, so nothing is said

    path = h5_file(tmp_path / f"{NAME}.h5", make)
    with (
        pytest.warns(UserWarning, match=r"holds more than is read: 'mean' \("),
        pytest.warns(UserWarning, match=rf"{NAME}\.h5' has 4 further names") as found,
    ):
        stack = load_activations(path)
    assert stack.names == ("again", "mlp/l10")
    assert_array_equal(stack.layers[0][:], X)
    message = str(found[0].message)
    for other in ("'l9' for 'again'", "'soft' for 'again'", "'other' for 'mlp'"):
        assert other in message
    assert "'mlp/up' for '/'" in message
    assert "mean" not in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the warning, not an error about the file
        with pytest.raises(UserWarning, match="4 further names"):
            load_activations(path)
    assert found[0].filename == __file__


def test_ids_by_a_link(tmp_path):
    def make(file):
        file["l9"] = X
        file["prompts/name"] = IDS
        file["ids"] = h5py.SoftLink("/prompts/name")

    path = h5_file(tmp_path / "a.h5", make)
    assert load_activations(path).ids.tolist() == IDS


# --- what is missing ------------------------------------------------------------------


def part_of_hdf5(path, **options):
    def make(file):
        file["l10"] = X
        file.create_dataset("l9", (40, 8), "f4", chunks=(10, 8), **options)[:30] = 1

    h5_file(path, make)


def part_of_shard(path):
    zarr_store(path, {"l9": X}, shards=(20, 8), chunks=(5, 8))
    array = zarr.open_array(str(path), path="l9", mode="a")
    array[5:15] = 0  # two chunks of a shard, which leaves them out


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    ("make", "share"),
    [
        (part_of_zarr, r"1 of 4 \(25%\)"),
        (lambda path: part_of_zarr(path, v=2), r"1 of 4 \(25%\)"),
        (lambda path: part_of_zarr(path, shards=(10, 8)), r"1 of 4 \(25%\)"),
        (
            lambda path: part_of_zarr(path, shards=(20, 8), chunks=(5, 4)),
            r"8 of 16 \(50%\)",
        ),
        (part_of_shard, r"2 of 8 \(25%\)"),
        (lambda path: zarr_store(path, {"l9": X * 0}), r"4 of 4 \(100%\)"),
        (part_of_hdf5, r"1 of 4 \(25%\)"),
    ],
    ids=["v3", "v2", "shard", "shard of many", "in a shard", "all zeros", "hdf5"],
)
def test_missing_chunks_are_said(tmp_path, make, share, mmap):
    path = tmp_path / f"{NAME}.store"
    make(path)
    message = (
        rf"Array 'l9' in '.*{NAME}\.store' lacks {share} of its chunks, .* cut off"
    )
    with pytest.warns(UserWarning, match=message) as found:
        load_activations(path, mmap=mmap)
    assert len(found) == 1
    assert found[0].filename == __file__


def test_no_chunk_is_missing_after_a_resize(tmp_path):
    path = zarr_store(tmp_path / "a.zarr", {"l9": X})
    zarr.open_array(str(path), path="l9", mode="a").resize((33, 8))
    path = zarr_store(tmp_path / "b.zarr", {"l9": X}, shards=(20, 8))
    change(meta_of(path), shape=[15, 8])  # so that the rest of its shards is left
    for name in ("a.zarr", "b.zarr"):
        stack = load_activations(tmp_path / name)
        assert_array_equal(stack.layers[0][:], X[: len(stack)])


@pytest.mark.parametrize(
    "make",
    [
        lambda path: part_of_zarr(path, fill_value=np.nan),
        lambda path: part_of_zarr(path, v=2, fill_value=np.inf),
        lambda path: part_of_hdf5(path, fillvalue=np.nan),
    ],
    ids=["v3", "v2", "hdf5"],
)
def test_missing_chunks_that_are_not_finite_are_refused(tmp_path, make):
    path = tmp_path / f"{NAME}.store"
    make(path)
    message = rf"'l9' in '.*{NAME}\.store' lacks 1 of 4 .* would read as (nan|inf)"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_missing_chunks_without_a_fill_value_are_refused(tmp_path):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=2)
    change(meta_of(path, 2), fill_value=None)
    load_activations(path)  # nothing is missing
    chunk_of(path, 2).unlink()
    message = rf"{NAME}\.zarr' lacks 1 of 4 .* read as undefined values"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@pytest.mark.parametrize("form", ["v3", "v2", "hdf5"])
def test_missing_ids_are_refused(tmp_path, form):
    path = tmp_path / f"{NAME}.store"
    if form == "hdf5":

        def make(file):
            file["l9"] = X
            file.create_dataset("ids", (40,), "i4", chunks=(10,))[:30] = range(30)

        h5_file(path, make)
    else:
        v = int(form[1])
        zarr_store(path, {"l9": X, "ids": np.arange(40)}, v=v)
        chunk_of(path, v, "ids", (1,)).unlink()
    message = rf"'ids' in '.*{NAME}\.store' lacks 1 of 4 \(25%\) of its chunks"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@pytest.mark.parametrize("chunks", [None, (10, 8)])
def test_dataset_that_was_never_written_is_refused(tmp_path, chunks):
    path = h5_file(
        tmp_path / f"{NAME}.h5",
        lambda file: file.create_dataset("l9", (40, 8), "f4", chunks=chunks),
    )
    message = rf"Dataset 'l9' in '.*{NAME}\.h5' has the shape .* none were written"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_dataset_without_rows(tmp_path):
    path = h5_file(tmp_path / "a.h5", lambda file: file.update({"l9": X[:0]}))
    assert load_activations(path).shape == (0, 8)


@pytest.mark.parametrize("v", [2, 3])
def test_lost_metadata_are_not_a_lost_layer(tmp_path, v):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    meta_of(path, v).unlink()
    with pytest.raises(
        ValueError, match=rf"Folder 'l9' in .*{NAME}\.zarr' has no meta"
    ):
        load_activations(path)
    path = zarr_store(tmp_path / f"{NAME}2.zarr", v=v)
    (path / "mlp" / ("zarr.json" if v == 3 else ".zgroup")).unlink()
    with pytest.raises(ValueError, match=rf"'mlp' in .*{NAME}2\.zarr' has no metadata"):
        load_activations(path)


@pytest.mark.parametrize("v", [2, 3])
def test_files_of_other_tools_are_passed_over(tmp_path, v):
    path = zarr_store(tmp_path / "a.zarr", v=v)
    (path / ".DS_Store").write_bytes(b"1")
    (path / "l9" / ".DS_Store").write_bytes(b"")
    (path / ".git" / "objects").mkdir(parents=True)
    (path / "empty").mkdir()
    assert load_activations(path).names == ("l9", "mlp/l10")


@pytest.mark.parametrize("v", [2, 3])
def test_consolidated_metadata(tmp_path, v):
    def consolidate(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not yet in the standard
            zarr.consolidate_metadata(path)
        return path / ("zarr.json" if v == 3 else ".zmetadata")

    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    file = consolidate(path)
    file.write_text(file.read_text().replace("40", "4000"))
    stack = load_activations(path)  # by the metadata of the arrays themselves
    assert stack.shape == (40, 16)
    assert_array_equal(stack.layers[0][:], X)
    file.write_text(file.read_text().replace('"l9', '"../l9'))
    with pytest.raises(ValueError, match=rf"{NAME}\.zarr' is .* list \['\.\./l9'\]"):
        load_activations(path)
    consolidate(path)
    shutil.rmtree(path / "l9")
    with pytest.raises(
        ValueError, match=rf"{NAME}\.zarr' is .* list \['l9'\], which is"
    ):
        load_activations(path)


def test_consolidated_metadata_that_are_broken(tmp_path):
    for v, text in ((2, "[]"), (3, None), (2, "{")):
        path = zarr_store(tmp_path / f"{NAME}{v}.zarr", v=v)
        if text:
            (path / ".zmetadata").write_text(text)
        else:
            change(path / "zarr.json", consolidated_metadata={"metadata": {"l9": 3}})
        with pytest.raises(
            ValueError, match=rf"{NAME}{v}\.zarr' has broken consolidated meta"
        ):
            load_activations(path)


# --- what is broken -------------------------------------------------------------------


@pytest.mark.parametrize("v", [2, 3])
def test_empty_chunk_is_refused(tmp_path, v):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    chunk_of(path, v).write_bytes(b"")
    message = (
        rf"Chunk '(c/1/0|1\.0)' is empty\. Array 'l9' in '.*{NAME}\.zarr' is broken"
    )
    with pytest.raises(ValueError, match=message):
        load_activations(path)


@pytest.mark.parametrize("by", [1, 30])
@pytest.mark.parametrize(
    "options",
    [
        {"compressors": BloscCodec(cname="lz4")},
        {"compressors": BloscCodec(cname="zstd")},
        {"v": 2, "compressors": numcodecs.Blosc()},
        {"shards": (20, 8)},
        {"shards": (20, 8), "compressors": BloscCodec()},
    ],
    ids=["lz4", "zstd", "version 2", "shards", "shards of Blosc"],
)
def test_chunk_that_is_cut_off_is_refused(tmp_path, options, by):
    path = zarr_store(tmp_path / f"{NAME}.zarr", **options)
    v = options.get("v", 3)
    load_activations(path)
    cut(chunk_of(path, v), by)
    message = rf"Chunk .* holds less .* 'l9' in '.*{NAME}\.zarr' is broken or trunc"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def index_at_start(path, cname):
    """A shard whose index, at its start, stays whole when its end is cut off."""
    serializer = zarr.codecs.ShardingCodec(
        chunk_shape=(10, 8),
        codecs=[zarr.codecs.BytesCodec(), BloscCodec(cname=cname)],
        index_location="start",
    )
    zarr_store(path, {"l9": X}, chunks=(20, 8), serializer=serializer, compressors=None)


def test_shard_with_its_index_at_the_start(tmp_path):
    path = tmp_path / f"{NAME}.zarr"
    index_at_start(path, "lz4")
    assert_array_equal(load_activations(path).layers[0][:], X)
    cut(chunk_of(path))
    with pytest.raises(
        ValueError, match=rf"'l9' in '.*{NAME}\.zarr' is broken or trunc"
    ):
        load_activations(path)


def cut_zarr(path, **options):
    zarr_store(path, **options)
    cut(chunk_of(path, options.get("v", 3)), 5)


def damaged_hdf5(path, **options):
    """A dataset whose last chunk does not hold what it did."""
    h5_file(
        path,
        lambda file: file.create_dataset("l9", data=X, chunks=(10, 8), **options),
    )
    with h5py.File(path) as file:
        info = file["l9"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 20] ^= 255
    path.write_bytes(content)


READ_LATER = {
    "zarr": cut_zarr,
    "zarr without compression": lambda path: cut_zarr(path, compressors=None),
    "zarr gzip": lambda path: cut_zarr(path, compressors=GzipCodec()),
    "zarr 2": lambda path: cut_zarr(path, v=2, compressors=numcodecs.Zlib()),
    "hdf5 gzip": lambda path: damaged_hdf5(path, compression="gzip"),
    "hdf5 checksum": lambda path: damaged_hdf5(path, fletcher32=True),
}


@pytest.mark.parametrize("make", READ_LATER.values(), ids=READ_LATER)
def test_chunk_that_cannot_be_read(tmp_path, make):
    """Found when it is read, in the middle of a fit, and named there, too."""
    path = tmp_path / f"{NAME}.store"
    make(path)
    message = rf"Rows .* '.*{NAME}\.store.* cannot be read: .* broken or truncated"
    with pytest.raises(ValueError, match=message) as found:
        load_activations(path, mmap=False)
    assert "l9" in str(found.value)
    stack = load_activations(path)
    for read in (
        MultiLayerTfidfSketcher(4).fit,
        lambda stack: stack[::-1],
        lambda stack: stack[5:],
        permute_columns,
    ):
        with pytest.raises(ValueError, match=message) as found:
            read(stack)
        assert "l9" in str(found.value)


def test_dataset_of_a_closed_file(tmp_path):
    path = h5_file(tmp_path / "a.h5", lambda file: file.update({"l9": X}))
    stack = load_activations(path)
    stack.layers[0].file.close()
    with pytest.raises(ValueError, match=r"Rows 0 to 4 of a dataset of a closed HDF5"):
        stack[:5]


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 100_000, "{}", '"a"', "\0"],
    ids=["nothing", "list", "deep", "empty", "string", "NUL"],
)
def test_metadata_that_are_broken(tmp_path, content, v):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    meta_of(path, v).write_text(content)
    with pytest.raises(ValueError, match=rf"{NAME}\.zarr' (is broken|has metadata)"):
        load_activations(path)


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize("chunks", [[0, 8], [-10, 8], [10], "ab", [10.5, 8], None])
def test_chunks_that_do_not_fit(tmp_path, chunks, v):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    entry = (
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}
        if v == 3
        else {"chunks": chunks}
    )
    change(meta_of(path, v), **entry)
    with pytest.raises(ValueError, match=rf"{NAME}\.zarr' (is broken|has metadata)"):
        load_activations(path)


def unknown_filter(file, code=32999):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((10, 8))
    creation.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((40, 8))
    h5py.h5d.create(file.id, b"l9", h5py.h5t.NATIVE_FLOAT, space, creation)


def odd_float(file, bias, shape=(40, 8), name=b"l9"):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(bias)
    h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(shape))


@pytest.mark.parametrize("bias", [0, 20000])
def test_array_beside_layers_of_a_type_that_numpy_has_not(tmp_path, bias):
    def make(file):
        odd_float(file, bias, shape=(2, 2, 2))
        file["l10"] = X

    path = h5_file(tmp_path / "a.h5", make)
    assert load_activations(path).layers[0].shape == X.shape


@pytest.mark.parametrize("filtered", [False, True])
def test_numbers_that_are_converted(tmp_path, filtered):
    """A type that h5py reads as another is left to libhdf5, with filters, too."""

    def make(file):
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_ebias(126)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((7, 3))
        if filtered:
            creation.set_deflate(4)
        space = h5py.h5s.create_simple((40, 8))
        h5py.h5d.create(file.id, b"l9", kind, space, creation)
        file["l9"][...] = X

    path = h5_file(tmp_path / "a.h5", make)
    assert_array_equal(load_activations(path, mmap=False).layers[0], X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: odd_float(file, 0), "has a type that NumPy does not have"),
        (lambda file: odd_float(file, 20000), "has a type that NumPy does not have"),
        (unknown_filter, "is stored by the HDF5 filter 32999, which is not read"),
        (
            lambda file: unknown_filter(file, h5py.h5z.FILTER_NBIT),
            "is stored by the HDF5 filter 5, .* give the open dataset to skleiden",
        ),
        (
            lambda file: file.create_dataset(
                "l9", data=np.arange(80).reshape(40, 2), chunks=(10, 2), scaleoffset=0
            ),
            "is stored by the HDF5 filter 6, .* gzip, lzf, shuffle and fletcher32 are",
        ),
        (
            lambda file: file.create_dataset("l9", (4, 2), h5py.ref_dtype),
            "holds references or sequences of varying length",
        ),
        (
            lambda file: file.create_dataset("l9", (4, 2), h5py.vlen_dtype("f4")),
            "holds references or sequences of varying length",
        ),
        (
            lambda file: file.update({"l9": np.zeros((4, 2), [("a", "f4")])}),
            "must hold real numbers, as every 2-D array is a layer; got dtype",
        ),
        (lambda file: file.update({"l9": X + 1j}), "real numbers, .* complex64"),
        (lambda file: file.update({"l9": [["a"]]}), "real numbers, .* dtype object"),
    ],
)
def test_datasets_that_are_not_of_numbers(tmp_path, make, message):
    path = h5_file(tmp_path / f"{NAME}.h5", make)
    with pytest.raises(ValueError, match=rf"'l9' in '.*{NAME}\.h5' .*{message}"):
        load_activations(path)


def test_index_of_chunks_that_is_broken(tmp_path):
    path = h5_file(
        tmp_path / f"{NAME}.h5",
        lambda file: file.create_dataset("l9", data=X, chunks=(10, 8)),
    )
    content = path.read_bytes()
    at = content.rindex(b"TREE")  # the last tree of the file is that of the chunks
    path.write_bytes(content[:at] + b"EERT" + content[at + 4 :])
    with pytest.raises(ValueError, match=rf"{NAME}\.h5' is broken or truncated"):
        load_activations(path)


@contextmanager
def written_elsewhere(path):
    """Another process has a file open for writing."""
    code = (
        f"import h5py, sys; file = h5py.File({str(path)!r}, 'a'); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().strip() == b"open"
        try:
            yield
        finally:
            process.stdin.close()


@posix  # Windows locks otherwise
def test_file_that_is_open_for_writing(tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    path = h5_file(tmp_path / f"{NAME}.h5", lambda file: file.update({"l9": X}))
    with written_elsewhere(path):
        message = rf"{NAME}\.h5' is open for writing, here or in another process"
        with pytest.raises(ValueError, match=message):
            load_activations(path)
    assert load_activations(path).shape == (40, 8)


# --- code -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "entries", "message"),
    [
        (2, {"filters": [{"id": "msgpack2"}]}, "is stored by 'msgpack2', a codec that"),
        (2, {"compressor": {"id": "zfpy", "mode": 2}}, "is stored by 'zfpy', a codec"),
        (
            3,
            {"codecs": ["bytes", "numcodecs.pickle"]},
            "is stored by 'pickle', a codec",
        ),
        (
            3,
            {"codecs": [{"name": "bytes"}, {"name": "my.own", "configuration": {}}]},
            r"is stored by 'my\.own', a codec",
        ),
        (
            3,
            {"storage_transformers": [{"name": "elsewhere", "configuration": {}}]},
            "is stored by storage transformers, .*elsewhere",
        ),
        (
            3,
            {"codecs": ["bytes", "blosc", "zstd"]},
            "blosc is read only as the last of",
        ),
        (
            2,
            {"filters": [{"id": "blosc"}], "compressor": {"id": "zstd"}},
            "blosc is read only as the last of",
        ),
        (
            3,
            {"chunk_key_encoding": {"name": "../l9", "configuration": {}}},
            r"has metadata that are .* unknown kind: .*keys '\.\./l9'",
        ),
        (2, {"dimension_separator": "/../"}, r"separated by '/\.\./'"),
    ],
)
def test_codecs_that_are_not_known(tmp_path, v, entries, message):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    change(meta_of(path, v), **entries)
    with pytest.raises(
        ValueError, match=rf"Array 'l9' in '.*{NAME}\.zarr'.* {message}"
    ):
        load_activations(path)


def test_codecs_inside_a_shard_are_looked_at(tmp_path):
    path = zarr_store(tmp_path / f"{NAME}.zarr", shards=(20, 8))
    metadata = json.loads(meta_of(path).read_text())
    options = metadata["codecs"][0]["configuration"]
    for entry, message in (
        ("codecs", "'pickle', a codec"),
        ("index_codecs", "an index"),
    ):
        kept = options[entry]
        options[entry] = [*kept, {"name": "numcodecs.pickle", "configuration": {}}]
        change(meta_of(path), codecs=metadata["codecs"])
        with pytest.raises(ValueError, match=rf"{NAME}\.zarr' .*{message}"):
            load_activations(path)
        options[entry] = kept


@pytest.mark.parametrize(
    "options",
    [
        {"filters": [numcodecs.Delta("<f4")], "compressors": numcodecs.LZ4()},
        {"filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib()},
        {"compressors": numcodecs.GZip()},
        {"filters": [numcodecs.AsType("<f8", "<f4")], "compressors": numcodecs.Zstd()},
        {"compressors": None},
        {"v": 3, "compressors": [ZstdCodec(checksum=True), Crc32cCodec()]},
        {"v": 3, "compressors": [GzipCodec(), Crc32cCodec()], "shards": (20, 8)},
    ],
    ids=repr,
)
def test_codecs_that_are_known(tmp_path, options):
    path = zarr_store(tmp_path / "a.zarr", **{"v": 2} | options)
    np.testing.assert_allclose(load_activations(path).layers[0][:], X, rtol=1e-5)


@pytest.mark.parametrize(
    "compressor",
    [
        *(numcodecs.Zlib(9), numcodecs.GZip(9), numcodecs.Zstd(19), numcodecs.LZ4()),
        *(numcodecs.Blosc("zstd", 9), numcodecs.Blosc("lz4", 9)),
    ],
    ids=repr,
)
def test_chunk_that_is_compressed_as_far_as_can_be(tmp_path, compressor):
    ones = np.ones((2000, 500), dtype=np.float32)
    path = zarr_store(
        tmp_path / "a.zarr",
        {"l9": ones, "ids": np.array([f"prompt {i:06d}" for i in range(2000)])},
        v=2,
        chunks=(2000, 500),
        compressors=compressor,
    )
    stack = load_activations(path)
    assert_array_equal(stack.layers[0][:], ones)
    assert stack.ids[1999] == "prompt 001999"


@pytest.mark.parametrize("compressor", ["zlib", "gzip", "zstd", "lz4", "blosc", None])
def test_ids_as_strings_of_any_length(tmp_path, compressor):
    path = zarr_store(tmp_path / "a.zarr", {"l9": X}, v=2)
    ids = [f"prompt {i}" * (i + 1) for i in range(40)]
    settings = compressor and {"id": compressor}
    content = numcodecs.VLenUTF8().encode(np.array(ids, dtype=object))
    if compressor:
        content = numcodecs.get_codec(settings).encode(content)
    entries = {"shape": [40], "chunks": [40], "dtype": "|O", "fill_value": ""}
    entries |= {"filters": [{"id": "vlen-utf8"}], "compressor": settings}
    raw_zarr(path / "ids", bytes(content), **entries)
    assert load_activations(path).ids.tolist() == ids


@pytest.mark.parametrize("sizes", [[64], [40, 24], [1] * 64])
def test_zstd_that_does_not_state_its_size(tmp_path, sizes):
    """As it is written in a stream; older versions of its decoder cannot read it."""
    blocks = b"".join(
        (size << 3 | (i == len(sizes) - 1)).to_bytes(3, "little") + bytes(size)
        for i, size in enumerate(sizes)
    )
    frame = ZSTD + b"\0\x58" + blocks
    skipped = b"\x50\x2a\x4d\x18\3\0\0\0abc"
    for name, chunk in (("a", frame), ("b", skipped + frame)):
        path = tmp_path / f"{name}.zarr"
        raw_zarr(path, chunk, compressor={"id": "zstd", "level": 1})
        assert load_activations(path).shape == (4, 4)
    chunk = frame + ZSTD + b"\0\x58" + (3 | 100 << 3).to_bytes(3, "little") + b"a"
    raw_zarr(tmp_path / "c.zarr", chunk, compressor={"id": "zstd", "level": 1})
    assert load_activations(tmp_path / "c.zarr").shape == (4, 4)  # damaged, not large


@pytest.mark.parametrize(
    ("codecs", "message"),
    [
        (["bytes", "zstd", "adler32"], "zstd is read only as the last of several"),
        (
            ["bytes", "zstd", "numcodecs.crc32c"],
            "zstd is read only as the last of several",
        ),
        (["vlen-utf8", "crc32", "zstd"], "vlen-utf8 is read alone or with one"),
        (["bytes", "vlen-utf8"], "vlen-utf8 is read alone or with one"),
        (["vlen-bytes", "numcodecs.crc32"], "vlen-bytes is read alone or with one"),
    ],
)
def test_codecs_whose_sizes_cannot_be_checked(tmp_path, codecs, message):
    path = zarr_store(tmp_path / f"{NAME}.zarr")
    change(meta_of(path), codecs=codecs)
    with pytest.raises(ValueError, match=rf"'l9' in '.*{NAME}\.zarr' .*{message}"):
        load_activations(path)


@pytest.mark.parametrize(
    ("v", "name", "settings"),
    [
        (2, "astype", {"encode_dtype": "<f4", "decode_dtype": "<U100000000"}),
        (2, "delta", {"dtype": "|O", "astype": "|O"}),
        (2, "quantize", {"digits": 1, "dtype": ["f4"]}),
        (2, "fixedscaleoffset", {"offset": 0, "scale": 1, "dtype": "(9999999,)f4"}),
        (3, "numcodecs.astype", {"encode_dtype": "<f4", "decode_dtype": "S999999999"}),
    ],
)
def test_codec_that_converts_to_other_types(tmp_path, v, name, settings):
    path = zarr_store(tmp_path / f"{NAME}.zarr", v=v)
    if v == 2:
        change(meta_of(path, v), filters=[{"id": name} | settings])
    else:
        codec = {"name": name, "configuration": settings}
        change(meta_of(path, v), codecs=[codec, "bytes"])
    message = (
        rf"'l9' in '.*{NAME}\.zarr' is stored by a codec that converts to .* not a"
    )
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_too_little_memory_names_the_file(tmp_path, monkeypatch):
    path = zarr_store(tmp_path / f"{NAME}.zarr")
    h5 = h5_file(tmp_path / f"{NAME}.h5", lambda file: file.update({"l9": X}))

    def no_memory(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(zarr.Array, "__getitem__", no_memory)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", no_memory)
    for file, kind in ((path, "zarr"), (h5, "h5")):
        message = rf"Rows 0 to 39 of the .*{NAME}\.{kind}.* need more memory than"
        with pytest.raises(MemoryError, match=message):
            load_activations(file, mmap=False)
    monkeypatch.setattr(h5py.Group, "__iter__", no_memory)
    with pytest.raises(MemoryError, match=rf"{NAME}\.h5' needs more memory than there"):
        load_activations(h5)


# --- filters of HDF5, which are undone here -------------------------------------------

FILTERS = {
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "gzip and more": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf and more": {"compression": "lzf", "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("dtype", ["f4", ">f4", "f2", "?", "i8"])
def test_filters_are_undone(tmp_path, options, dtype):
    values = np.where(X < 0.5, 0, 9 * X).astype(dtype)  # so that it can be compressed

    def make(file):
        for name, chunks in (("l1", (7, 3)), ("l2", (64, 8)), ("l3", (1, 8))):
            file.create_dataset(
                *(name, values.shape, dtype),
                **{"chunks": chunks, "maxshape": (None, None), "fillvalue": 1}
                | options,
            )[:] = values
        # HDF5 has no checksums of strings.
        of_ids = {key: options[key] for key in options if key != "fletcher32"}
        file.create_dataset("ids", data=IDS, chunks=(7,), **of_ids)
        if dtype == "f4":
            part = file.create_dataset(
                "l4", values.shape, dtype, chunks=(7, 3), fillvalue=2, **options
            )
            part[14:28] = values[14:28]

    path = h5_file(tmp_path / "a.h5", make)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* lacks 12 of 18")
        stack = load_activations(path)
        in_memory = load_activations(path, mmap=False)
    assert stack.ids.tolist() == IDS
    for layer, read in zip(stack.layers, in_memory.layers, strict=True):
        assert_array_equal(read, layer[:])
        assert read.dtype == dtype
        for rows in (slice(3, 17), slice(39, 40), slice(5, 5), [30, 2, 2, 39]):
            found = source_of(layer).select(
                np.asarray(rows) if type(rows) is list else rows
            )
            assert_array_equal(found, read[rows])
    assert_array_equal(in_memory.layers[0], values)
    if dtype == "f4":
        assert (in_memory.layers[3][:14] == 2).all()


def test_filters_are_undone_as_by_libhdf5(tmp_path):
    """Long copies, copies of what they make, and sums over more than 65,535 words."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, (300, 400)).astype("f4")
    values[100:200] = 0
    values[200:] = rng.standard_normal((100, 400)) * 1e30
    for dtype in ("f4", "f8", "u1"):
        matrix = values.astype(dtype) if dtype != "u1" else values.view("u1")

        def make(file, matrix=matrix):
            for name, options in FILTERS.items():
                chunks = (300, 401)  # more than there is
                file.create_dataset(
                    *(name, matrix.shape, matrix.dtype),
                    **{"chunks": chunks, "maxshape": (None, None)} | options,
                )[:] = matrix

        path = h5_file(tmp_path / f"{dtype}.h5", make)
        for layer in load_activations(path, mmap=False).layers:
            assert_array_equal(layer, matrix)


def test_chunk_that_skipped_filters(tmp_path):
    def make(file):
        made = file.create_dataset("l9", (4, 4), "f4", chunks=(2, 4), **FILTERS["gzip"])
        made.id.write_direct_chunk((0, 0), X[:2, :4].tobytes(), 1)
        made.id.write_direct_chunk((2, 0), zlib.compress(X[2:4, :4].tobytes()), 0)

    path = h5_file(tmp_path / "a.h5", make)
    assert_array_equal(load_activations(path, mmap=False).layers[0], X[:4, :4])


def test_filters_of_an_open_dataset_are_those_of_its_library(tmp_path):
    numbers = np.arange(80).reshape(40, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("l9", data=numbers, chunks=(10, 2), scaleoffset=0)
        assert_array_equal(LayerStack([made])[5:17].layers[0], numbers[5:17])


@pytest.mark.parametrize("name", ["fletcher32", "gzip and more", "lzf and more"])
def test_damage_under_filters_is_an_error(tmp_path, name):
    options = FILTERS[name]
    path = tmp_path / f"{NAME}.h5"
    damaged_hdf5(path, **options)
    with pytest.raises(ValueError, match="a chunk differs from its checksum"):
        load_activations(path, mmap=False)


# --- in a child process: what might take all memory, wait for ever, or crash ----------


def huge_zarr(path, v, shape=(10**15, 8), with_chunks=True):
    zarr_store(path, {"l9": X}, v=v)
    change(meta_of(path, v), shape=list(shape))
    if not with_chunks:
        for place in range(4):
            chunk_of(path, v, place=(place, 0)).unlink()


def huge_hdf5(path, rows, written):
    def make(file):
        dataset = file.create_dataset("l9", (rows, 8), "f4", chunks=(10, 8))
        dataset[:written] = 1

    h5_file(path, make)


def huge_and_filtered(path):
    """20,000,000 chunks, of which one is there."""

    def make(file):
        options = {"chunks": (1, 1), "maxshape": (None, None), "compression": "gzip"}
        file.create_dataset("l9", (20_000_000, 1), "u1", **options)[0] = 1

    h5_file(path, make)


def huge_ids(path):
    zarr_store(path, {"l9": X, "ids": np.arange(40)})
    change(meta_of(path, name="ids"), shape=[10**15])


def huge_shard(path):
    """A chunk of 32 bytes that says to be a shard of 10**12 chunks."""
    zarr_store(path, {"l9": X}, shards=(20, 8))
    metadata = json.loads(meta_of(path).read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [10**13, 8]
    change(meta_of(path), chunk_grid=metadata["chunk_grid"])


def fifo(path, place):
    zarr_store(path)
    file = {"chunk": chunk_of(path), "metadata": meta_of(path)}[place]
    file.unlink()
    os.mkfifo(file)


def lying_blosc(path, at, value):
    """A header of Blosc that says that it holds more, or is longer, than it is."""
    zarr_store(path, {"l9": X}, compressors=BloscCodec(cname="lz4"))
    content = bytearray(chunk_of(path).read_bytes())
    content[at : at + 4] = value.to_bytes(4, "little")
    chunk_of(path).write_bytes(content)


def cut_blosc_in_shard(path):
    index_at_start(path, "zstd")
    cut(chunk_of(path), 40)


def raw_zarr(path, chunk, **entries):
    """An array of version 2 with one chunk."""
    path.mkdir()
    metadata = {"zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": "<f4"}
    metadata |= {"compressor": None, "filters": None, "fill_value": 0, "order": "C"}
    metadata |= entries
    (path / ".zarray").write_text(json.dumps(metadata))
    (path / ".".join("0" for _ in metadata["shape"])).write_bytes(chunk)


def compressed(path, name, chunk, **entries):
    raw_zarr(path, chunk, compressor={"id": name}, **entries)


def chunk_of_v3(path, compressor, chunk):
    zarr_store(path, compressors=compressor)
    chunk_of(path).write_bytes(chunk)


def zstd_in_shard(path):
    serializer = zarr.codecs.ShardingCodec(
        chunk_shape=(10, 8),
        codecs=[zarr.codecs.BytesCodec(), ZstdCodec()],
        index_codecs=[zarr.codecs.BytesCodec()],
    )
    zarr_store(path, {"l9": X}, chunks=(10, 8), serializer=serializer, compressors=None)
    chunk_of(path).write_bytes(ZSTD_OF_3_TB + struct.pack("<QQ", 0, len(ZSTD_OF_3_TB)))


def lying_ids(path, content, codec="vlen-utf8", compressor=None):
    zarr_store(path, {"l9": X}, v=2)
    content = struct.pack("<I", 2**29 - 1) + content
    if compressor:
        content = bytes(numcodecs.get_codec({"id": compressor}).encode(content))
    entries = {"shape": [4], "chunks": [4], "dtype": "|O", "fill_value": ""}
    entries["filters"] = [{"id": codec}]
    entries["compressor"] = compressor and {"id": compressor}
    raw_zarr(path / "ids", content, **entries)


def chunks_of_zarr(path, v, lengths):
    zarr_store(path, {"l9": X}, v=v)
    grid = {"name": "regular", "configuration": {"chunk_shape": lengths}}
    change(
        meta_of(path, v), **({"chunk_grid": grid} if v == 3 else {"chunks": lengths})
    )


def lying_hdf5(path, chunk, mask=0, n=64, name="l9", dtype="i4", **options):
    """A dataset of one chunk that does not hold what it should."""

    def make(file):
        if name == "ids":
            file["l9"] = X
        shape = (n,) if name == "ids" else (n, n)
        made = file.create_dataset(name, shape, dtype, chunks=shape, **options)
        made.id.write_direct_chunk((0,) * len(shape), chunk, mask)

    h5_file(path, make)


def chunks_of_hdf5(path):
    def make(file):
        options = {"chunks": (30000, 30000), "maxshape": (None, None)}
        made = file.create_dataset("l9", (4, 4), "f4", compression="gzip", **options)
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(64)))

    h5_file(path, make)


ZSTD = b"\x28\xb5\x2f\xfd"  # with which a frame starts
ZSTD_OF_3_TB = ZSTD + b"\xe0" + struct.pack("<Q", 3 << 40) + b"\1\0\0"
# Blocks of 4 bytes that repeat one byte 131,072 times, and no size.
ZSTD_OF_REPEATS = ZSTD + b"\0\x58" + (b"\2\0\x10" + b"a") * 10_000 + b"\1\0\0"
BOMB = zlib.compress(bytes(2**28), 9)  # 260 KB
GZIP_BOMB = gzip.compress(bytes(2**27), 9)
WHOLE_GZIP = gzip.compress(bytes(320))
LZF_BOMB = b"\0a" + b"\xe0\xff\0" * 200_000
CLAIM = "'{}' in .* claims .* of which .* are stored"
CHILDREN = {
    "rows of zarr": (lambda p: huge_zarr(p, 3), CLAIM.format("l9")),
    "rows of zarr 2": (lambda p: huge_zarr(p, 2), CLAIM.format("l9")),
    "rows without a chunk": (
        lambda p: huge_zarr(p, 3, with_chunks=False),
        CLAIM.format("l9"),
    ),
    "rows without columns": (
        lambda p: huge_zarr(p, 3, shape=(10**15, 0)),
        CLAIM.format("l9"),
    ),
    "ids of zarr": (huge_ids, CLAIM.format("ids")),
    "shard": (huge_shard, "holds less than it claims"),
    "rows of hdf5": (lambda p: huge_hdf5(p, 10**12, 0), "none were written"),
    "written rows of hdf5": (lambda p: huge_hdf5(p, 10**12, 5), CLAIM.format("l9")),
    "blosc longer": (lambda p: lying_blosc(p, 12, 2**31 - 1), "holds less than it"),
    "blosc cut": (
        lambda p: cut_zarr(p, compressors=BloscCodec()),
        "holds less than it claims",
    ),
    "blosc in a shard": (cut_blosc_in_shard, "holds less than it claims"),
    "blosc of more": (lambda p: lying_blosc(p, 4, 2**31 - 1), "holds less than it"),
    "blosc of a little more": (lambda p: lying_blosc(p, 4, 2**15), "claims far more"),
    "zstd": (lambda p: compressed(p, "zstd", ZSTD_OF_3_TB), "claims far more than"),
    "zstd of v3": (
        lambda p: chunk_of_v3(p, ZstdCodec(), ZSTD_OF_3_TB),
        "far more than",
    ),
    "zstd in a shard": (zstd_in_shard, "claims far more than a chunk of the shape"),
    "zstd as the second": (
        lambda p: compressed(
            p, "zstd", bytes(numcodecs.Zstd().encode(bytes(64))) + ZSTD_OF_3_TB
        ),
        "claims far more than",
    ),
    "zstd that repeats": (
        lambda p: compressed(p, "zstd", ZSTD_OF_REPEATS),
        "claims far more than",
    ),
    "lz4": (
        lambda p: compressed(p, "lz4", b"\xff\xff\xff\x7f" + bytes(64)),
        "claims far more than",
    ),
    "lz4 of a negative length": (
        lambda p: compressed(p, "lz4", b"\xff\xff\xff\xff" + bytes(64)),
        "claims far more than",
    ),
    "zlib": (lambda p: compressed(p, "zlib", BOMB), "claims far more than"),
    "gzip": (lambda p: compressed(p, "gzip", GZIP_BOMB), "claims far more than"),
    "gzip of v3": (
        lambda p: chunk_of_v3(p, GzipCodec(), GZIP_BOMB),
        "claims far more than",
    ),
    "gzip of two members": (
        lambda p: compressed(p, "gzip", WHOLE_GZIP + GZIP_BOMB),
        "claims far more than",
    ),
    "bz2": (lambda p: compressed(p, "bz2", bz2.compress(bytes(2**27))), "is not read"),
    "lzma": (lambda p: compressed(p, "lzma", b"\xfd7zXZ\0"), "is not read"),
    "strings": (lambda p: lying_ids(p, bytes(64)), "'ids' .* is broken"),
    "strings of bytes": (
        lambda p: lying_ids(p, bytes(64), "vlen-bytes"),
        "'ids' .* is broken",
    ),
    "strings in zstd": (
        lambda p: lying_ids(p, b"", compressor="zstd"),
        "'ids' .* is br",
    ),
    "strings in blosc": (
        lambda p: lying_ids(p, b"", compressor="blosc"),
        "'ids' .* is broken",
    ),
    "strings in zlib": (
        lambda p: lying_ids(p, b"", compressor="zlib"),
        "'ids' .* is br",
    ),
    "chunks of zarr": (
        lambda p: chunks_of_zarr(p, 3, [30000, 30000]),
        "1280 bytes in chunks of the shape .* Write it again, in chunks",
    ),
    "chunks of zarr 2": (
        lambda p: chunks_of_zarr(p, 2, [40, 10**9]),
        "1280 bytes in chunks of the shape",
    ),
    "chunks of hdf5": (chunks_of_hdf5, "64 bytes in chunks of the shape"),
    "hdf5 that skipped gzip": (
        lambda p: lying_hdf5(p, bytes(64), 1, n=4000, compression="gzip"),
        r"chunk, at \(0, 0\), of 64 bytes, but 64000000 are needed",
    ),
    "hdf5 checksum": (
        lambda p: lying_hdf5(p, b"\1", fletcher32=True),
        "of 1 bytes, but 16388 are needed",
    ),
    "hdf5 checksum of nothing in gzip": (
        # gzip went first, and the sum is that of 4 bytes, of which there are 3.
        lambda p: lying_hdf5(p, b"abc", compression="gzip", fletcher32=True),
        "cannot be read: a chunk has no checksum",
    ),
    "hdf5 without filters": (
        lambda p: lying_hdf5(p, bytes(8)),
        "of 8 bytes, but 16384 are needed",
    ),
    "hdf5 of too much": (
        lambda p: lying_hdf5(p, bytes(16385)),
        "of 16385 bytes, but 16384 are needed",
    ),
    "hdf5 shuffle": (
        lambda p: lying_hdf5(p, bytes(8), shuffle=True),
        "of 8 bytes, but 16384 are needed",
    ),
    "hdf5 gzip of less": (
        lambda p: lying_hdf5(p, zlib.compress(bytes(64)), compression="gzip"),
        "cannot be read: a chunk unpacks to 64 of 16384 bytes",
    ),
    "hdf5 gzip of more": (
        lambda p: lying_hdf5(p, BOMB, n=512, compression="gzip"),
        "cannot be read: a chunk unpacks to more than",
    ),
    "hdf5 gzip that is long": (
        # Not BOMB, as some versions do not write chunks of more than 64 KB then.
        lambda p: lying_hdf5(
            p, zlib.compress(bytes(2**25), 9), n=4, compression="gzip"
        ),
        "of .* bytes, but from 1 to 1096 are possible",
    ),
    "hdf5 lzf of less": (
        lambda p: lying_hdf5(p, b"\0a", compression="lzf"),
        "cannot be read: a chunk unpacks to 1 of 16384 bytes",
    ),
    "hdf5 lzf of more": (
        lambda p: lying_hdf5(p, LZF_BOMB, n=400, compression="lzf"),
        "cannot be read: a chunk unpacks to .* bytes, but at most",
    ),
    "hdf5 lzf that is cut": (
        lambda p: lying_hdf5(p, b"\x1fab", compression="lzf"),
        "cannot be read: a chunk of LZF is cut off",
    ),
    "hdf5 lzf that is cut in a copy": (
        lambda p: lying_hdf5(p, b"\0a\xe0", compression="lzf"),
        "cannot be read: a chunk of LZF is cut off",
    ),
    "hdf5 lzf of what was before it": (
        lambda p: lying_hdf5(p, b"\0a\x3f\xff" * 4096, compression="lzf"),
        "cannot be read",
    ),
    "hdf5 strings": (
        lambda p: lying_hdf5(
            p,
            zlib.compress(bytes(8)),
            name="ids",
            dtype=h5py.string_dtype(),
            compression="gzip",
        ),
        "cannot be read: a chunk unpacks to 8 of 1024 bytes",
    ),
}
if os.name != "nt":
    CHILDREN |= {
        "fifo as chunk": (lambda p: fifo(p, "chunk"), "is not a regular file"),
        "fifo as metadata": (lambda p: fifo(p, "metadata"), "is not a regular file"),
    }


def load_store(name, folder):
    if sys.platform == "linux":  # what C takes is not in what the child measures
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
    return repr(load_activations(f"{folder}/{name}.store", mmap=False))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What loading each of CHILDREN told, in a child process."""
    folder = tmp_path_factory.mktemp("stores")
    for name, (make, _) in CHILDREN.items():
        make(folder / f"{name}.store")
    return children.outcomes(__name__, "load_store", CHILDREN, folder)


def test_missing_chunks_are_not_looked_for(tmp_path):
    huge_and_filtered(tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="lacks 19999999 of 20000000"):
        layer = load_activations(tmp_path / "a.h5", mmap=False).layers[0]
    assert layer.sum() == 1


@pytest.mark.parametrize("name", CHILDREN)
def test_hostile_store_in_a_child(told, name):
    children.check_refused(told[name], CHILDREN[name][1])
    assert f"{name}.store" in told[name]["message"]
