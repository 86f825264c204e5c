"""The API reference builds by the README's command, without a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

import skleiden

pytest.importorskip("pdoc")
pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"


def test_the_reference_builds_without_a_warning(tmp_path):
    command = "pdoc skleiden -d numpy -o reference"
    assert f"`{command}`" in README.read_text("utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    pages = {page.stem for page in (tmp_path / "reference").rglob("*.html")}
    parts = {
        n for n in skleiden.__all__ if type(getattr(skleiden, n)).__name__ == "module"
    }
    assert pages == {"index", "skleiden", *parts}
