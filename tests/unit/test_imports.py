"""What importing the package costs, and what it leaves unimported."""

import ast
import subprocess
import sys
import tokenize
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import skleiden

LAZY = [
    "faiss",
    "igraph",
    "leidenalg",
    "cluster_libreville",
    "matplotlib",
    "torch",
    "transformers",
    "safetensors",
    "zarr",
    "h5py",
    "jinja2",
    "markupsafe",
    "anndata",
]
MODULES = [
    "capture",
    "cli",
    "datasets",
    "inspection",
    "io",
    "model_selection",
    "plotting",
    "report",
]


def imported(code):
    """Modules that are there after running some code in a new process."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def scikit_learns():
    """What scikit-learn imports itself, pandas in some of its versions."""
    return imported("import sklearn.pipeline, sklearn.metrics, sklearn.model_selection")


def test_backends_and_extras_are_imported_when_needed(scikit_learns):
    everything = "; ".join(f"import skleiden.{name}" for name in MODULES)
    found = imported(f"from skleiden import *; {everything}") - scikit_learns
    assert found.isdisjoint([*LAZY, "pandas", "pyarrow"])
    assert {f"skleiden.{name}" for name in MODULES} <= found


@pytest.mark.slow
def test_fit_imports_no_extras():
    found = imported(
        "import numpy as np; from skleiden import MutualKNNLeiden; "
        "MutualKNNLeiden(5).fit(np.random.RandomState(0).standard_normal((50, 4)))"
    )
    assert {"faiss", "igraph"} <= found
    # (igraph itself imports matplotlib, where that is installed.)
    assert found.isdisjoint({"leidenalg", "torch", "safetensors", "jinja2"})


def test_types_are_there_for_those_who_import():
    marker = Path(skleiden.__file__).with_name("py.typed")
    assert marker.is_file()


def test_the_package_alone_imports_nothing():
    found = imported("import skleiden")
    assert found.isdisjoint(["numpy", "scipy", "sklearn", *LAZY])


PACKAGE = Path(skleiden.__file__).parent
# Kinds of storage, the libraries of them, and questions about either.
STORAGE = {
    "dask", "distributed", "zarr", "h5py", "torch", "memmap", "mmap", "open_memmap",
    "is_lazy", "is_on_workers", "on_workers", "is_zarr", "OnWorkers", "issparse",
}  # fmt: skip


def names_in(path):
    """The names in a file's code, without its strings and comments."""
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_storage_and_place_are_asked_for_in_one_room():
    """`_blocks` says what a matrix is stored as and where it is, to all but `io`.

    `capture` asks torch for activations and writes them to Zarr.

    Kernels tell the two forms of numbers apart that blocks of rows have, ndarray and
    CSR; `knn` writes vectors that are mapped to a map again, and `cuda` computes with
    torch on numbers that it is given as arrays.
    """
    asking = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in PACKAGE.rglob("*.py")
        if (found := names_in(path) & STORAGE)
    }
    elsewhere = {
        path: found
        for path, found in asking.items()
        if path.split("/")[0] not in ("_blocks", "io", "capture")
    }
    assert elsewhere == {
        "_kernels/countsketch.py": {"issparse"},
        "_kernels/cuda.py": {"torch"},
        "_kernels/knn.py": {"issparse", "mmap"},
        "_kernels/sample.py": {"issparse"},
        "_kernels/shuffle.py": {"issparse"},
    }
    assert len(asking) > len(elsewhere)


def module_of(path):
    """Name a module within the package, such as "io._files"; a package is "io"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


@cache
def imported_by(module):
    """Modules of the package that one needs, in its functions too, but not for types.

    Names that a package hands on count as of the module that they are from.
    """
    found = set()
    nodes = [ast.parse(FILES[module].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            is_package = FILES[module].name == "__init__.py"
            above = module.split(".")[: None if is_package else -1]
            above = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            base = base.removeprefix("skleiden").removeprefix(".")
            if node.level or (node.module or "").split(".")[0] == "skleiden":
                found |= {home_of(base, name.name) for name in node.names}
    return found - {module}


def home_of(package, name):
    """The module that a name is from, which may be a module itself."""
    inside = f"{package}.{name}".removeprefix(".")
    if inside in FILES:
        return inside
    value = getattr(import_module(f"skleiden.{package}".rstrip(".")), name)
    home = getattr(value, "__module__", "").removeprefix("skleiden").removeprefix(".")
    return home if home in FILES else package


def test_imports_go_one_way():
    """No module needs one that needs it, be it that a function imports it.

    But results have a `plot`, which draws them by a display that can make them.
    """
    needed = {module: imported_by(module) for module in FILES}
    assert needed["io._partitions"] > {"inspection._communities", "io._communities"}
    assert needed["report"] == {"report._comparison", "report._page"}
    without_plots = {
        module: {one for one in found if "_plot" not in one or "_plot" in module}
        for module, found in needed.items()
    }
    TopologicalSorter(without_plots).prepare()  # raises a CycleError


def test_rooms_are_above_one_another():
    """Of two folders one needs the other; but `compare` opens the files of two runs."""

    def room(module):
        return module.split(".")[0]

    needed, opening = {}, []
    for module in FILES:
        for one in imported_by(module):
            if (room(module), room(one)) == ("inspection", "io"):
                opening.append((module, one))
            elif room(module) != room(one):
                needed.setdefault(room(module), set()).add(room(one))
    assert opening == [("inspection._compare", "io._partitions")]
    assert "inspection" in needed["io"]
    TopologicalSorter(needed).prepare()
