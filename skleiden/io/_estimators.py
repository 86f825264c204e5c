"""Fitted estimators in a file that runs nothing when it is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from skleiden import __version__
from skleiden._kernels.countsketch import ColumnStatistics
from skleiden._kernels.knn import UniqueRows
from skleiden.clusterer import MutualKNNLeiden
from skleiden.model_selection import StableLeiden
from skleiden.neighbors import FaissKNeighborsTransformer
from skleiden.sketcher import MultiLayerTfidfSketcher, Settings

from ._files import writing

FORMAT = "skleiden-estimator"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1

# What a file may hold, and nothing else.
_ESTIMATORS: dict[str, type[BaseEstimator]] = {
    kind.__name__: kind
    for kind in (
        FaissKNeighborsTransformer,
        MultiLayerTfidfSketcher,
        MutualKNNLeiden,
        Pipeline,
        StableLeiden,
    )
}
_RECORDS: dict[str, Any] = {
    "ColumnStatistics": ColumnStatistics,
    "Settings": Settings,
    "UniqueRows": UniqueRows,
}


def save_estimator(path: str | os.PathLike[str], estimator: BaseEstimator) -> None:
    """Save an estimator, fitted or not, without pickle.

    Parameters
    ----------
    path : path-like
        The file, an ``.npz`` archive, written whole or not at all.

    estimator : estimator
        A `MultiLayerTfidfSketcher`, `FaissKNeighborsTransformer`, `MutualKNNLeiden` or
        `StableLeiden`, or a pipeline of these.

    Raises
    ------
    TypeError
        If the estimator is another one, or has a parameter that the file has no form
        for, such as a ``memory`` that is no path; the message names it.

    OSError
        If the file cannot be written, as in `save_communities`.

    See Also
    --------
    load_estimator : Load it again.

    Notes
    -----
    Files are read by all later versions of skleiden. pickle and joblib work, too, but
    run whatever a file says, and promise nothing from one version to the next.

    A fitted `MutualKNNLeiden` holds the rows it was fitted on, which ``predict`` needs;
    so does its file.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from skleiden import MutualKNNLeiden
    >>> from skleiden.io import load_estimator, save_estimator
    >>> X = np.random.RandomState(0).standard_normal((100, 8))
    >>> clusterer = MutualKNNLeiden(10, random_state=0).fit(X)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "clusterer.npz"
    >>> save_estimator(path, clusterer)
    >>> loaded = load_estimator(path)
    >>> bool((loaded.predict(X) == clusterer.predict(X)).all())
    True
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(array: np.ndarray) -> str:
        name = f"array_{len(arrays)}"
        arrays[name] = array
        return name

    if type(estimator).__name__ not in _ESTIMATORS:
        raise TypeError(
            f"save_estimator takes one of {sorted(_ESTIMATORS)}; got "
            f"{type(estimator).__name__}."
        )
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "skleiden_version": __version__,
        "estimator": _encode(estimator, type(estimator).__name__, keep),
    }
    with writing(path) as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)  # type: ignore[arg-type]


def load_estimator(path: str | os.PathLike[str]) -> Any:
    """Load what `save_estimator` saved; nothing in the file is run.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    estimator : estimator
        As it was saved.

    Raises
    ------
    ValueError
        If the file is no such file, of a newer schema, or broken.

    OSError
        If the file cannot be read.
    """
    try:
        # Opened here: NumPy leaves a file open that turns out to be no archive.
        with (
            Path(path).open("rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            document = json.loads(str(archive["document"]))
            if document["format"] != FORMAT:
                raise KeyError(FORMAT)
            if document["schema_version"] == SCHEMA_VERSION:
                return _decode(document["estimator"], archive.__getitem__)
    except OSError as error:
        if error.errno is not None:  # of the file system, not of what is in the file
            raise
        raise _broken(path, error) from error
    except Exception as error:  # whatever bytes that make no sense lead to
        raise _broken(path, error) from error
    raise ValueError(
        f"{os.fspath(path)!r} has schema version {document['schema_version']!r}; this "
        f"version of skleiden reads {SCHEMA_VERSION}. Install the version that saved "
        f"it: {document.get('skleiden_version')}."
    )


def _broken(path: str | os.PathLike[str], error: Exception) -> ValueError:
    # NumPy's advice to run what is in the file is not passed on.
    why = "it is pickled" if "pickle" in str(error) else f"{error}"
    return ValueError(
        f"{os.fspath(path)!r} holds no estimator, or is broken or truncated "
        f"({type(error).__name__}: {why}). Load what save_estimator saved."
    )


def _encode(value: Any, where: str, keep: Callable[[np.ndarray], str]) -> Any:
    """A value as JSON, with its arrays kept elsewhere; `where` it is, for errors."""
    name = type(value).__name__

    def inside(values: dict[str, Any]) -> dict[str, Any]:
        return {key: _encode(v, f"{where}.{key}", keep) for key, v in values.items()}

    def each(values: Any) -> list[Any]:
        return [_encode(v, f"{where}[{i}]", keep) for i, v in enumerate(values)]

    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return {"float": value.hex()}
    if _ESTIMATORS.get(name) is type(value):
        return {"estimator": name, "state": inside(vars(value))}
    if _RECORDS.get(name) is type(value):
        return {"record": name, "fields": inside(value._asdict())}
    if type(value) in (list, tuple):
        return {name: each(value)}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": inside(value)}
    if isinstance(value, np.generic):
        return {"scalar": keep(np.asarray(value))}
    if type(value) is np.ndarray and value.dtype.kind in "biufU":
        return {"array": keep(value)}
    if type(value) is np.ndarray and all(type(v) is str for v in value.ravel()):
        return {"strings": value.tolist()}
    if isinstance(value, sp.csr_array):
        parts = (value.data, value.indices, value.indptr)
        return {"csr": [keep(part) for part in parts], "shape": list(value.shape)}
    if isinstance(value, type) and issubclass(value, np.floating):
        return {"type": np.dtype(value).name}
    if isinstance(value, np.dtype) and value.kind in "biuf":
        return {"dtype": value.str}
    if type(value) is np.random.RandomState:
        kind, keys, *rest = value.get_state(legacy=True)
        return {"random_state": [kind, keep(np.asarray(keys)), *rest]}
    if type(value).__module__.startswith("skleiden._dask"):
        return _encode(value.gather(), where, keep)  # a file holds them as of an array
    raise TypeError(
        f"{where} is a {name}, for which the file has no form. Set it to something "
        "else before saving, or use joblib.dump, whose files run code when loaded."
    )


def _decode(tree: Any, array: Callable[[str], np.ndarray]) -> Any:
    """The value that `_encode` made JSON of."""
    if not isinstance(tree, dict):
        return tree

    def inside(values: dict[str, Any]) -> dict[str, Any]:
        return {key: _decode(value, array) for key, value in values.items()}

    kind, content = next(iter(tree.items()))
    match kind:
        case "float":
            return float.fromhex(content)
        case "estimator":
            maker: Any = _ESTIMATORS[content]
            estimator = maker.__new__(maker)
            vars(estimator).update(inside(tree["state"]))
            return estimator
        case "record":
            return _RECORDS[content](**inside(tree["fields"]))
        case "list":
            return [_decode(value, array) for value in content]
        case "tuple":
            return tuple(_decode(value, array) for value in content)
        case "dict":
            return inside(content)
        case "scalar":
            return array(content)[()]
        case "array":
            return array(content)
        case "strings":
            return np.array(content, dtype=object)
        case "csr":
            matrix = sp.csr_array(
                tuple(array(name) for name in content), shape=tuple(tree["shape"])
            )
            matrix.check_format(full_check=True)
            return matrix
        case "type":
            return np.dtype(content).type
        case "dtype":
            return np.dtype(content)
        case "random_state":
            name, keys, *rest = content
            generator = np.random.RandomState()
            generator.set_state((name, array(keys), *rest))
            return generator
    raise ValueError(f"{kind!r} is of no known kind")
