"""Captures that go into a folder: resumed where they stopped, or refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skleiden
from skleiden.capture import _store, capture_activations
from skleiden.io import load_activations, load_texts

torch = pytest.importorskip("torch")
zarr = pytest.importorskip("zarr")


def make_model(seed=0, width=16):
    """Two layers of neurons, and a mean over what came before, which needs order."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.fc2 = torch.nn.Linear(8, width), torch.nn.Linear(width, 8)

        def forward(self, hidden):
            return hidden + self.fc2(self.up(hidden).relu())

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(256, 8)
            self.layers = torch.nn.ModuleList([Block(), Block()])

        def forward(self, input_ids, attention_mask):
            hidden = self.embed(input_ids).cumsum(1)
            for layer in self.layers:
                hidden = layer(hidden)
            return hidden

    torch.manual_seed(seed)
    return Model()


def tokenizer(texts, *, max_length, **_):
    return {"input_ids": [list(text.encode())[:max_length] for text in texts]}


TEXTS = [f"text {'of words ' * (number * 7 % 5)}{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Chunks of four rows, blocks of eight."""
    monkeypatch.setattr(_store, "_CHUNK_BYTES", 4 * 16 * 4)
    monkeypatch.setattr(_store, "_BLOCK_BYTES", 8 * 2 * 16 * 4)


def capture(out, model=None, texts=TEXTS, **settings):
    model = make_model() if model is None else model
    return capture_activations(model, texts, tokenizer, out=out, **settings)


def assert_same(stack, expected):
    assert stack.names == expected.names
    assert_array_equal(stack.ids, expected.ids)
    for one, other in zip(stack.layers, expected.layers, strict=True):
        assert one.dtype == other.dtype
        assert_array_equal(one[:], other[:])


class Stop(Exception):
    """Raised where a capture is to stop."""


def stop_after(blocks, monkeypatch):
    """Have a capture end before it writes another block."""
    write = _store.Folder.write

    def limited(self, start, values):
        if self.n_done == blocks:
            raise Stop
        write(self, start, values)

    monkeypatch.setattr(_store.Folder, "write", limited)


@pytest.mark.parametrize("pool", ["mean", "tokens"])
def test_a_folder_holds_what_memory_would(tmp_path, pool):
    settings = {"pool": pool, "batch_tokens": 64}
    expected = capture(None, **settings)
    stack = capture(tmp_path / "a" / "acts.zarr", **settings)
    assert_same(stack, expected)
    assert all(isinstance(layer, zarr.Array) for layer in stack.layers)
    again = load_activations(tmp_path / "a" / "acts.zarr")
    assert_same(again, expected)
    texts = load_texts(tmp_path / "a" / "acts.zarr" / "texts.json")
    assert list(texts) == expected.ids.tolist()
    if pool == "mean":
        assert list(texts.values()) == TEXTS
        assert stack.layers[0].chunks == (4, 16)
    else:
        assert texts["1:3"].startswith("116 101 120 <<116>> 32 111 102")
        assert stack.layers[0].shape[0] == sum(map(len, TEXTS))


@pytest.mark.parametrize("ids", [list(range(40)), [f"ä{i}" for i in range(40)]])
def test_ids_come_back(tmp_path, ids):
    stack = capture(tmp_path / "acts.zarr", ids=ids)
    assert stack.ids.tolist() == ids
    assert list(load_texts(tmp_path / "acts.zarr" / "texts.json")) == list(
        map(str, ids)
    )


def test_texts_that_no_file_can_hold_are_replaced(tmp_path):
    texts = ["a", "b"]
    stack = capture_activations(
        make_model(), [*texts, "lone \ud800"],
        lambda texts, **_: {"input_ids": [[1, 2, 3]] * len(texts)},
        out=tmp_path / "acts.zarr",
    )  # fmt: skip
    assert len(stack) == 3
    assert load_texts(tmp_path / "acts.zarr" / "texts.json")["2"] == "lone \ufffd"


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("pool", ["mean", "tokens"])
def test_a_capture_goes_on_where_it_stopped(tmp_path, monkeypatch, blocks, pool):
    settings = {"pool": pool, "batch_tokens": 64}
    expected = capture(None, **settings)
    out = tmp_path / "acts.zarr"
    with monkeypatch.context() as patch:
        stop_after(blocks, patch)
        with pytest.raises(Stop):
            capture(out, **settings)
    # Nobody takes it for a whole one.
    with pytest.raises(ValueError, match=r"lacks .* of its chunks, .* read as nan"):
        load_activations(out)
    model, passed = make_model(), []
    model.register_forward_hook(lambda _, __, kwargs, ___: passed.append(kwargs),
                                with_kwargs=True)  # fmt: skip
    assert_same(capture(out, model, **settings), expected)
    n_before = len(passed)
    assert_same(capture(out, model, **settings), expected)
    assert len(passed) == n_before + 1  # which finds the widths
    if pool == "mean":  # tokens of a text may be in two blocks
        rows = [len(kwargs["input_ids"]) for kwargs in passed[1:-1]]
        assert sum(rows) == 40 - 8 * blocks


CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import test_store
from skleiden.capture import _store
_store._CHUNK_BYTES, _store._BLOCK_BYTES = 4 * 16 * 4, 8 * 2 * 16 * 4
out, afters = sys.argv[1], [int(after) for after in sys.argv[2].split(",")]
import zarr
setitem, count = zarr.Array.__setitem__, [0]
def killed(self, rows, values):
    count[0] += 1
    setitem(self, rows, values)
    if count[0] == after:
        # Half of a chunk that was being written.
        chunk = sorted(p for p in (self.store.root / self.path).rglob("*")
                       if p.is_file() and p.name != "zarr.json")[-1]
        chunk.write_bytes(chunk.read_bytes()[:20])
        os.kill(os.getpid(), signal.SIGKILL)
zarr.Array.__setitem__ = killed
for after in afters:  # each in a process of its own, which has imported it all
    child = os.fork()
    if not child:
        test_store.capture(f"{out}/{after}.zarr")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KILLED_AFTER = [1, 2, 6]  # so many writes


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of captures that were killed after so many writes."""
    folder = tmp_path_factory.mktemp("killed")
    paths = [str(Path(__file__).parent), str(Path(skleiden.__file__).parents[1])]
    afters = ",".join(map(str, KILLED_AFTER))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), afters, *paths],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    codes = [int(code) for code in child.stdout.split()]
    assert codes == [-signal.SIGKILL] * len(KILLED_AFTER), child.stderr
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("after", KILLED_AFTER)
def test_a_killed_capture_gives_the_same_when_started_again(killed, after):
    out = killed / f"{after}.zarr"
    with pytest.raises(ValueError, match=rf"{after}.zarr"):
        load_activations(out)
    assert_same(capture(out), capture(None))


@pytest.mark.parametrize(
    ("settings", "different"),
    [
        ({"texts": [*TEXTS[:-1], "another"]}, "texts, tokens"),
        ({"ids": [f"q{i}" for i in range(40)]}, "texts"),
        ({"model": 1}, "model"),
        ({"pool": "max"}, "pool"),
        ({"batch_tokens": 99}, "batch_tokens"),
        ({"modules": "layers.*.up", "side": "output"}, "modules, side"),
    ],
)
def test_a_folder_of_another_capture_is_refused(
    tmp_path, monkeypatch, settings, different
):
    out = tmp_path / "acts.zarr"
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Stop):
            capture(out)
    if "model" in settings:
        settings = {"model": make_model(seed=1)}
    before = sorted(out.rglob("*"))
    with pytest.raises(FileExistsError, match=f"another capture, .* in: {different}"):
        capture(out, **settings)
    assert sorted(out.rglob("*")) == before
    assert_same(capture(out), capture(None))


def test_only_folders_of_captures_are_written_into(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match="is not empty, and is not the folder of a capt"
    ):
        capture(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file, but out must be a folder"):
        capture(tmp_path / "mine.txt")
    out = tmp_path / "new"
    out.mkdir()
    assert_same(capture(out), capture(None))
    for broken in ("{}", '{"facts": 1, "n_done": 1}', "[", "[]"):
        (out / "capture.json").write_text(broken)
        with pytest.raises(ValueError, match=r"capture\.json"):
            capture(out)


def test_ids_that_no_folder_holds_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"strings or integers to be saved.*object"):
        capture(tmp_path / "acts.zarr", ids=[(i,) for i in range(40)])
    assert not (tmp_path / "acts.zarr").exists()


def test_zarr_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[zarr\]"'):
        capture(tmp_path / "acts.zarr")


def test_half_precision_is_stored(tmp_path):
    stack = capture(tmp_path / "acts.zarr", make_model().half())
    assert [layer.dtype for layer in stack.layers] == [np.float16] * 2
    assert_same(stack, capture(None, make_model().half()))


def test_a_few_long_texts_are_tokens_of_several_blocks(tmp_path):
    texts = ["long " * 100, "b", "", "longer " * 60]
    with pytest.warns(UserWarning, match="1 of 4 texts have only special tokens"):
        expected = capture(None, texts=texts, pool="tokens", batch_tokens=8)
    with pytest.warns(UserWarning, match="1 of 4 texts have only special tokens"):
        stack = capture(tmp_path / "a", texts=texts, pool="tokens", batch_tokens=8)
    assert_same(stack, expected)
    model = make_model()
    ids = torch.tensor([list(texts[0].encode())])
    hidden = model.layers[0].up(model.embed(ids).cumsum(1)).relu()
    np.testing.assert_allclose(
        stack.layers[0][:500], hidden[0].detach(), rtol=1e-4, atol=1e-4
    )


def changed_model(change):
    model = make_model()
    with torch.no_grad():
        change(model)
    return model


def add_to_a_weight(model):
    model.layers[0].up.weight[5, 3] += 1


def add_to_a_column(model):
    model.layers[0].up.weight[:, 5] += 1


def exchange_neurons(model):
    for parameter in (model.layers[1].up.weight, model.layers[1].up.bias):
        parameter.copy_(parameter[[1, 0, *range(2, len(parameter))]])


def change_statistics(model):
    model.layers[0].register_buffer("running_mean", torch.ones(3))


@pytest.mark.parametrize(
    "change",
    [add_to_a_weight, add_to_a_column, exchange_neurons, change_statistics],
)
def test_any_change_of_a_model_is_noticed(tmp_path, monkeypatch, change):
    out = tmp_path / "acts.zarr"
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Stop):
            capture(out)
    with pytest.raises(
        FileExistsError, match="another capture, which differs in: model"
    ):
        capture(out, changed_model(change))
    assert_same(capture(out), capture(None))


@pytest.mark.parametrize("removed", ["layer_1", "ids", "texts.json"])
@pytest.mark.parametrize("blocks", [2, 5])
def test_what_was_removed_from_a_capture_is_noticed(
    tmp_path, monkeypatch, removed, blocks
):
    out = tmp_path / "acts.zarr"
    with monkeypatch.context() as patch:
        stop_after(blocks, patch)
        if blocks < 5:
            with pytest.raises(Stop):
                capture(out)
        else:
            capture(out)
    if removed == "texts.json":
        (out / removed).write_text('{"0": "of another capture"}')
        assert_same(capture(out), capture(None))
        assert list(load_texts(out / removed).values()) == TEXTS
        return
    shutil.rmtree(out / removed)
    with pytest.raises(ValueError, match="layers or ids are missing, or were changed"):
        capture(out)


def test_ids_that_were_changed_are_noticed(tmp_path):
    capture(tmp_path / "acts.zarr")
    ids = zarr.open_array(str(tmp_path / "acts.zarr"), path="ids", mode="r+")
    ids[:2] = np.array(["1", "0"])
    with pytest.raises(ValueError, match="layers or ids are missing, or were changed"):
        capture(tmp_path / "acts.zarr")


def test_a_state_that_cannot_be_is_refused(tmp_path):
    capture(tmp_path / "acts.zarr")
    state = tmp_path / "acts.zarr" / _store.STATE
    for n_done in (-1, 2.5):
        state.write_text(json.dumps(json.loads(state.read_text()) | {"n_done": n_done}))
        with pytest.raises(
            ValueError, match=r"capture\.json' does not describe a capt"
        ):
            capture(tmp_path / "acts.zarr")


def test_a_part_of_a_capture_is_not_read(tmp_path, monkeypatch):
    stop_after(2, monkeypatch)
    with pytest.raises(Stop):
        capture(tmp_path / "acts.zarr")
    with pytest.raises(ValueError, match="a capture that stopped goes on if it"):
        load_activations(tmp_path / "acts.zarr")
