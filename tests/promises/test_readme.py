"""The README's Python blocks and commands run, and print what it says."""

import contextlib
import html
import io
import re
import shutil
from pathlib import Path

import pytest

from skleiden.cli import main
from skleiden.datasets import load_prompt_activations

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    """The Python blocks, each with the text block that follows it at once, or None."""
    text = README.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    pairs = []
    for i, block in enumerate(found):
        if block[1] != "python":
            continue
        after = found[i + 1] if i + 1 < len(found) else None
        printed = (
            after is not None
            and after[1] == "text"
            and not text[block.end() : after.start()].strip()
        )
        pairs.append((block[2], after[2] if printed else None))
    return pairs


def test_every_block_has_a_known_language():
    languages = {block[1] for block in BLOCK.finditer(README.read_text("utf-8"))}
    assert languages <= {"python", "text", "bash"}
    assert len(blocks()) >= 2


def test_the_page_comes_first_and_all_of_it_is_short():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 160
    assert 0 < text.index("![") < text.index("```") < text.index("\n| ")


def test_python_blocks(tmp_path, monkeypatch, model_folder):
    monkeypatch.chdir(tmp_path)
    # What a reader has: a model, and texts.
    shutil.copytree(model_folder, tmp_path / "model")
    namespace = {"texts": load_prompt_activations().prompts[:200].tolist()}
    for number, (code, expected) in enumerate(blocks()):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, f"README.md, block {number}", "exec"), namespace)
        if expected is not None:
            assert output.getvalue() == expected, f"block {number}"


def test_shell_commands(tmp_path, monkeypatch, model_folder):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    # What a reader has: a model, texts, and activations of them in a file.
    shutil.copytree(model_folder, tmp_path / "model")
    sample = load_prompt_activations()
    texts = sample.prompts[:200].tolist()
    Path("texts.txt").write_text("\n".join(texts), "utf-8")
    layers = zip(sample.data.names, sample.data.layers, strict=True)
    torch.save({name: torch.tensor(X[:200].toarray()) for name, X in layers}, "acts.pt")
    commands = [
        line.split("#")[0].split()
        for block in BLOCK.finditer(README.read_text("utf-8"))
        for line in block[2].splitlines()
        if line.startswith("skleiden ")
    ]
    for _, *arguments in commands:
        assert main(arguments) == 0, arguments
    assert [command[1] for command in commands] == ["cluster", "capture", "cluster"]
    for folder in ("run", "run2"):
        page = Path(folder, "report.html").read_text("utf-8")
        assert all(text in html.unescape(page) for text in texts[:5]), folder


def test_there_are_two_commands():
    commands = [
        line
        for block in BLOCK.finditer(README.read_text("utf-8"))
        if block[1] == "bash"
        for line in block[2].splitlines()
    ]
    assert len(commands) == 2
    for command, end in zip(commands, ("skleiden demo", "-m tests"), strict=True):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert command.endswith(end)


@pytest.mark.parametrize("path", ["benchmarks/README.md", "CONTRIBUTING.md", "LICENSE"])
def test_linked_files_exist(path):
    assert f"]({path})" in README.read_text("utf-8")
    assert (README.parent / path).is_file()
