"""What one neuron fires on."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from skleiden import LayerStack
from skleiden._blocks import sources
from skleiden.inspection import Neuron, neuron, top_features
from skleiden.inspection._firing import firing_in

# Multiples of 1/8: sums are exact in any order, and float16 holds them.
rng = np.random.default_rng(0)
WIDE = rng.integers(0, 40, size=(60, 9)) / 8 * (rng.random((60, 9)) < 0.6)
LAYERS = {"early": 4, "late": 5}
EARLY, LATE = WIDE[:, :4], WIDE[:, 4:]
# Community 1 has no member, and every fifth row is noise.
LABELS = np.tile([0, 2, 3, 2, -1], 12)
SIGNED = rng.standard_normal((60, 5))


def in_halves(matrix):
    """The same matrix with every value stored in two halves."""
    data, indices = np.repeat(matrix.data / 2, 2), np.repeat(matrix.indices, 2)
    return sp.csr_array((data, indices, 2 * matrix.indptr), shape=matrix.shape)


def mapped(folder):
    np.save(folder / "late.npy", LATE)
    return {"early": EARLY, "late": np.load(folder / "late.npy", mmap_mode="r")}, None


def in_zarr(folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.open_array(
        str(folder / "late.zarr"), mode="w", shape=LATE.shape, chunks=(7, 2), dtype="f8"
    )
    array[:] = LATE
    return LayerStack({"early": EARLY, "late": array}), None


def in_hdf5(folder):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "late.h5", "w")
    file["late"] = LATE
    return LayerStack({"early": EARLY, "late": file["late"]}), None


def in_torch(_):
    torch = pytest.importorskip("torch")
    return {"early": EARLY, "late": torch.tensor(LATE, dtype=torch.bfloat16)}, None


FORMS = {
    "stack": lambda _: (LayerStack({"early": EARLY, "late": LATE}), None),
    "memory map": mapped,
    "float16": lambda _: ({"early": EARLY, "late": LATE.astype(np.float16)}, None),
    "sparse": lambda _: ({"early": EARLY, "late": sp.csr_matrix(LATE)}, None),
    "wide": lambda _: (WIDE, LAYERS),
    "wide CSR": lambda _: (sp.csr_matrix(WIDE), LAYERS),
    "wide CSC": lambda _: (sp.csc_array(WIDE, dtype=np.float32), LAYERS),
    "not canonical": lambda _: (in_halves(sp.csr_array(WIDE)), LAYERS),
    "Zarr": in_zarr,
    "HDF5": in_hdf5,
    "torch": in_torch,
}


def check(found, column, n_rows=5):
    """Compare with the column itself."""
    fires = column > found.threshold
    order = np.lexsort((np.arange(60), -column))
    expected = order[fires[order]][:n_rows]
    assert [of.row for of in found.strongest] == expected.tolist()
    assert [of.activation for of in found.strongest] == column[expected].tolist()
    assert [of.community for of in found.strongest] == LABELS[expected].tolist()
    assert found.mean == pytest.approx(column.mean())
    assert found.share == fires.mean()
    assert sorted(found.table["community"]) == [0, 2, 3]
    for c, size, mean, share, effect in zip(*found.table.values(), strict=True):
        is_in = np.isin(LABELS, c)
        inside, outside = column[is_in], column[~is_in]
        assert size == inside.size
        assert mean == pytest.approx(inside.mean())
        assert share == fires[is_in].mean()
        squares = sum((of.size - 1) * of.var(ddof=1) for of in (inside, outside))
        assert effect == pytest.approx(
            (inside.mean() - outside.mean()) / np.sqrt(squares / 58)
        )
    assert_array_equal(
        found.table["effect_size"], np.sort(found.table["effect_size"])[::-1]
    )


@pytest.mark.parametrize("batch", [None, 1, 50])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_is_what_the_column_says(form, batch, tmp_path, monkeypatch):
    if batch is not None:
        monkeypatch.setattr(sources, "_BLOCK_SIZE", batch)
    X, layers = form(tmp_path)
    found = neuron(X, "late", 3, LABELS, n_rows=5, layers=layers)
    assert (found.layer, found.number, found.name) == ("late", 3, None)
    assert (found.threshold, found.n_samples) == (0, 60)
    check(found, LATE[:, 3])


@pytest.mark.parametrize("sparse", [False, True])
def test_on_workers_as_here(place, sparse):
    signed = sp.csr_array(SIGNED) if sparse else SIGNED
    X = place(LayerStack({"late": LATE, "signed": signed}))
    for layer, column in (("late", LATE[:, 2]), ("signed", SIGNED[:, 2])):
        check(neuron(X, layer, 2, LABELS, n_rows=5), column)


def test_fires_as_everywhere_else():
    stack = LayerStack({"late": LATE, "signed": SIGNED})
    firing = dict(zip(stack.names, firing_in(stack), strict=True))
    for c, features in top_features(stack, LABELS, n_features=100).items():
        for feature in features:
            found = neuron(stack, feature.layer, feature.neuron, LABELS)
            assert found.threshold == firing[feature.layer].thresholds[feature.neuron]
            (at,) = np.flatnonzero(found.table["community"] == c)
            for ours, theirs in (("effect_size", "effect_size"), ("mean", "mean")):
                assert_allclose(found.table[ours][at], getattr(feature, theirs))
            assert found.table["share"][at] == feature.share
    # A layer after GELU is taken by its positive part.
    gelu = LATE - 0.125 * (LATE == 0)
    assert neuron({"gelu": gelu}, "gelu", 0).mean == LATE[:, 0].mean()


def test_other_layers_are_not_read(monkeypatch):
    broken = LATE.copy()
    broken[5, 1] = np.nan
    stack = LayerStack({"early": EARLY, "late": broken})
    assert neuron(stack, "early", 1).n_samples == 60
    with pytest.raises(ValueError, match="Input X contains NaN in layer 'late'"):
        neuron(stack, "late", 1)
    read = []
    plain = sources.Source.read
    monkeypatch.setattr(
        sources.Source,
        "read",
        lambda self, rows: read.append(self.shape) or plain(self, rows),
    )
    neuron(LayerStack({"early": EARLY, "late": LATE}), "early", 1)
    assert read == [(60, 4), (60, 4), (60, 1)]


def test_only_rows_in_which_it_fires_and_the_first_of_equal_ones():
    column = np.array([0.0, 2.0, 0, 1, 2, 1, 1, 0])
    X = {"mlp": np.stack([column, np.ones(8)], axis=1)}
    found = neuron(X, "mlp", 0, n_rows=3)
    assert [of.row for of in found.strongest] == [1, 4, 3]
    assert [of.row for of in neuron(X, "mlp", 0, n_rows=100).strongest] == [
        1, 4, 3, 5, 6,
    ]  # fmt: skip
    silent = neuron({"mlp": np.zeros((8, 2))}, "mlp", 0)
    assert (silent.strongest, silent.mean, silent.share) == ([], 0, 0)


def test_without_labels_and_with_one_community():
    found = neuron(EARLY, "layer_0", 0)
    assert {of.community for of in found.strongest} == {-1}
    assert [of.size for of in found.table.values()] == [0] * 5
    assert len(found.describe()) == 1
    one = neuron(EARLY, "layer_0", 0, np.zeros(60, int))
    assert one.table["community"].tolist() == [0]
    assert np.isnan(one.table["effect_size"]).all()
    assert one.to_dict()["communities"][0]["effect_size"] is None


def test_labels_that_are_strings():
    words = np.array(["b", "z", "a", "c", "-1"])[LABELS]  # 1 has no rows
    by_number = neuron(LATE, "layer_0", 0, LABELS)
    by_word = neuron(LATE, "layer_0", 0, words)
    of_word = {0: "b", 2: "a", 3: "c", -1: -1}
    assert by_word.table["community"].tolist() == [
        of_word[c] for c in by_number.table["community"].tolist()
    ]
    for name in ("size", "mean", "share", "effect_size"):
        assert_array_equal(by_word.table[name], by_number.table[name])
    assert [of.community for of in by_word.strongest] == [
        of_word[of.community] for of in by_number.strongest
    ]
    json.dumps(by_word.to_dict(), allow_nan=False)


def test_ids_texts_and_names_of_columns():
    ids = [f"q{i}" for i in range(60)]
    frame = pd.DataFrame(EARLY, columns=list("abcd"))
    stack = LayerStack({"early": frame}, ids=ids)
    texts = {name: f"text of {name}" for name in ids}
    found = neuron(stack, "early", 1, LABELS, texts=texts)
    assert found.name == "b"
    for of in found.strongest:
        assert (of.id, of.text) == (f"q{of.row}", f"text of q{of.row}")
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["strongest"][0] == found.strongest[0]._asdict()
    assert plain["communities"][0]["community"] == found.table["community"][0]
    assert found.to_frame().columns.tolist() == [*found.table]
    assert "text of q" in found._repr_html_()
    assert repr(found).startswith("<Neuron: early:1 fires (above 0) in ")
    first = neuron(stack, "early", 1, texts=list(texts.values())).strongest[0]
    assert first.text == f"text of {first.id}"
    hostile = neuron(EARLY, "layer_0", 0, texts=["<b>&"] * 60)
    assert "<b>" not in hostile._repr_html_()
    assert isinstance(hostile, Neuron)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"layer": "mid"}, ValueError, r"layer must be .* \['early', 'late'\]; got 'm"),
        ({"number": 5}, IndexError, "column of layer 'late', an integer from 0 to 4; "),
        ({"number": -1}, IndexError, "from 0 to 4; got -1"),
        ({"number": 1.0}, IndexError, "from 0 to 4; got 1.0"),
        ({"labels": [0, 1]}, ValueError, "got 2 labels for 60 rows"),
        ({"n_rows": 0}, ValueError, "n_rows must be an integer of at least 1; got 0"),
        ({"texts": ["a"]}, ValueError, "one entry for each row; got 1 for 60 rows"),
        ({"texts": {0: "a"}}, ValueError, "texts has no text for 59 of 60 ids"),
    ],
)
def test_bad_input(change, error, match):
    X = LayerStack({"early": EARLY, "late": LATE})
    given = {"layer": "late", "number": 0, "labels": LABELS} | change
    with pytest.raises(error, match=match):
        neuron(X, **given)


def test_neurons_as_rows_are_refused():
    X = LayerStack({"early": EARLY}).neurons()
    with pytest.raises(ValueError, match="prompts as its rows; got a stack of neurons"):
        neuron(X, "neurons", 0)
