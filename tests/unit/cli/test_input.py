"""The files that commands read, and how options speak of what they hold."""

import argparse
import json

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden.cli import _input, main

X = np.random.default_rng(0).random((6, 3, 4)).astype("f4")


def options_of(*arguments):
    parser = argparse.ArgumentParser()
    _input.add_input(parser)
    parser.add_argument("--texts")
    return parser.parse_args([str(argument) for argument in arguments])


def load(*arguments):
    return _input.load(options_of(*arguments))


def test_axis_and_pool(tmp_path):
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(
        ValueError, match=r"pass --axis 1 \(or --axis 0\).* --pool \"mea"
    ):
        load(tmp_path / "a.npy")
    assert load(tmp_path / "a.npy", "--axis", 1).names == (
        "layer_0",
        "layer_1",
        "layer_2",
    )
    (high,) = load(tmp_path / "a.npy", "--pool", "max").layers
    assert_array_equal(high, X.max(axis=1))


def test_a_key_is_an_option(tmp_path):
    (tmp_path / "a.json").write_text('{"q0": {"pre": [1.0], "out": [2.0]}}')
    with pytest.raises(ValueError, match=r"has no 'post'.* Choose .* with --key\.$"):
        load(tmp_path / "a.json")
    assert load(tmp_path / "a.json", "--key", "pre").ids.tolist() == ["q0"]


def test_warnings_speak_of_options(tmp_path):
    import torch

    torch.save([torch.as_tensor(X[:, 0]), torch.as_tensor(X[:, 1])], tmp_path / "a.pt")
    with pytest.warns(UserWarning, match="Pass --axis 0 to say so"):
        load(tmp_path / "a.pt")


def test_named_files(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"l_9_{number}.npy", X[:, number])
    files = [tmp_path / f"l_9_{number}.npy" for number in range(3)]
    with pytest.raises(
        ValueError, match=r"are, pass LAYER=PART LAYER=PART; .*=FILE\.$"
    ):
        load(*files)
    joined = load(*(f"l9={file}" for file in files))
    assert_array_equal(joined.layers[0], np.concatenate([X[:, i] for i in range(3)]))
    apart = options_of(*(f"l{i}={file}" for i, file in enumerate(files)))
    assert _input.load(apart).names == ("l0", "l1", "l2")
    assert list(_input.input_paths(apart)) == files
    with pytest.raises(ValueError, match="Either all files or none must be named"):
        load("a=b.npy", "c.npy")
    np.save(tmp_path / "a=b.npy", X[:, 0])
    assert load(tmp_path / "a=b.npy").names == ("a=b",)


def test_texts_in_the_order_of_rows(tmp_path):
    np.save(tmp_path / "a.npy", X[:, 0])
    texts = tmp_path / "texts.json"
    options = options_of(tmp_path / "a.npy", "--texts", texts)
    stack = _input.load(options)
    texts.write_text(json.dumps([f"text {i}" for i in range(6)]))
    assert _input.load_texts(options, stack) == [f"text {i}" for i in range(6)]
    texts.write_text('["a", "b"]')
    with pytest.raises(
        ValueError, match=r"texts\.json' must have a text .* 2 texts for"
    ):
        _input.load_texts(options, stack)
    texts.write_text('{"q0": "a"}')
    with pytest.raises(
        ValueError, match="Name the rows with --ids, or give the texts in"
    ):
        _input.load_texts(options, stack)


@pytest.mark.slow
def test_texts_of_rows_without_ids_are_saved(tmp_path, stack):
    paths = []
    for name, layer in zip(stack.names, stack.layers, strict=True):
        paths.append(str(tmp_path / f"{name}.npy"))
        np.save(paths[-1], layer.toarray())
    texts = [f"text {i}\n" for i in range(len(stack))]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(t)}\n" for t in texts))
    out = tmp_path / "out"
    given = ["--texts", str(tmp_path / "texts.jsonl"), "--out", str(out), "-q"]
    assert main(["cluster", *paths, *given]) == 0
    saved = json.loads((out / "communities.json").read_text(encoding="utf-8"))
    assert "text 7\n" in {t for found in saved["communities"] for t in found["texts"]}


def test_splits_and_files_of_prompts_are_asked_about(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("test", "train"):
            file[f"{name}/layer_0"] = np.eye(3)
    with pytest.raises(ValueError, match=r"pass --layers; .* pass --axis 0\."):
        load(tmp_path / "a.h5")
    chosen = load(tmp_path / "a.h5", "--layers", "train/layer_0")
    assert chosen.names == ("train/layer_0",)
    for i in range(3):
        (tmp_path / f"q{i}.json").write_text(f'{{"layer_0": [1, {i}], "layer_1": [2]}}')
    files = [tmp_path / f"q{i}.json" for i in range(3)]
    with pytest.raises(ValueError, match=r"is a prompt, pass --axis 1; .* --axis 0\."):
        load(*files)
    assert load(*files, "--axis", 1).ids.tolist() == ["q0", "q1", "q2"]
