"""Ids of rows: right, or refused, wherever they come from."""

import datetime
import decimal
import json
import os
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from skleiden import LayerStack, align_layers
from skleiden._ids import as_id_array
from skleiden.io import load_activations
from tests import children

X = np.random.default_rng(0).random((3, 2), dtype=np.float32)
NAME = "unlikely"  # of files, which no message has but for the file
NOT_UNICODE = np.array([[2**31], [1], [2]], dtype="<u4").view("<U1").ravel()


# --- in memory ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "a\0", "a\0\0"],
        ["\0", "", "\0\0"],
        [2**53, 2**53 + 1, 2**53 + 2],
        [2**63, 2**63 + 1, -1],
        [2**64, 2**64 + 1, 0],
        [1, "1", b"1"],
        [1.5, "1.5", None],
        [("a", 1), ("a", 2), "a"],
        ["\ud800", "a\u2028b", "\r"],
        [0.1, 1e300, -0.5],
        [b"a", b"b", b"c"],
        ["a", np.str_("b"), np.str_("c\0")],
    ],
    ids=range(12),
)
def test_ids_come_back_equal(ids):
    stack = LayerStack([X], ids=ids)
    for given, found in zip(ids, stack.ids.tolist(), strict=True):
        assert given == found
        assert isinstance(given, type(found))
    assert stack[[2]].ids.tolist() == ids[2:]
    assert as_id_array(stack.ids) is stack.ids


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ("abc", TypeError, "ids must be a sequence of one id per row; got 'abc'"),
        (b"abc", TypeError, "ids must be a sequence"),
        (bytearray(b"abc"), TypeError, "ids must be a sequence"),
        ({"a": 0, "b": 1, "c": 2}, TypeError, "ids must be a sequence"),
        ({"a", "b", "c"}, TypeError, "ids must be a sequence"),
        (frozenset("abc"), TypeError, "ids must be a sequence"),
        ([True, False, 2], TypeError, "ids must not be booleans, .* got True"),
        (["a", np.False_, "b"], TypeError, "ids must not be booleans, .* got "),
        (
            np.array([True, False, True]),
            TypeError,
            "strings or numbers; got dtype bool",
        ),
        (
            np.array([0, 1, True], dtype=object),
            TypeError,
            "ids must not be booleans, .* got True",
        ),
        ([1.0, 2.0, np.nan], ValueError, "equal to themselves, .* got nan. Replace"),
        (np.array([1, np.nan, np.nan]), ValueError, "equal to themselves"),
        (["a", "b", float("nan")], ValueError, "equal to themselves"),
        (["a", "b", np.float32("nan")], ValueError, "equal to themselves"),
        (["a", "b", pd.NA], ValueError, "equal to themselves, .* got <NA>"),
        (["a", "b", pd.NaT], ValueError, "equal to themselves, .* got NaT"),
        ([1, 2, decimal.Decimal("NaN")], ValueError, "equal to themselves"),
        ([1, 1.0, 2], ValueError, "ids must not repeat; got 1.0 more than once"),
        ([0.0, -0.0, 1], ValueError, "ids must not repeat"),
        (np.array(["a", "a\0", "b"]), ValueError, "ids must not repeat; got 'a'"),
        (np.array([b"a", b"a\0", b"b"]), ValueError, "ids must not repeat; got b'a'"),
        (np.float64([2**53, 2**53 + 1, 0]), ValueError, "ids must not repeat"),
        (np.array("2020-01-01", "M8[D]") + range(3), TypeError, r"dtype datetime64\[D"),
        (np.zeros(3, [("a", "i4")]), TypeError, "strings or numbers; got dtype"),
        (np.array([1j, 2, 3]), TypeError, "got dtype complex128"),
        (np.arange(3)[:, None], ValueError, r"one-dimensional .* got shape \(3, 1\)"),
        (np.arange(3)[None], ValueError, r"one-dimensional .* got shape \(1, 3\)"),
        (np.array(3), ValueError, r"one-dimensional .* got shape \(\)"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), ValueError, "must not be masked"),
        ([["a"], ["b"], ["c"]], TypeError, r"ids must be hashable, .* got \['a'\]"),
        ([1, 2, (3, [4])], TypeError, r"ids must be hashable, .* got \(3, \[4\]\)"),
        (NOT_UNICODE, ValueError, "ids must be strings of Unicode"),
        (["a", "b"], ValueError, r"got shape \(2,\) for 3 rows"),
        ([], ValueError, r"got shape \(0,\) for 3 rows"),
    ],
    ids=range(34),
)
def test_ids_that_do_not_tell_rows_apart(ids, error, message):
    with pytest.raises(error, match=message):
        LayerStack([X], ids=ids)


def test_ids_of_mappings_are_ids_too():
    for bad, message in ((True, "booleans"), (float("nan"), "equal to themselves")):
        with pytest.raises((TypeError, ValueError), match=message):
            align_layers({"a": {bad: [1.0], 5: [2.0]}}, order="reference")


def test_dates_as_objects_are_ids():
    days = [datetime.date(2020, 1, day) for day in (1, 2, 3)]
    assert LayerStack([X], ids=days).ids.tolist() == days


# --- files beside ---------------------------------------------------------------------


def beside(tmp_path, suffix, content):
    np.save(tmp_path / f"{NAME}.npy", X)
    file = tmp_path / f"{NAME}.ids{suffix}"
    if isinstance(content, np.ndarray):
        np.save(file, content)
    else:
        file.write_bytes(content)
    return tmp_path / f"{NAME}.npy"


@pytest.mark.parametrize(
    ("suffix", "content", "ids"),
    [
        (".txt", b"\xef\xbb\xbfa\nb\nc\n", ["a", "b", "c"]),
        (".json", b'\xef\xbb\xbf["a", "b", "c"]', ["a", "b", "c"]),
        (".txt", b"a\r\nb\r\nc", ["a", "b", "c"]),
        (".txt", b"a\r\nb\r\nc\r\n\r\n", ["a", "b", "c"]),
        (".txt", b"a\nb\nc\n\n\n", ["a", "b", "c"]),
        (
            ".csv",
            b"\xef\xbb\xbfPrompt ID;text\r\na;x\r\nb;y\r\nc;z\r\n",
            ["a", "b", "c"],
        ),
        (".csv", b'a\n"b,c"\nd\n', ["a", "b,c", "d"]),
        (".jsonl", b'"a"\n"b"\n3\n', ["a", "b", 3]),
        (".jsonl", b'{"id": "a"}\n{"id": "b"}\n{"id": "c", "x": 1}\n', ["a", "b", "c"]),
        (".txt", b"a\rb\rc\r", ["a", "b", "c"]),
        (".txt", b"a\nb\r\nc\r", ["a", "b", "c"]),
        (".txt", "a\u2028x\nb\u2029\x85\x0b\x0c\nc\x1c\x1d\x1e".encode(), None),
        (".txt", b"PK\x03\x04\nb\nc", ["PK\x03\x04", "b", "c"]),
        (".txt", b" a\na\na \n", [" a", "a", "a "]),
        (".json", b'["a", "a\\u0000", "\\u2028"]', ["a", "a\0", "\u2028"]),
        (".json", b"[9007199254740992, 9007199254740993, 0]", [2**53, 2**53 + 1, 0]),
        (".json", b'[1, "1", 18446744073709551616]', [1, "1", 2**64]),
        (".json", b'["", null, 2.5]', ["", None, 2.5]),
        (".npy", np.array([b"a", "é".encode(), b"c"]), ["a", "é", "c"]),
        (".npy", np.array([2**63, 2**63 + 1, 0], "u8"), [2**63, 2**63 + 1, 0]),
        (".npy", np.array(["a", "\u2028", "\r"]), ["a", "\u2028", "\r"]),
    ],
    ids=range(21),
)
def test_ids_beside_that_are_right(tmp_path, suffix, content, ids):
    path = beside(tmp_path, suffix, content)
    if ids is None:
        ids = content.decode().split("\n")
        assert len(ids) == 3
    assert load_activations(path).ids.tolist() == ids
    side = tmp_path / f"{NAME}.ids{suffix}"
    other = tmp_path / "other.npy"
    np.save(other, X)
    assert load_activations(other, ids=side).ids.tolist() == ids
    assert load_activations(other, ids=str(side)).ids.tolist() == ids


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".txt", "a\nb\nc\n".encode("utf-16"), "UTF-16"),
        (".txt", "a\nb\nc\n".encode("utf-16-le"), "it holds NUL characters"),
        (".txt", "a\nb\nc\n".encode("utf-32"), "UTF-16 or UTF-32"),
        (".json", '["a", "b", "c"]'.encode("utf-16"), "UTF-16"),
        (".txt", "é\nb\nc\n".encode("latin-1"), "can't decode byte 0xe9"),
        (".txt", b"a\0\nb\nc\n", "it holds NUL characters"),
        (".txt", b"a\nb\n\n", r"got shape \(2,\) for 3 rows"),
        (".txt", b"a\n\nb\n", "line 2 is empty"),
        (".txt", b"\r\na\nb\n", "line 1 is empty"),
        (".txt", b"", r"got shape \(0,\) for 3 rows"),
        (".txt", b"a\nb\n", r"got shape \(2,\) for 3 rows"),
        (".txt", b"a\nb\na\n", "got 'a' more than once"),
        (".txt", b"PK\x03\x04\xff\xff", "can't decode byte"),
        (".csv", b"a,x\nb,y\nc,z\n", "names no column of ids; got columns"),
        (".jsonl", b'{"x": 1}\n{"x": 2}\n{"y": 3}\n', "names no column of ids"),
        (".json", b'"abc"', "must hold a list of ids; got str"),
        (
            ".json",
            b'{"a": 1, "b": 2, "c": 3}',
            "must hold a list of ids; got a mapping",
        ),
        (".json", b"3", "must hold a list of ids; got int"),
        (".json", b'["a", "b", true]', "must not be booleans"),
        (".json", b'["a", "b", NaN]', "equal to themselves"),
        (".json", b'["a", "b", ["c"]]', "must be hashable"),
        (".json", b'["a", "b", {"c": 1}]', "must be hashable"),
        (".json", b"[1, 1.0, 2]", "got 1.0 more than once"),
        (".json", b"[" * 100_000, "nested too deeply"),
        (".npy", np.arange(3)[:, None], r"got shape \(3, 1\)"),
        (".npy", np.arange(3)[None], r"got shape \(1, 3\)"),
        (".npy", np.array(3), r"got shape \(\)"),
        (".npy", np.array([True, False, True]), "got dtype bool"),
        (".npy", np.array([1, np.nan, 2]), "equal to themselves"),
        (".npy", np.zeros(3, [("a", "i4")]), "got dtype"),
        (".npy", np.zeros(3, "M8[s]"), "got dtype datetime64"),
        (".npy", np.array(["a", "a\0", "b"]), "got 'a' more than once"),
        (".npy", np.array([b"\xff", b"a", b"b"]), "must be UTF-8: .*can't decode"),
        (".npy", NOT_UNICODE, "must be strings of Unicode"),
        (".npy", np.zeros(0), r"got shape \(0,\) for 3 rows"),
    ],
    ids=range(35),
)
def test_ids_beside_that_are_refused(tmp_path, suffix, content, message):
    path = beside(tmp_path, suffix, content)
    side = rf"{NAME}\.ids\{suffix}"
    for ids in (None, tmp_path / f"{NAME}.ids{suffix}"):
        with pytest.raises(ValueError, match=message) as found:
            load_activations(path, ids=ids)
        assert found.match(side)  # the file is named


@pytest.mark.parametrize("head", ["id", "Prompt_ID"])
def test_a_line_that_names_the_ids_is_no_id(tmp_path, head):
    path = beside(tmp_path, ".txt", f"{head}\na\nb\nc\n".encode())
    with pytest.warns(UserWarning, match=f"The first line of .*'{head}', is taken for"):
        assert load_activations(path).ids.tolist() == ["a", "b", "c"]


def test_a_link_to_ids_that_leads_nowhere_is_not_passed_over(tmp_path):
    np.save(tmp_path / "a.npy", X)
    try:
        (tmp_path / "a.ids.txt").symlink_to(tmp_path / "nothing")
    except OSError:
        pytest.skip("no symbolic links here")
    with pytest.raises(FileNotFoundError, match=r"no file '.*a\.ids\.txt'"):
        load_activations(tmp_path / "a.npy")


def test_a_folder_in_place_of_ids(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.ids.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a\.ids\.json' is a folder"):
        load_activations(tmp_path / "a.npy")


def load_with_ids(case, folder):
    ids = f"{folder}/fifo" if case == "given" else None
    return repr(load_activations(f"{folder}/{case}.npy", ids=ids))


def claim_of_rows(path):
    np.save(path, np.zeros(3))
    # Of the same length, so that the header fits.
    content = path.read_bytes().replace(b"(3,), }" + b" " * 12, b"(1000000000003,), }")
    assert b"(1000000000003,)" in content
    path.write_bytes(content)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes")
def test_ids_that_would_wait_or_take_all_memory(tmp_path):
    for case in ("given", "txt", "json", "npy", "claim"):
        np.save(tmp_path / f"{case}.npy", X)
    for file in ("fifo", "txt.ids.txt", "json.ids.json", "npy.ids.npy"):
        os.mkfifo(tmp_path / file)
    claim_of_rows(tmp_path / "claim.ids.npy")
    cases = ["given", "txt", "json", "npy", "claim"]
    told = children.outcomes(__name__, "load_with_ids", cases, tmp_path)
    children.check_refused(told["given"], "fifo' is a named pipe")
    for case in ("txt", "json", "npy"):
        message = rf"{case}\.ids\.{case}' is a named pipe"
        children.check_refused(told[case], message)
    children.check_refused(told["claim"], r"claim\.ids\.npy' must hold ids")


# --- in the files of layers -----------------------------------------------------------


def in_npz(path, ids):
    np.savez(path.with_suffix(".npz"), early=X, late=X, ids=ids)
    return path.with_suffix(".npz")


def in_hdf5(path, ids):
    with h5py.File(path, "w") as file:
        file["early"], file["late"] = X, X
        file["ids"] = ids.tolist() if ids.dtype.kind == "U" else ids
    return path


def in_zarr(path, ids, zarr_format=3):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dtypes that are not yet in the standard
        group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        for name, array in (("early", X), ("late", X), ("ids", ids)):
            group.create_array(name, shape=array.shape, dtype=array.dtype)[...] = array
    return path


def in_safetensors(path, ids):
    safetensors = pytest.importorskip("safetensors.numpy")
    listed = [i.decode() if isinstance(i, bytes) else i for i in ids.ravel().tolist()]
    metadata = {"ids": json.dumps(listed if ids.ndim == 1 else ids.tolist())}
    safetensors.save_file({"early": X, "late": X}, path, metadata)
    return path


FORMS = {
    "npz": in_npz,
    "hdf5": in_hdf5,
    "zarr": in_zarr,
    "zarr 2": lambda path, ids: in_zarr(path, ids, 2),
    "safetensors": in_safetensors,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "ids",
    [
        np.array(["a", "é\u2028", "c"]),
        np.array([b"a", "é".encode(), b"c"]),
        np.array([2**53, 2**53 + 1, -5]),
        np.array([1.5, 2.0, 3.0]),
    ],
    ids=["str", "bytes", "int", "float"],
)
def test_ids_in_files(tmp_path, form, ids):
    expected = [i.decode() if isinstance(i, bytes) else i for i in ids.tolist()]
    path = FORMS[form](tmp_path / "a.safetensors", ids)
    assert load_activations(path).ids.tolist() == expected


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.arange(3)[:, None], r"got shape \(3, 1\)|must be hashable|hold a list"),
        (np.arange(3)[None], r"got shape \(1, 3\)|for 3 rows|must be hashable"),
        (np.array(3), r"got shape \(\)|must be a JSON list"),
        (np.array([True, False, True]), "got dtype bool|must not be booleans"),
        (np.array([1, np.nan, 2]), "equal to themselves"),
        (np.arange(2), r"got shape \(2,\) for 3 rows"),
        (np.array(["a", "b", "a"]), "got 'a' more than once"),
    ],
    ids=["column", "row", "0-d", "bool", "NaN", "short", "repeated"],
)
def test_ids_in_files_that_are_refused(tmp_path, form, mmap, ids, message):
    path = FORMS[form](tmp_path / f"{NAME}.safetensors", ids)
    with pytest.raises(ValueError, match=message) as found:
        load_activations(path, mmap=mmap)
    assert found.match(path.name)  # the file is named, though it has several layers


@pytest.mark.parametrize("form", ["hdf5", "zarr", "zarr 2"])
def test_ids_in_a_group_are_no_layer(tmp_path, form):
    path = FORMS[form](tmp_path / f"{NAME}.store", np.arange(3))
    column = np.arange(3)[:, None]
    if form == "hdf5":
        with h5py.File(path, "a") as file:
            file["mlp/ids"] = column
    else:
        group = zarr.open_group(path, mode="a")
        group.create_array("mlp/ids", shape=(3, 1), dtype=int)[:] = column
    message = rf"Array 'mlp/ids' in '.*{NAME}\.store' must give one id for each row, in"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_floats_match_integers_and_bytes_match_strings(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, ids=np.arange(3.0))
    in_hdf5(tmp_path / "b.h5", np.array([2, 1, 0]))
    stack = load_activations([tmp_path / "a.npz", tmp_path / "b.h5"])
    assert stack.ids.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(stack.layers[1], X[::-1])
    (tmp_path / "c").mkdir()
    in_hdf5(tmp_path / "c" / "a.h5", np.array([b"r", b"s", b"t"]))
    np.save(tmp_path / "c" / "b.npy", X)
    (tmp_path / "c" / "b.ids.json").write_text('["t", "s", "r"]')
    stack = load_activations(tmp_path / "c" / "*.[hn]*[5y]")
    assert stack.ids.tolist() == ["r", "s", "t"]


def test_ids_that_are_given(tmp_path):
    np.save(tmp_path / "a.npy", X)
    for ids, message in (
        ([1, 2, True], "ids of layer 'a' do not fit: ids must not be booleans"),
        ({"a": 1, "b": 2, "c": 3}, "ids of layer 'a' do not fit: ids must be a seq"),
        ([1.0, 2.0, np.nan], "ids of layer 'a' do not fit: .* equal to themselves"),
    ):
        with pytest.raises(ValueError, match=message):
            load_activations(tmp_path / "a.npy", ids=ids)
    assert load_activations(tmp_path / "a.npy", ids=[b"a", b"b", "b"]).ids.tolist() == [
        b"a",
        b"b",
        "b",
    ]
