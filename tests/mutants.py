"""Mutants of the kernels and stages: how many of their faults the tests catch.

python -m tests.mutants [--seconds 600] [--seed 0] [--file ivf.py]   a sample of them
python -m tests.mutants ivf.py#812                                   this one again

First the tests run as they are, and it is noted which of them run which functions, and
how long they take. `--notes FILE` keeps this for the next call. A mutant then meets the
tests that run its function, the quickest first, as many as take `--most` seconds, and
then those of `STRONG`, however long they take. `--file` may be given several times.

Two kinds of constants are not changed, since no answer tells their values. They are
named below, by module, and must be assigned at its top level, to nothing else:

- `SIZES` of blocks, of room and of what is tried first. They count for time and memory
  alone: with very different values the answers are the same, as
  `tests/unit/kernels/test_sizes.py` tries, each by itself (those of stages have their
  tests beside theirs).
- `EFFORT`: how much is tried until something is reached. What is promised, as a recall,
  holds with any (`tests/unit/kernels/test_plan.py`).

All else is changed, what cannot change any answer included.
"""

import argparse
import ast
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from scipy.stats import binomtest

# The quick tests of kernels and stages.
TESTS = """unit/kernels, unit/test_hubs.py, unit/test_ties.py, unit/test_neighbors.py,
unit/test_clusterer.py, unit/test_n_clusters.py, unit/test_layer_weights.py,
unit/test_sketcher.py, unit/test_neurons.py, unit/inspection/test_inspection_graph.py,
unit/test_mapped.py, unit/test_short_lists.py, unit/test_graphs_by_rows.py,
unit/test_backends.py, unit/test_strength.py, unit/stages,
unit/inspection/test_tree.py, unit/test_tree_lines.py, unit/test_small_communities.py,
promises/test_properties.py"""
# Slower ones, which compare everything that is found.
STRONG = """promises/test_determinism.py::test_same_as_recorded,
promises/test_order_of_rows.py::test_twenty_orders"""
SIZES = {
    "affinity.py": "_ROWS_AT_ONCE",
    "cuda.py": "_SPARE _GROUP _MOST _LEAST _ROWS_RANKED _ROWS_AGAIN",
    "distinct.py": "_ROWS_MEASURED _ROWS_OF_TASK",
    "graph.py": "_EDGES_AT_ONCE",
    "hubs.py": "_ROWS_AT_ONCE _COUNTS",
    "ivf.py": """_ROWS_AT_ONCE _SPREAD _QUERIES_TOGETHER
    _STRIPE_ROWS _ROWS_PROBED _PAIRS_SCANNED _ROWS_SCANNED _PAIRS_AT_ONCE _ROWS_RANKED
    _LISTS_AT_ONCE _LISTS_AVERAGED _WAITING _TASKS""",
    "knn.py": """_SPARE _ROWS_AT_ONCE _ROWS_CONVERTED _ROWS_HASHED _PAIRS_AT_ONCE
    _QUERIES_AT_ONCE _ROWS_ALIKE""",
    "leiden.py": "_ROWS_AT_ONCE _ROWS_JOINED",
    "plan.py": "_ROWS_AT_ONCE",
    "pool.py": "_SECONDS",
    "shuffle.py": "_COLUMNS",
    "sketch.py": "_COPIED",
}
EFFORT = {
    "ivf.py": """_COMPONENTS _AXES_ROWS _LISTS _TRAINING_ROWS _ITERATIONS _PLACE
    _SAMPLE_SIZE _N_SAMPLES _MARGIN _NEAR_ROWS _NEAR_SHARE _SPARE""",
    "knn.py": "_MAX_EF _SAMPLE_SIZE",
    "leiden.py": "_MAX_ITERATIONS _TRIES",
}
# What takes long to import, and need not be imported for each mutant.
IMPORTS = """sklearn.ensemble, sklearn.model_selection, scipy.stats, faiss, igraph,
leidenalg, hypothesis, pandas, dask.array, joblib, matplotlib.pyplot"""
PAIRS = """Add Sub, Mult Div, FloorDiv Mult, Mod FloorDiv, Pow Mult, LShift RShift,
BitAnd BitOr, And Or, Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn"""
KINDS = [[getattr(ast, kind) for kind in pair.split()] for pair in PAIRS.split(",")]
SWAPS = {b: a for a, b in KINDS} | dict(KINDS)


def nodes(tree, outer="", inside=False):
    """All nodes but annotations, which nothing computes with, and their functions.

    A function is named as by Python; the place of what is in none is "".
    """
    fields = [value for name, value in ast.iter_fields(tree) if "annot" not in name]
    for value in fields:
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or node is getattr(tree, "returns", 0):
                continue
            function = isinstance(node, ast.FunctionDef)
            named = not inside and (function or isinstance(node, ast.ClassDef))
            name = f"{outer}.{node.name}".lstrip(".") if named else outer
            yield node, name if inside or function else ""
            yield from nodes(node, name, inside or function)


def mutate(node):
    """Change a node in place; False if it is none of those that are changed."""
    match node:
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in SWAPS:
            node.op = SWAPS[type(node.op)]()
        case ast.Compare() if type(node.ops[0]) in SWAPS:
            node.ops[0] = SWAPS[type(node.ops[0])]()
        case ast.UnaryOp():  # twice is not at all
            node.operand = ast.UnaryOp(node.op, node.operand)
        case ast.Constant(value=bool() | int() | float() as value):
            changed = not value if isinstance(value, bool) else value + 1
            if changed == value:  # a number so large
                return False
            node.value = changed
        case _:
            return False
    return True


def sites(name, text):
    """Places of a module that are changed, by their numbers among its nodes."""
    tree = ast.parse(text)
    listed = {*SIZES.get(name, "").split(), *EFFORT.get(name, "").split()}
    left = {
        id(node)
        for one in tree.body
        if isinstance(one, ast.Assign)
        and {n.id for to in one.targets for n in ast.walk(to) if hasattr(n, "id")}
        <= listed
        for node in ast.walk(one)
    }
    # zip(strict=True) guards against different lengths, which there never are.
    left |= {
        id(one.value)
        for one in ast.walk(tree)
        if isinstance(one, ast.keyword) and one.arg == "strict"
    }
    numbered = enumerate(list(nodes(tree)))
    return [
        f"{name}#{number}"
        for number, (node, _) in numbered
        if id(node) not in left and mutate(node)
    ]


def noting(name, text):
    """A module's text, of which each function notes that it runs."""
    tree = ast.parse(text)
    for node, function in list(nodes(tree)):
        if isinstance(node, ast.FunctionDef):
            note = "__import__('skleiden').__dict__.setdefault('_ran', set()).add"
            call = ast.parse(f"{note}({f'{name} {function}'!r})").body
            node.body[bool(ast.get_docstring(node)) : 0] = call
    return ast.unparse(tree)


def is_strong(test):
    """Whether a mutant meets a test however long it takes."""
    return any(name.strip() in test for name in STRONG.split(","))


class Notes:
    """A plugin of pytest, which notes the seconds and functions of each test."""

    def __init__(self, file):
        self.file, self.tests = file, {}

    def pytest_collection_modifyitems(self, items):
        slow = {"slow", "cluster"}
        items[:] = [
            item
            for item in items
            if is_strong(item.nodeid)
            or not slow & {mark.name for mark in item.iter_markers()}
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        ran = vars(import_module("skleiden")).setdefault("_ran", set())
        ran.clear()
        start = time.process_time()
        result = yield
        self.tests[item.nodeid] = time.process_time() - start, sorted(ran)
        return result

    def pytest_sessionfinish(self):
        self.file.write_text(json.dumps(self.tests))


class Chosen:
    """A plugin of pytest, which runs these tests in this order."""

    def __init__(self, names):
        self.ranks = {name: rank for rank, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items):
        chosen = [item for item in items if item.nodeid in self.ranks]
        items[:] = sorted(chosen, key=lambda item: self.ranks[item.nodeid])


def passes(folder, files, plugin, limit=None):
    """Whether tests pass; what takes more seconds than the limit does not.

    They run in a fork of this process, which has imported what they need but run
    nothing of it: a fork after FAISS has run hangs.
    """
    if not (child := os.fork()):
        try:
            code = 1
            code = _run(folder, files, plugin)
        finally:
            sys.stdout.flush()
            os._exit(code)
    end, state = time.monotonic() + (limit or 7200), (0, 0)
    while not state[0] and time.monotonic() < end:
        time.sleep(0.02)
        state = os.waitpid(child, os.WNOHANG)
    with suppress(ProcessLookupError):  # and what it has started
        os.killpg(child, signal.SIGKILL)
    if not state[0]:
        os.waitpid(child, 0)
    return state == (child, 0)  # of one that still runs it is (0, 0)


def _run(folder, files, plugin):
    import resource  # which Windows lacks

    os.setsid()
    # What a fault makes of it, and of its workers, is limited to 16 GB and 1000 s each.
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
    os.dup2(os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[0] = str(folder)
    sys.modules.pop("tests")  # those of the copy are meant
    options = ["-xq", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Hypothesis is a plugin, too, and was imported before pytest could rewrite it.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return pytest.main([*options, *files], [plugin])


def write(path, text):
    """Write a module, of which Python may remember nothing: it compares seconds."""
    path.write_text(text, "utf-8")
    Path(cache_from_source(path)).unlink(missing_ok=True)


def tests_of(tests, name, function, most):
    """The tests that run a function, else any of its module, the quickest first.

    Those that take too long are left out, but the strong ones, which come last.
    """
    of_module = {
        test: (seconds, {place.split()[1] for place in ran if place.startswith(name)})
        for test, (seconds, ran) in tests.items()
    }
    sure = [(s, test) for test, (s, ran) in of_module.items() if function in ran]
    found = sorted(sure or [(s, test) for test, (s, ran) in of_module.items() if ran])
    quick = [one for one in found if not is_strong(one[1])]
    past = itertools.accumulate(seconds for seconds, _ in quick)
    return [
        *(one for one, t in zip(quick, past, strict=True) if t <= most),
        *(one for one in found if is_strong(one[1])),
    ]


def share(caught):
    """The share of what was caught, with its 95% interval (Wilson, 1927)."""
    n, k = len(caught), sum(caught)
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return f"{k} of {n} caught, {k / n:.1%} (95%: {low:.1%} to {high:.1%})"


def note(folder, file, sources):
    """What tests run which functions, from the file, or found now."""
    if not file.exists():
        for path, text in sources.items():
            write(path, noting(path.name, text))
        files = [f"tests/{name.strip()}" for name in f"{TESTS}, {STRONG}".split(",")]
        if not passes(folder, files, Notes(file.resolve())):
            print((folder / "output").read_text())
            sys.exit("Without any change, some tests fail.")
        for path, text in sources.items():
            write(path, text)
    return json.loads(file.read_text())


def run(given, folder):
    """Copy the package with its tests, and try mutants until the time is up."""
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    root = Path(__file__).parents[1]
    shutil.copytree(root, folder, ignore=ignored, dirs_exist_ok=True)
    paths = {path.name: path for path in folder.glob("skleiden/_[ks]*/[a-z]*.py")}
    sources = {name: path.read_text("utf-8") for name, path in sorted(paths.items())}
    for name in IMPORTS.split(","):
        with suppress(ImportError):
            import_module(name.strip())
    texts = {paths[name]: text for name, text in sources.items()}
    tests = note(folder, given.notes or folder / "notes.json", texts)
    names = given.file or sources
    chosen = given.sites or [
        one for name in names for one in sites(name, sources[name])
    ]
    random.Random(given.seed).shuffle(chosen)
    start, found = time.monotonic(), []
    with suppress(KeyboardInterrupt):
        while chosen and (given.sites or time.monotonic() - start < given.seconds):
            name, number = (site := chosen.pop()).split("#")
            tree = ast.parse(sources[name])
            node, function = list(nodes(tree))[int(number)]
            before = ast.unparse(node)
            mutate(node)
            timed = tests_of(tests, name, function, given.most)
            files = dict.fromkeys(test.split("::")[0] for _, test in timed)
            limit = 60 + 5 * sum(seconds for seconds, _ in timed)
            write(paths[name], ast.unparse(tree))
            plugin = Chosen([test for _, test in timed])
            caught = bool(timed) and not passes(folder, files, plugin, limit)
            write(paths[name], sources[name])
            found.append((name, caught))
            place = f"{name}:{node.lineno}:{node.col_offset + 1}"
            verdict = "caught" if caught else f"SURVIVED {len(timed)} tests"
            print(f"{place} {before} -> {ast.unparse(node)}: {verdict} ({site})")
    for module in (*sources, "all"):
        if some := [caught for name, caught in found if module in (name, "all")]:
            print(f"{module}: {share(some)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("sites", nargs="*", metavar="FILE#NUMBER")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", action="append", metavar="FILE")
    parser.add_argument("--most", type=float, default=60)
    parser.add_argument("--notes", type=Path, metavar="FILE")
    sys.stdout.reconfigure(line_buffering=True)
    with tempfile.TemporaryDirectory() as name:
        run(parser.parse_args(), Path(name))
