"""Progress: a bar that moves where somebody watches, two lines in a log."""

import io
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from skleiden import MutualKNNLeiden
from skleiden._blocks.runner import Local
from skleiden._progress import is_watched, progress
from skleiden.cli._progress import Stages


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def tell(monkeypatch):
    """Set standard error: in the test, before which pytest sets its own."""

    def set_to(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return set_to


# As of a notebook: neither a terminal nor a file.
OutStream = type(
    "OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream", "isatty": bool}
)


def forget_bars(monkeypatch):
    """tqdm chooses its bar when it is imported."""
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def notebook(monkeypatch):
    """A notebook that has no widgets: its kind of output."""
    # tqdm goes by its name, and before 4.66 by what it is configured for.
    shell = type("ZMQInteractiveShell", (), {"config": {"IPKernelApp": {}}})
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = shell
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("zmqshell"))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr("os.environ", {})
    forget_bars(monkeypatch)
    yield OutStream
    forget_bars(monkeypatch)


class Widget:
    """As much of a widget as tqdm asks for."""

    bar_style = ""

    def __init__(self, children=(), **options):
        self.children, self.seen = children, []
        self.layout = types.SimpleNamespace()
        self.style = types.SimpleNamespace()
        self.__dict__.update(options)

    def __setattr__(self, name, value):
        if name == "value":
            self.seen.append(value)
        super().__setattr__(name, value)

    def close(self):
        self.visible = False


@pytest.fixture
def widgets(notebook, monkeypatch):
    """A notebook with widgets, and what it displays."""
    made = types.ModuleType("ipywidgets")
    made.HTML = made.FloatProgress = made.HBox = Widget
    display = types.ModuleType("IPython.display")
    shown = []
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "ipywidgets", made)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def work(n=40, pause=0.0, **options):
    with progress("Search", n, **options) as update:
        for _ in range(n // 4):
            time.sleep(pause)
            update(4)


def test_a_bar_moves_in_a_terminal(tell):
    terminal = tell(Terminal())
    work(unit="text", n=400, pause=0.01)
    told = terminal.getvalue()
    assert told.count("\r") > 3
    assert told.count("%|") > 3
    assert "400/400" in told
    assert "text/s" in told


def test_a_bar_of_text_moves_in_a_notebook_without_widgets(tell, notebook):
    stream = tell(notebook())
    work()
    told = stream.getvalue()
    assert "\r" in told
    assert "Search: 100%|" in told


def test_a_widget_moves_in_a_notebook(tell, widgets, notebook):
    stream = tell(notebook())
    work()
    (box,) = widgets
    (bar,) = [
        part for part in vars(box)["children"] if getattr(part, "max", None) == 40
    ]
    assert bar.seen[-1] == 40
    assert stream.getvalue() == ""


def test_a_log_has_a_line_at_the_beginning_and_one_at_the_end(tell):
    log = tell(io.StringIO())
    with progress("Search", 40) as update:
        assert log.getvalue() == "Search ...\n"
        for _ in range(40):
            update()
    first, second = log.getvalue().splitlines()
    assert first == "Search ..."
    assert second.startswith("Search: 40/40 in ")
    assert second.endswith(" s")
    assert "\r" not in log.getvalue()


def test_a_pipe_is_a_log():
    program = (
        "from skleiden._progress import progress\n"
        "with progress('Search', 3) as update:\n    update(3)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    assert run.stdout == b""
    assert run.stderr.startswith(b"Search ...")
    assert run.stderr.count(b"\n") == 2
    assert b"%" not in run.stderr


def test_what_stops_is_told_in_a_log(tell):
    log = tell(io.StringIO())

    def interrupted():
        with progress("Search", 40) as update:
            update(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "Search: stopped at 3/40 in " in log.getvalue()


def test_what_was_not_counted_is_done_at_the_end(tell):
    terminal = tell(Terminal())
    with progress("Leiden", 1):
        pass
    assert "1/1" in terminal.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO, OutStream])
def test_nothing_is_shown_unless_asked(stream, tell):
    told = tell(stream())
    work(shown=False)
    Local(0).progress("Search", 3).__enter__()(3)
    assert told.getvalue() == ""


def test_there_may_be_no_standard_error(tell):
    tell(None)
    work()
    assert not is_watched()


def test_commands_and_estimators_agree_on_who_watches(tell):
    tell(io.StringIO())
    stages = Stages(quiet=False, bars=True)
    assert not is_watched()
    assert stages.verbose == 0
    tell(Terminal())
    assert is_watched()
    assert stages.verbose == 1
    assert Stages(quiet=True, bars=True).verbose == 0


def test_a_fit_tells_of_each_stage_in_two_lines(tell):
    log = tell(io.StringIO())
    X = np.random.default_rng(0).standard_normal((60, 8))
    MutualKNNLeiden(5, random_state=0, verbose=1).fit(X)
    lines = log.getvalue().splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        *["Neighbors"] * 2,
        *["Leiden"] * 2,
    ]
    assert [line.endswith("...") for line in lines] == [True, False] * 2
