"""Mutants of the kernels: how many of their small faults the tests catch.

python -m tests.mutants [--seconds 600] [--seed 0] [--file ivf.py]   a sample of them
python -m tests.mutants ivf.py#812                                   this one again
"""

import argparse
import ast
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired, call

from scipy.stats import binomtest

# The tests that tell most about each kernel, the quickest first.
TESTS = {
    "countsketch.py": ("sketcher", "properties", "determinism"),
    "graph.py": ("clusterer", "properties", "determinism"),
    "ivf.py": ("neighbors", "ties", "determinism"),
    "knn.py": ("ties", "clusterer", "neighbors", "determinism"),
    "labels.py": ("clusterer", "properties", "determinism"),
    "graph_layout.py": ("inspection_graph",),
    "leiden.py": ("leiden", "clusterer", "determinism"),
    "partitions.py": ("partitions", "model_selection"),
    "sample.py": ("sample", "layer_weights"),
    "shuffle.py": ("partitions", "model_selection"),
}
PAIRS = """Add Sub, Mult Div, FloorDiv Mult, Mod FloorDiv, Pow Mult, LShift RShift,
BitAnd BitOr, And Or, Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn"""
KINDS = [[getattr(ast, kind) for kind in pair.split()] for pair in PAIRS.split(",")]
SWAPS = {b: a for a, b in KINDS} | dict(KINDS)


def nodes(tree):
    """All nodes but those of annotations, which nothing computes with."""
    fields = [vars(node) for node in ast.walk(tree)]
    types = [f.get(name) for f in fields for name in ("annotation", "returns")]
    skipped = {id(node) for kind in types if kind for node in ast.walk(kind)}
    return [node for node in ast.walk(tree) if id(node) not in skipped]


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
            node.value = not value if isinstance(value, bool) else value + 1
        case _:
            return False
    return True


def passes(folder, names, limit=None):
    """Whether tests pass; what takes more seconds than the limit does not."""
    # In a process of its own: a fork after FAISS has run hangs. What a fault makes of
    # it, and of its workers, is limited to 16 GB and 1000 s each.
    command = ["sh", "-c", 'ulimit -v 16000000; ulimit -t 1000; exec "$@"', "sh"]
    command += [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    tests = Path(folder, "tests")
    command += [str(next(tests.rglob(f"test_{name}.py"))) for name in names]
    # Python knows a changed file by its size and second alone: it must remember none.
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with suppress(TimeoutExpired):
        return not call(command, cwd=folder, env=env, stdout=DEVNULL, timeout=limit)
    return False


def share(caught):
    """The share of what was caught, with its 95% interval (Wilson, 1927)."""
    n, k = len(caught), sum(caught)
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return f"{k} of {n} caught, {k / n:.1%} (95%: {low:.1%} to {high:.1%})"


def run(given, folder):
    """Copy the package with its tests, and try mutants until the time is up."""
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    root = Path(__file__).parents[1]
    shutil.copytree(root, folder, ignore=ignored, dirs_exist_ok=True)
    kernels, start = folder / "skleiden" / "_kernels", time.monotonic()
    sources = {name: (kernels / name).read_text("utf-8") for name in TESTS}
    chosen = given.sites or [
        f"{name}#{number}"
        for name in ([given.file] if given.file else TESTS)
        for number, node in enumerate(nodes(ast.parse(sources[name])))
        if mutate(node)
    ]
    random.Random(given.seed).shuffle(chosen)
    needed = dict.fromkeys(test for s in chosen for test in TESTS[s.split("#")[0]])
    if not passes(folder, needed):
        sys.exit(f"Without any change, some of these tests fail: {', '.join(needed)}")
    longest, found = 60 + time.monotonic() - start, []
    with suppress(KeyboardInterrupt):
        while chosen and (given.sites or time.monotonic() - start < given.seconds):
            name, number = (site := chosen.pop()).split("#")
            tree = ast.parse(sources[name])
            node = nodes(tree)[int(number)]
            before = ast.unparse(node)
            mutate(node)
            (kernels / name).write_text(ast.unparse(tree), "utf-8")
            caught = not passes(folder, TESTS[name], longest)
            (kernels / name).write_text(sources[name], "utf-8")
            found.append((name, caught))
            place = f"{name}:{node.lineno}:{node.col_offset + 1}"
            after, verdict = ast.unparse(node), "caught" if caught else "SURVIVED"
            print(f"{place} {before} -> {after}: {verdict} ({site})", flush=True)
    for kernel in (*TESTS, "all"):
        if some := [caught for name, caught in found if kernel in (name, "all")]:
            print(f"{kernel}: {share(some)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("sites", nargs="*", metavar="FILE#NUMBER")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", choices=TESTS)
    with tempfile.TemporaryDirectory() as name:
        run(parser.parse_args(), Path(name))
