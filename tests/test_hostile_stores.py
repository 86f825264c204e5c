"""Zarr folders and HDF5 files that lie, that are cut off, or that lead elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, GzipCodec

from skleiden import MultiLayerTfidfSketcher
from skleiden.io import load_activations
from skleiden.model_selection import permute_columns

from . import children

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
    with pytest.warns(UserWarning, match=rf"{NAME}\.h5' has 4 further names") as found:
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
    message = rf"{NAME}\.zarr' lacks 1 of 4 .* read as nothing that is defined"
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
    message = rf"Dataset 'l9' in '.*{NAME}\.h5' has the shape .* none was written"
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
            ValueError, match=rf"{NAME}{v}\.zarr' has consolidated meta"
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
    ids=repr,
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


def unknown_filter(file):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((10, 8))
    creation.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((40, 8))
    h5py.h5d.create(file.id, b"l9", h5py.h5t.NATIVE_FLOAT, space, creation)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unknown_filter, "needs the HDF5 filter 32999 .* not installed"),
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
        (3, {"codecs": ["bytes", "blosc", "zstd"]}, "blosc is read as the last of"),
        (
            2,
            {"filters": [{"id": "blosc"}], "compressor": {"id": "zstd"}},
            "blosc is read as the last of",
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
        {"compressors": numcodecs.BZ2()},
        {"compressors": None},
    ],
    ids=repr,
)
def test_codecs_that_are_known(tmp_path, options):
    path = zarr_store(tmp_path / "a.zarr", v=2, **options)
    np.testing.assert_allclose(load_activations(path).layers[0][:], X, rtol=1e-5)


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
    "rows of hdf5": (lambda p: huge_hdf5(p, 10**12, 0), "none was written"),
    "written rows of hdf5": (lambda p: huge_hdf5(p, 10**12, 5), CLAIM.format("l9")),
    "blosc longer": (lambda p: lying_blosc(p, 12, 2**31 - 1), "holds less than it"),
    "blosc cut": (
        lambda p: cut_zarr(p, compressors=BloscCodec()),
        "holds less than it claims",
    ),
    "blosc in a shard": (cut_blosc_in_shard, "holds less than it claims"),
    "blosc of more": (lambda p: lying_blosc(p, 4, 2**31 - 1), "holds less than it"),
}
if os.name != "nt":
    CHILDREN |= {
        "fifo as chunk": (lambda p: fifo(p, "chunk"), "is not a regular file"),
        "fifo as metadata": (lambda p: fifo(p, "metadata"), "is not a regular file"),
    }


def load_store(name, folder):
    return repr(load_activations(f"{folder}/{name}.store", mmap=False))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What loading each of CHILDREN told, in a child process."""
    folder = tmp_path_factory.mktemp("stores")
    for name, (make, _) in CHILDREN.items():
        make(folder / f"{name}.store")
    return children.outcomes(__name__, "load_store", CHILDREN, folder)


@pytest.mark.parametrize("name", CHILDREN)
def test_hostile_store_in_a_child(told, name):
    children.check_refused(told[name], CHILDREN[name][1])
    assert f"{name}.store" in told[name]["message"]
