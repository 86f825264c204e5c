"""The worked examples run, and print what their docstrings say, but for figures."""

import ast
import re
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"
NEEDS = {
    "example_anndata": ["anndata", "h5py"],
    "example_checkpoints": ["torch", "transformers"],
    "example_sae": [],
    "example_t5": ["torch", "transformers"],
    "example_tokens": ["torch", "transformers", "tokenizers"],
}


def promised(path):
    """The output in a script's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    _, output = re.split(r"\nOutput.*:\n\n", docstring)
    return [line.removeprefix("    ") for line in output.splitlines()]


def without_figures(lines):
    """Lines with one mark for each number, and as many words as there are."""
    return [re.sub(r"\d+(\.\d+)?", "#", line) for line in lines]


def test_every_example_is_run():
    assert sorted(path.stem for path in FOLDER.glob("example_*.py")) == sorted(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_example_prints_what_it_says(name, capsys):
    for package in NEEDS[name]:
        pytest.importorskip(package)
    path = FOLDER / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    runpy.run_path(str(path), run_name="__main__")
    printed, expected = capsys.readouterr().out.splitlines(), promised(path)
    # How many lines tell of splits, and which words of a community, is up to the
    # versions of torch; how a line begins is not.
    starts = [line.split(":")[0] for line in without_figures(printed)]
    said = [line.split(":")[0] for line in without_figures(expected)]
    if name == "example_checkpoints":
        starts, said = starts[:1], said[:1]
    assert starts == said
