"""The command `skleiden capture`, from a model's folder and texts to a run."""

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden.capture import capture_activations
from skleiden.cli import main
from skleiden.cli._capture import load_texts
from skleiden.io import load_activations, load_communities
from tests.conftest import WORDS

torch = pytest.importorskip("torch")
pytest.importorskip("zarr")

pytestmark = pytest.mark.slow


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(60)]


def loaded(model_folder):
    transformers = pytest.importorskip("transformers")
    return (
        transformers.AutoModel.from_pretrained(model_folder),
        transformers.AutoTokenizer.from_pretrained(model_folder),
    )


def test_from_a_model_and_texts_to_a_page_in_two_commands(
    model_folder, texts, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert main(["capture", str(model_folder), "texts.txt", "--out", "acts.zarr"]) == 0
    out, err = capsys.readouterr()
    assert "60 texts, 60 rows, 2 layers of 24 neurons (float32)" in out
    assert "Saved: acts.zarr, with the texts in" in out
    assert "Capture ..." in err
    model, tokenizer = loaded(model_folder)
    expected = capture_activations(model, texts, tokenizer)
    stack = load_activations("acts.zarr")
    assert_array_equal(stack.layers[1][:], expected.layers[1])

    # The same command finds all done.
    assert (
        main(["capture", str(model_folder), "texts.txt", "--out", "acts.zarr", "-q"])
        == 0
    )
    assert capsys.readouterr().err == ""

    arguments = [
        "--texts",
        "acts.zarr/texts.json",
        "--out",
        "run",
        "--n-neighbors",
        "5",
    ]
    assert main(["cluster", "acts.zarr", *arguments]) == 0
    found = load_communities("run/communities.json")
    named = dict(zip(found.ids, found.texts, strict=True))
    assert named == {str(row): text for row, text in enumerate(texts)}
    assert (tmp_path / "run" / "report.html").exists()


def test_options_reach_the_capture(model_folder, texts, tmp_path):
    named = {f"q{row}": text for row, text in enumerate(texts)}
    (tmp_path / "texts.json").write_text(json.dumps(named))
    out = tmp_path / "acts.zarr"
    modules = ["encoder.layer.1.output.dense", "**.query"]
    command = [
        "capture",
        str(model_folder),
        str(tmp_path / "texts.json"),
        "--out",
        str(out),
    ]
    command += ["--modules", modules[0], "--modules", modules[1], "--side", "output"]
    command += ["--pool", "tokens", "--batch-tokens", "50", "--max-tokens", "40"]
    assert main([*command, "--dtype", "float16", "-q"]) == 0
    model, tokenizer = loaded(model_folder)
    expected = capture_activations(
        model.half(), named, tokenizer, pool="tokens", side="output", batch_tokens=50,
        modules=modules,
    )  # fmt: skip
    stack = load_activations(out)
    assert stack.names == expected.names
    assert stack.ids.tolist() == expected.ids.tolist()
    assert stack.dtype == np.float16
    assert_array_equal(stack.layers[0][:], expected.layers[0])


def test_weights_that_are_missing_are_said(model_folder, texts, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(model_folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["encoder.layer.1.intermediate.dense.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    out = tmp_path / "acts.zarr"
    with pytest.warns(
        UserWarning, match=r"1 weights of a BertModel .*layer\.1\.interm"
    ):
        assert main(["capture", str(broken), str(tmp_path / "texts.txt"),
                     "--out", str(out), "-q"]) == 0  # fmt: skip


def test_an_interrupted_command_says_how_to_go_on(
    model_folder, texts, tmp_path, monkeypatch, capsys
):
    from skleiden.capture import _passes

    def interrupt(*_):
        raise KeyboardInterrupt

    (tmp_path / "texts.txt").write_text("\n".join(texts))
    command = ["capture", str(model_folder), str(tmp_path / "texts.txt"), "-q",
               "--out", str(tmp_path / "acts.zarr")]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(_passes.Passes, "texts", interrupt)
        assert main(command) == 130
    assert "goes on where this one stopped" in capsys.readouterr().err
    assert main(command) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modules", "**.key"], "side must say which side"),
        (["--modules", "nothing", "--side", "input"], r"encoder.layer.*.output.dense"),
        (["--part", "encoder"], "a BertModel is not one"),
    ],
)
def test_errors_of_the_capture_are_one_line(
    model_folder, texts, tmp_path, capsys, arguments, message
):
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    command = ["capture", str(model_folder), str(tmp_path / "texts.txt"), "-q",
               "--out", str(tmp_path / "acts.zarr"), *arguments]  # fmt: skip
    assert main(command) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "acts.zarr").exists()


def test_a_model_that_is_not_there_is_an_error(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    (tmp_path / "empty").mkdir()
    command = ["capture", str(tmp_path / "empty"), str(tmp_path / "texts.txt"), "-q",
               "--out", str(tmp_path / "acts.zarr")]  # fmt: skip
    assert main(command) == 1
    assert "skleiden: error: " in capsys.readouterr().err


def test_lines_are_texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfone, two\r\na, b\rc\n")
    assert load_texts(path) == ["one, two", "a, b", "c"]
    for content in (b"id,text\r\nq0,a\r\nq1,b\r\n", b"q0\ta\nq1\tb\n"):
        path.write_bytes(content)  # with ids, as `cluster --texts` reads it, too
        assert load_texts(path) == {"q0": "a", "q1": "b"}
    path.write_text("a\n\n \nb\n\n")
    with pytest.warns(UserWarning, match="2 of 4 lines in .* are blank and left out"):
        assert load_texts(path) == ["a", "b"]
    for content in (b"", b"\n\n"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match="must have a text on each line; got no te"
        ):
            load_texts(path)
    for content, cause in (
        (b"\xff\xfea\0", "its text is UTF-16"),
        (b"\xe4", "'utf-8' codec"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"is not a text file: {cause}"):
            load_texts(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_texts(tmp_path / "absent.txt")
    table = tmp_path / "texts.csv"
    table.write_text("id,text\nq,a\n")
    assert load_texts(table) == {"q": "a"}
