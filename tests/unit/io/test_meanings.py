"""Files that may mean another thing than they seem to: read as meant, or asked about.

Each is as people make it: by a loop over prompts, batches or layers.
"""

import json
from collections import defaultdict

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

from skleiden.io import load_activations, load_texts
from tests.unit.io.test_file_forms import (
    EARLY,
    IDS,
    LATE,
    SAVERS,
    TALL,
    TEXTS,
    N,
    assert_is,
    by_id,
    containers,
    dense,
    saved_torch,
)

rng = np.random.default_rng(1)
TOKENS = [rng.integers(1, 40, (2 + i % 3, 4)).astype("f4") / 8 for i in range(N)]
CUBE = rng.integers(1, 40, (N, 3, 4)).astype("f4") / 8
BOTH = {"layer_0": EARLY, "layer_1": TALL}


def saved_npz(path, arrays):
    np.savez(path, **arrays)


def saved_safetensors(path, arrays):
    from safetensors.numpy import save_file

    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path)


def saved_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def saved_zarr(path, arrays):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values in arrays.items():
        made = group.create_array(name, shape=values.shape, dtype=values.dtype)
        made[...] = values


BY_NAME = {
    "npz": saved_npz,
    "safetensors": saved_safetensors,
    "h5": saved_hdf5,
    "zarr": saved_zarr,
    "pt": saved_torch,
}
by_name = pytest.mark.parametrize("form", BY_NAME)


# --- prompts that are not layers ------------------------------------------------------


@containers
@pytest.mark.parametrize("names", [("layer_9", "layer_10"), ("a", "b")])
def test_vectors_that_keep_the_axis_of_their_batch(tmp_path, form, names):
    """{id: {layer: (1, d)}}, as of a model that gets one prompt at a time."""
    path = tmp_path / f"a.{form}"
    layers = dict(zip(names, (EARLY, LATE), strict=True))
    content = {
        i: {name: matrix[row : row + 1] for name, matrix in layers.items()}
        for row, i in enumerate(IDS)
    }
    SAVERS[form](path, content)
    assert_is(load_activations(path), layers, IDS)
    SAVERS[form](path, {n: {i: content[i][n] for i in IDS} for n in names})
    assert_is(load_activations(path), layers, IDS)


@containers
def test_prompts_of_tokens_of_several_layers(tmp_path, form):
    path = tmp_path / f"a.{form}"
    SAVERS[form](path, {i: dict.fromkeys(BOTH, TOKENS[n]) for n, i in enumerate(IDS)})
    with pytest.raises(ValueError, match=r"'layer_0' under 6 names.* or pass pool="):
        load_activations(path)
    last = np.array([tokens[-1] for tokens in TOKENS])
    assert_is(load_activations(path, pool="last"), dict.fromkeys(BOTH, last), IDS)


@by_name
def test_prompts_with_a_row_a_layer(tmp_path, form):
    path = tmp_path / f"a.{form}"
    BY_NAME[form](path, {i: np.stack([EARLY[n], TALL[n]]) for n, i in enumerate(IDS)})
    with pytest.raises(ValueError, match=r"6 arrays of the shape \(2, 4\).*axis=1"):
        load_activations(path)
    assert_is(load_activations(path, axis=1), BOTH, IDS)
    assert load_activations(path, axis=0).names == tuple(IDS)
    BY_NAME[form](path, {"q0": EARLY[:2], "q1": EARLY[:3]})
    with pytest.raises(ValueError, match=r"of different shapes.*Leave out axis"):
        load_activations(path, axis=1)


@by_name
@pytest.mark.parametrize(
    "groups", [("q0", "q1", "q2"), ("batch_0", "batch_1"), ("a/7", "a/8")]
)
def test_groups_of_other_rows_are_asked_about(tmp_path, form, groups):
    path = tmp_path / f"a.{form}"
    sign = "." if form in ("npz", "safetensors", "pt") else "/"
    names = [f"{group}{sign}layer_{i}" for group in groups for i in (0, 1)]
    BY_NAME[form](path, dict.fromkeys(names, EARLY[:1]))
    with pytest.raises(
        ValueError, match=rf"'layer_0' under {len(groups)} names, .*join.*pass axis=0"
    ):
        load_activations(path)
    assert set(load_activations(path, axis=0).names) == set(names)


@by_name
def test_groups_that_are_sides_or_models_are_layers(tmp_path, form):
    names = [f"{g}.layer_{i}" for g in ("base", "tuned") for i in (0, 1)]
    BY_NAME[form](tmp_path / f"a.{form}", dict.fromkeys(names, EARLY))
    assert load_activations(tmp_path / f"a.{form}").names == tuple(names)
    names = [f"{g}.layer.{i}" for g in ("decoder", "encoder") for i in (0, 1)]
    BY_NAME[form](tmp_path / f"a.{form}", dict.fromkeys(names, EARLY[:1]))
    assert load_activations(tmp_path / f"a.{form}").names == tuple(names)


@by_name
@pytest.mark.parametrize(
    "names", [("train", "test"), ("X_train", "X_val"), ("train.layer_0", "dev.layer_0")]
)
def test_splits_are_no_layers(tmp_path, form, names):
    path = tmp_path / f"a.{form}"
    BY_NAME[form](path, dict.fromkeys(names, EARLY))
    with pytest.raises(ValueError, match=r"named like splits of the rows.*join"):
        load_activations(path)
    assert_is(load_activations(path, layers=names[:1]), {names[0]: EARLY})
    assert load_activations(path, axis=0).shape == (N, 8)


def test_splits_in_files_are_joined_if_given_as_parts(tmp_path):
    for name, part in (("acts_train", EARLY[:4]), ("acts_test", EARLY[4:])):
        np.save(tmp_path / f"{name}.npy", part)
    np.save(tmp_path / "acts_test.npy", EARLY[:4])
    with pytest.raises(ValueError, match=r"splits of the rows.*pass \{layer: \[part"):
        load_activations(tmp_path / "*.npy")
    np.save(tmp_path / "acts_test.npy", EARLY[4:])
    files = {"x": [tmp_path / "acts_train.npy", tmp_path / "acts_test.npy"]}
    assert_is(load_activations(files), {"x": EARLY})


def test_files_that_are_prompts(tmp_path):
    for row in range(N):
        content = {name: matrix[row] for name, matrix in BOTH.items()}
        saved_torch(tmp_path / f"prompt_{row}.pt", content)
    with pytest.raises(ValueError, match=r"such as 'layer_0'.*each file is a prompt"):
        load_activations(tmp_path / "*.pt")
    ids = [f"prompt_{row}" for row in range(N)]
    assert_is(load_activations(tmp_path / "*.pt", axis=1), BOTH, ids)
    one = load_activations(tmp_path / "prompt_3.pt", axis=1)
    assert_is(one, {n: m[3:4] for n, m in BOTH.items()}, ["prompt_3"])
    assert load_activations(tmp_path / "*.pt", axis=0).ids.tolist() == list(BOTH)
    for row in range(N):
        np.save(tmp_path / f"q{row}.npy", np.stack([EARLY[row], TALL[row]]))
    with pytest.raises(ValueError, match=r"6 arrays of the shape \(2, 4\).*\{layer: p"):
        load_activations(tmp_path / "*.npy")


def test_files_that_are_prompts_of_tokens(tmp_path):
    for row in range(N):
        saved_torch(tmp_path / f"q{row}.pt", dict.fromkeys(BOTH, TOKENS[row]))
    with pytest.raises(ValueError, match="'layer_0' under 6 names"):
        load_activations(tmp_path / "*.pt")
    stack = load_activations(tmp_path / "*.pt", pool="last", axis=1)
    last = np.array([tokens[-1] for tokens in TOKENS])
    assert_is(stack, dict.fromkeys(BOTH, last), IDS)


def test_files_that_are_batches_of_layers(tmp_path):
    for number in (0, 1):
        rows = slice(3 * number, 3 * number + 3)
        content = {name: matrix[rows] for name, matrix in BOTH.items()}
        saved_torch(tmp_path / f"acts_{number}.pt", content)
    with pytest.raises(ValueError, match=r"'layer_0' under 2 names.*\{layer: \[part"):
        load_activations(tmp_path / "*.pt")
    files = [tmp_path / "acts_0.pt", tmp_path / "acts_1.pt"]
    assert_is(load_activations({"x": files}), BOTH)
    assert load_activations({"x": files[0], "y": files[1]}).shape == (3, 16)


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_names_of_a_prompt_and_a_layer(tmp_path, form):
    vectors = {f"{i}.{n}": BOTH[n][row] for row, i in enumerate(IDS) for n in BOTH}
    BY_NAME[form](tmp_path / f"a.{form}", vectors)
    assert_is(load_activations(tmp_path / f"a.{form}"), BOTH, IDS)


# --- names of parts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["batch_0_layer_9", "batch_1_layer_9"], "layer_9"),
        (["acts_part0.layer_9", "acts_part1.layer_9"], "acts_layer_9"),
        (["layer_9_part1of2", "layer_9_part2of2"], "layer_9"),
        (["acts_1_of_2", "acts_2_of_2"], "acts"),
        (["layer_9_0_1", "layer_9_2_5"], "layer_9"),
        (["acts_rank0", "acts_rank1"], "acts"),
    ],
)
def test_other_names_of_parts(tmp_path, names, layer):
    np.save(tmp_path / f"{names[0]}.npy", EARLY[:2])
    np.save(tmp_path / f"{names[1]}.npy", EARLY[2:])
    assert_is(load_activations(tmp_path / "*.npy"), {layer: EARLY})


@pytest.mark.parametrize(
    "names",
    [
        ["layer_1_of_2", "layer_2_of_2"],
        ["blocks1of2", "blocks2of2"],
        ["layer_9_head_0", "layer_9_head_7"],
        ["chunk_0_1", "layer_0"],
    ],
)
def test_names_that_are_of_layers(tmp_path, names):
    for name in names:
        np.save(tmp_path / f"{name}.npy", EARLY)
    assert set(load_activations(tmp_path / "*.npy").names) == set(names)


# --- what stands beside ---------------------------------------------------------------


@by_name
@pytest.mark.parametrize("name", ["prompt_ids", "promptIds", "Row ID", "uid"])
def test_ids_under_other_names(tmp_path, form, name):
    path = tmp_path / f"a.{form}"
    ids = np.arange(10, 10 + N)
    BY_NAME[form](path, {"layer_0": EARLY, "layer_1": LATE, name: ids})
    expected = {"layer_0": EARLY, "layer_1": LATE}
    assert_is(load_activations(path), expected, ids.tolist())
    if form != "pt":  # others are told of where they are no ids
        BY_NAME[form](path, {"layer_0": EARLY, "layer_1": LATE, name: ids[:-1]})
        with pytest.warns(UserWarning, match=f"more than is read: '{name}'"):
            assert_is(load_activations(path), expected)


@pytest.mark.parametrize("form", ["h5", "zarr"])
def test_ids_of_each_group(tmp_path, form):
    """Rows are matched by the ids that stand beside them, in another order."""
    path = tmp_path / f"a.{form}"
    ids = np.arange(10, 10 + N)
    content = {
        "layer_0/acts": EARLY,
        "layer_0/ids": ids,
        "layer_1/acts": LATE[::-1].copy(),
        "layer_1/prompt_ids": ids[::-1].copy(),
    }
    BY_NAME[form](path, content)
    expected = {"layer_0/acts": EARLY, "layer_1/acts": LATE}
    assert_is(load_activations(path), expected, ids.tolist())
    BY_NAME[form](path, {**content, "layer_0/ids": np.array(3)})
    with pytest.raises(ValueError, match=r"'layer_0/ids' in .* one id for each row"):
        load_activations(path)


@by_name
def test_arrays_of_tokens_are_told_in_all_forms(tmp_path, form):
    mask = np.ones((N, 3), dtype="i8")
    content = {"layer_0": EARLY, "input_ids": mask, "attention_mask": mask}
    BY_NAME[form](tmp_path / f"a.{form}", content)
    with pytest.warns(UserWarning, match="is read: ('input_ids|'attention_mask)"):
        stack = load_activations(tmp_path / f"a.{form}")
    assert [dense(layer).shape for layer in stack.layers] == [(N, 4)]


@by_name
def test_a_mask_holds_where_layers_and_tokens_are_in_one_array(tmp_path, form):
    mask = np.ones((N, 3), dtype="i8")
    mask[:3, 2] = 0
    four = np.stack([CUBE, 2 * CUBE], axis=1)
    BY_NAME[form](tmp_path / f"a.{form}", {"acts": four, "attention_mask": mask})
    stack = load_activations(tmp_path / f"a.{form}", axis=1, pool="last")
    last = np.where(mask[:, 2:] > 0, CUBE[:, 2], CUBE[:, 1])
    assert_is(stack, {"layer_0": last, "layer_1": 2 * last})


def test_hidden_states_of_transformers(tmp_path):
    """A tuple of (rows, tokens, neurons), a layer each."""
    states = (CUBE, 2 * CUBE)
    mask = np.ones((N, 3), dtype="i8")
    expected = {"layer_0": CUBE[:, -1], "layer_1": 2 * CUBE[:, -1]}
    saved_torch(tmp_path / "a.pt", states)
    assert_is(load_activations(tmp_path / "a.pt", pool="last"), expected)
    with pytest.raises(ValueError, match=r"4 dimension.*\(or axis=0\), and pool="):
        load_activations(tmp_path / "a.pt")
    saved_torch(tmp_path / "b.pt", {"hidden_states": states, "attention_mask": mask})
    assert_is(load_activations(tmp_path / "b.pt", pool="last"), expected)


@by_name
def test_a_cache_of_all_that_a_model_did(tmp_path, form):
    """Activations beside patterns of attention, which are no layers."""
    pattern = np.ones((N, 2, 3, 3), dtype="f4")
    path = tmp_path / f"a.{form}"
    content = {"blocks.0.hook_post": EARLY, "blocks.0.hook_pattern": pattern}
    BY_NAME[form](path, content)
    with pytest.warns(UserWarning, match=r"read: 'blocks\.0\.hook_pattern' \("):
        (layer,) = load_activations(path).layers
    assert_array_equal(dense(layer), EARLY)
    if form in ("h5", "zarr"):
        return
    BY_NAME[form](path, {**content, "blocks.0.hook_post": CUBE})
    with pytest.warns(UserWarning, match=r"read: 'blocks\.0\.hook_pattern' \("):
        (layer,) = load_activations(path, pool="last").layers
    assert_array_equal(dense(layer), CUBE[:, -1])


def test_names_that_are_one_as_text(tmp_path):
    saved_torch(tmp_path / "a.pt", {0: EARLY, "0": TALL})
    with pytest.raises(ValueError, match="two names that are both '0' as text"):
        load_activations(tmp_path / "a.pt")


def test_the_largest_latents_of_tokens_are_not_pooled(tmp_path):
    numbers = np.ones((N, 3, 2), dtype="i8")
    saved_npz(tmp_path / "a.npz", {"top_indices": numbers, "top_acts": numbers / 2})
    for arguments in ({}, {"pool": "max"}):
        with pytest.raises(
            ValueError, match=r"shape \(6, 3, 2\): they are the largest latents"
        ):
            load_activations(tmp_path / "a.npz", **arguments)


@pytest.mark.parametrize("compound", [True, False])
def test_names_of_rows_of_anndata_that_are_not_read_are_said(tmp_path, compound):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file["X"] = EARLY
        if compound:
            rows = [(i.encode(), 1.0) for i in IDS]
            file["obs"] = np.array(rows, dtype=[("index", "S2"), ("score", "f4")])
        else:
            file.create_group("obs").attrs["_index"] = "cell"
            file["obs/cell/codes"] = np.arange(N)[::-1]
            file["obs/cell/categories"] = IDS
    told = "'obs' .a table" if compound else "names of its rows.*so the rows have no i"
    with pytest.warns(UserWarning, match=told):
        assert load_activations(tmp_path / "a.h5ad").ids is None


# --- tables ---------------------------------------------------------------------------

FRAME = pd.DataFrame(EARLY, index=IDS, columns=[f"n{i}" for i in range(4)])


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (FRAME.to_csv(), IDS),
        (FRAME.to_csv(sep=";"), IDS),
        ("\ufeff" + FRAME.to_csv(sep="\t", lineterminator="\r\n"), IDS),
        (FRAME[["n3", "n2", "n0", "n1"]].rename_axis("prompt_id").to_csv(), IDS),
        (FRAME.assign(text=TEXTS).rename_axis("id").to_csv(), IDS),
        (FRAME.to_csv(index=False), None),
        (FRAME.reset_index(drop=True).to_csv(), None),
        (pd.DataFrame(EARLY).to_csv(), None),
        (FRAME.to_csv(index=False, header=False), None),
        (FRAME.assign(n0=[f" {value} " for value in EARLY[:, 0]]).to_csv(), IDS),
    ],
    ids=range(10),
)
def test_csv_with_a_column_a_neuron(tmp_path, content, ids):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    assert_is(load_activations(tmp_path / "a.csv"), {"a": EARLY}, ids)


def test_csv_of_numpy(tmp_path):
    np.savetxt(tmp_path / "a.csv", EARLY, delimiter=",")
    assert_is(load_activations(tmp_path / "a.csv"), {"a": EARLY})


def test_csv_whose_names_count(tmp_path):
    pd.DataFrame(EARLY).to_csv(tmp_path / "a.csv", index=False)
    with pytest.warns(UserWarning, match="first line of .* counts from 0"):
        assert_is(load_activations(tmp_path / "a.csv"), {"a": EARLY})


def test_other_columns_of_numbers_are_told(tmp_path):
    FRAME.assign(label=3).to_csv(tmp_path / "a.csv")
    with pytest.warns(UserWarning, match="more than is read: 'label'"):
        assert_is(load_activations(tmp_path / "a.csv"), {"a": EARLY}, IDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,n0,n1\na,1,\n", r"'n1' in .*a\.csv' must hold .* a cell is empty"),
        ("id;n0;n1\na;1,5;2,5\n", "'1,5' has a decimal comma, and only decimal points"),
        ("id,n0,n1\na,1,x\n", "'n0' to 'n1' are taken for neurons: could not convert"),
        ("id,n0,n1\na,1,nan\n", "holds NaN or infinity"),
        ("0,1.5,2\n1,2.5,3\n", "Does the first column of .* number the rows"),
        ("id,score\na,1\n", r"not a file of .*, \.\.\.\) or with the columns row"),
        ("id,a0,a1,b0,b1\na,1,2,3,4\n", "not a file of activations"),
        ("id,layer_0,layer_1\na,1,2\n", "not a file of activations"),
        ("id,n0,n1\na,1\n", "not a file of activations"),
        ("id,n0,n0\na,1,2\n", "not a file of activations"),
        ("id,n5,n17\na,1,2\n", r"pandas\.read_csv, and give the data frame"),
    ],
)
def test_csv_that_is_no_matrix(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "a.csv")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_tables_with_a_column_a_neuron(tmp_path, form):
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        FRAME.to_parquet(path)
    else:
        FRAME.rename_axis("id").reset_index().to_json(
            path, orient="records", lines=True
        )
    assert_is(load_activations(path), {"a": EARLY}, IDS)


@pytest.mark.parametrize("form", ["parquet", "json"])
@pytest.mark.parametrize("with_ids", [True, False])
def test_tables_with_a_row_a_prompt_and_layer(tmp_path, form, with_ids):
    path = tmp_path / f"a.{form}"
    rows = [
        {"id": i, "layer": layer, "vector": matrix[row].tolist()}
        for row, i in enumerate(IDS)
        for layer, matrix in ((10, EARLY), (9, TALL))
    ]
    if not with_ids:
        rows = [{k: v for k, v in row.items() if k != "id"} for row in rows]
    if form == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows))
    expected = {"9": TALL, "10": EARLY}
    assert_is(load_activations(path), expected, IDS if with_ids else None)


def test_tables_with_layers_of_different_rows(tmp_path):
    rows = [{"layer": layer, "x": [1.0, 2.0]} for layer in (0, 0, 1)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(
        ValueError, match=r"different numbers of rows, .*'0': 2, '1': 1"
    ):
        load_activations(tmp_path / "a.json")


def test_columns_of_structs(tmp_path):
    """As data sets of Hugging Face have nested features."""
    nested = [{"layer_9": EARLY[n].tolist(), "mlp": {"l": [n + 0.5]}} for n in range(N)]
    for name, prefix in (("acts", ""), ("model", "model.")):
        table = pa.table({"id": IDS, name: nested})
        parquet.write_table(table, tmp_path / "a.parquet")
        expected = {
            f"{prefix}layer_9": EARLY,
            f"{prefix}mlp.l": np.arange(N)[:, None] + 0.5,
        }
        assert_is(load_activations(tmp_path / "a.parquet"), expected, IDS)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_tokens_of_each_row_are_told(tmp_path, form):
    """Their numbers differ, as in a data set that was tokenized."""
    path = tmp_path / f"a.{form}"
    tokens = [list(range(2 + n % 3)) for n in range(N)]
    table = pa.table({"id": IDS, "layer_9": EARLY.tolist(), "input_ids": tokens})
    if form == "parquet":
        parquet.write_table(table, path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    with pytest.warns(UserWarning, match="more than is read: 'input_ids'"):
        assert_is(load_activations(path), {"a": EARLY}, IDS)


def test_layers_by_id_in_either_way_are_equal(tmp_path):
    """What is asked about above leaves forms as they were that tell by themselves."""
    saved_torch(tmp_path / "a.pt", {n: by_id(m) for n, m in BOTH.items()})
    stack = load_activations(tmp_path / "a.pt")
    assert_is(stack, BOTH, IDS)
    means = {i: TOKENS[n] for n, i in enumerate(IDS)}
    saved_torch(tmp_path / "b.pt", means)
    (pooled,) = load_activations(tmp_path / "b.pt", pool="mean").layers
    assert_allclose(dense(pooled), [t.mean(axis=0) for t in TOKENS], rtol=1e-6)


# --- texts ----------------------------------------------------------------------------

WHY = {"q0": "Why?", "q1": "Who?"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "sep=;\r\nid;text\r\nq0;Why?\r\nq1;Who?\r\n"),
        ("a.csv", '\ufeff"sep=|"\nid|text\nq0|Why?\nq1|Who?\n'),
        ("a.csv", pd.DataFrame({"text": WHY}).to_csv()),
        ("a.csv", pd.DataFrame({"id": WHY.keys(), "text": WHY.values()}).to_csv()),
        ("a.csv", "QuestionID,Question,Kind\nq0,Why?,a\nq1,Who?,b\n"),
        (
            "a.jsonl",
            "".join(f'{{"promptId": "{i}", "prompt": "{WHY[i]}"}}\n' for i in WHY),
        ),
    ],
    ids=range(6),
)
def test_texts_of_table_programs(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert load_texts(tmp_path / name) == WHY


def test_texts_below_an_index_that_counts_rows(tmp_path):
    """As pandas writes it unless told not to: it is of the rows, not of ids."""
    pd.DataFrame({"text": WHY.values()}).to_csv(tmp_path / "a.csv")
    assert load_texts(tmp_path / "a.csv") == list(WHY.values())


def test_texts_beside_activations(tmp_path):
    texts = np.array(list(WHY.values()))
    np.savez(tmp_path / "a.npz", acts=EARLY[:2], ids=list(WHY), texts=texts)
    assert load_texts(tmp_path / "a.npz") == WHY
    assert_is(load_activations(tmp_path / "a.npz"), {"a": EARLY[:2]}, list(WHY))
    np.save(tmp_path / "a.npy", texts)
    assert load_texts(tmp_path / "a.npy") == list(texts)
    ids = np.array([7, 3])
    saved_torch(
        tmp_path / "a.pt", {"acts": EARLY[:2], "ids": ids, "texts": texts.tolist()}
    )
    assert load_texts(tmp_path / "a.pt") == {7: "Why?", 3: "Who?"}
    np.savez(tmp_path / "b.npz", acts=EARLY[:2], texts=texts.astype(object))
    for read in (load_texts, load_activations):
        with pytest.raises(ValueError, match=r"'texts': it holds pickled .*dtype=str"):
            read(tmp_path / "b.npz")
    saved_hdf5(tmp_path / "a.h5", {"acts": EARLY})
    with pytest.raises(ValueError, match=r"a\.h5' is a file of activations \(hdf5\)"):
        load_texts(tmp_path / "a.h5")


def test_layers_named_as_texts_are(tmp_path):
    np.savez(tmp_path / "a.npz", input=EARLY, output=LATE)
    assert_is(load_activations(tmp_path / "a.npz"), {"input": EARLY, "output": LATE})


def test_a_name_of_texts_that_is_taken_for_one_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("Prompt\nWhy?\nWho?\n")
    with pytest.warns(
        UserWarning, match=r"first line of .*'Prompt', is taken for a te"
    ):
        assert len(load_texts(tmp_path / "a.txt")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id;text\nq0;Grüße\n".encode("cp1252"),
            "codec can't decode .*; save it as UTF-8",
        ),
        (b"Why?\nWho?\n", "call their column 'text' in the first line"),
        (b"id,text\nq0,a\nq0,b\n", "'q0' more than once. Give each text an id of its"),
    ],
)
def test_texts_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_texts(tmp_path / "a.csv")


def test_a_dict_of_another_class_is_named(tmp_path):
    """A defaultdict, which collects what hooks see."""
    import torch

    acts = defaultdict(list)
    acts["layer_0"].append(torch.ones(4))
    torch.save(acts, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"could make \(collections\.defaultdict\), and such"
    ):
        load_activations(tmp_path / "a.pt")


# --- records and ids ------------------------------------------------------------------


@containers
def test_records_under_a_name(tmp_path, form):
    path = tmp_path / f"a.{form}"
    records = [{"id": i, "layer_9": EARLY[n]} for n, i in enumerate(IDS)]
    SAVERS[form](path, {"data": records, "model": "m"})
    with pytest.warns(UserWarning, match="more than is read: 'model'"):
        assert_is(load_activations(path), {"a": EARLY}, IDS)
    SAVERS[form](path, {"a": records, "b": records})
    with pytest.raises(
        ValueError, match=r"must hold matrices.*'a', 'b'\], none of which"
    ):
        load_activations(path)


@containers
def test_records_of_tokens_are_pooled_once(tmp_path, form):
    """Each has as many rows as the prompt has tokens."""
    path = tmp_path / f"a.{form}"
    records = [{"id": i, "layer_9": TOKENS[n]} for n, i in enumerate(IDS)]
    last = np.array([tokens[-1] for tokens in TOKENS])
    SAVERS[form](path, records)
    assert_is(load_activations(path, pool="last"), {"a": last}, IDS)
    SAVERS[form](path, {"layer_9": TOKENS, "layer_10": TOKENS})
    expected = {"layer_9": last, "layer_10": last}
    assert_is(load_activations(path, pool="last"), expected)
    SAVERS[form](path, TOKENS)
    assert_is(load_activations(path, pool="last"), {"a": last})


def test_files_of_ids_of_any_form(tmp_path):
    np.save(tmp_path / "a.npy", EARLY)
    table = pa.table({"prompt_id": IDS, "text": TEXTS})
    parquet.write_table(table, tmp_path / "ids.parquet")
    np.savez(tmp_path / "ids.npz", ids=np.array(IDS), texts=np.array(TEXTS))
    for name in ("ids.parquet", "ids.npz"):
        stack = load_activations(tmp_path / "a.npy", ids=tmp_path / name)
        assert_is(stack, {"a": EARLY}, IDS)
    saved_torch(tmp_path / "ids.pt", IDS)
    with pytest.raises(ValueError, match=r"ids\.pt' is a file of the form torch, from"):
        load_activations(tmp_path / "a.npy", ids=tmp_path / "ids.pt")


@containers
def test_a_key_that_is_not_there(tmp_path, form):
    SAVERS[form](tmp_path / f"a.{form}", BOTH)
    with pytest.raises(
        ValueError, match=r"has no 'post'; it has \['layer_0', 'layer_1"
    ):
        load_activations(tmp_path / f"a.{form}", key="post")


@containers
def test_ids_beside_records(tmp_path, form):
    records = [
        {"layer_9": early, "layer_10": late}
        for early, late in zip(EARLY, LATE, strict=True)
    ]
    SAVERS[form](tmp_path / f"a.{form}", {"activations": records, "ids": IDS})
    expected = {"layer_9": EARLY, "layer_10": LATE}
    assert_is(load_activations(tmp_path / f"a.{form}"), expected, IDS)
