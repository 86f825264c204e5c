"""Save fitted estimators in files that run nothing when they are loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from skleiden import __version__
from skleiden._blocks.sparse import sparse_from_arrays
from skleiden._clusterer import MutualKNNLeiden
from skleiden._invariants import check_estimator, check_generator
from skleiden._kernels.countsketch import ColumnStatistics
from skleiden._kernels.knn import UniqueRows, representatives, row_hashes
from skleiden._neighbors import FaissKNeighborsTransformer
from skleiden._sketcher import MultiLayerTfidfSketcher
from skleiden._sklearn_steps import STEPS, UFUNCS, completed
from skleiden._stages.distinct import Shards
from skleiden._stages.sketch import Settings
from skleiden.model_selection import StableLeiden

from ._activations._find import check_regular
from ._files import writing

FORMAT = "skleiden-estimator"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1

# What a file may hold, and nothing else.
_ESTIMATORS: dict[str, type[BaseEstimator]] = {
    kind.__name__: kind
    for kind in (
        *STEPS,
        FaissKNeighborsTransformer,
        FeatureUnion,
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
    """Save an estimator, fitted or not, without pickling it.

    Parameters
    ----------
    path : path-like
        The file, an ``.npz`` archive, written whole or not at all.

    estimator : estimator
        A `MultiLayerTfidfSketcher`, `FaissKNeighborsTransformer`, `MutualKNNLeiden` or
        `StableLeiden`; one of scikit-learn's `StandardScaler`, `MinMaxScaler`,
        `MaxAbsScaler`, `RobustScaler`, `Normalizer`, `Binarizer`, `SimpleImputer`,
        `VarianceThreshold`, `TfidfTransformer`, `PCA`, `TruncatedSVD`, or a
        `FunctionTransformer` without a function or with one of NumPy, such as
        ``numpy.log1p``; or a pipeline or `FeatureUnion` of these.

    Raises
    ------
    TypeError
        If the estimator or a step of the pipeline is another one, or has a parameter
        that the file cannot hold, such as a NumPy ``Generator``; the message names it.

    ValueError
        If a parameter is not valid, or the fitted state is not one that ``fit`` makes,
        because such a file could not be loaded; the message names the attribute.

    OSError
        If the file cannot be written, as in `save_communities`.

    Warns
    -----
    UserWarning
        If a pipeline has a ``memory``, which is not saved; see Notes.

    See Also
    --------
    load_estimator : Load the file again.

    Notes
    -----
    All later versions of skleiden read these files. pickle and joblib work, too, but
    their files can run any code, and may not load in another version. Steps of
    scikit-learn are loaded if the installed version has the attributes that they were
    saved with, and refused if it does not.

    A fitted `MutualKNNLeiden` holds the rows that it was fitted on, because ``predict``
    needs them; so does its file.

    The ``memory`` of a pipeline is a folder of pickles, which ``fit`` loads and so
    runs. A file from elsewhere must not choose that folder: it is left out with a
    warning, and the loaded pipeline has ``memory=None``. Set it again with
    ``set_params``. Callbacks of scikit-learn, which ``set_callbacks`` sets, are not
    saved either.

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
    tree = _encode(estimator, type(estimator).__name__, keep)
    try:
        check_estimator(_decode(tree, arrays.__getitem__))
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(path)!r} was not written, because it could not be loaded "
            f"again: {error} Set valid parameters, fit, and save again."
        ) from error
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "skleiden_version": __version__,
        "estimator": tree,
        "digest": _digest(tree, arrays),
    }
    with writing(path) as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)  # type: ignore[arg-type]


def load_estimator(path: str | os.PathLike[str]) -> Any:
    """Load what `save_estimator` saved, without running anything in the file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    estimator : estimator
        The estimator as it was saved.

    Raises
    ------
    ValueError
        If the file does not come from `save_estimator`, has another schema, or is
        broken; if it holds parameters that are not valid, or a fitted state that
        ``fit`` does not make, such as arrays of another length, dtype, range or order
        than the rest of the state implies; if it was changed after it was saved. The
        message names the file and what is wrong in it.

    OSError
        If the file cannot be read.

    Notes
    -----
    All parts of the fitted state are checked against one another, so that no file makes
    compiled code read or write outside of arrays. A digest of the content reveals a
    file that was changed by mistake; it is not a signature, and does not tell who made
    the file.
    """
    check_regular(Path(path))
    try:
        with Path(path).open("rb") as file, _opened(file) as archive:
            arrays = _Arrays(file, archive)
            document = json.loads(str(arrays.read("document")))
            if document["format"] != FORMAT:
                raise KeyError(FORMAT)
            if document["schema_version"] == SCHEMA_VERSION:
                tree = document["estimator"]
                estimator = _decode(tree, arrays.take)
                check_estimator(estimator)
                # Files of version 0.1.0 have none.
                if document.get("digest") not in (None, _digest(tree, arrays.taken)):
                    raise ValueError("it was changed after it was saved")
                return estimator
    except MemoryError:
        raise
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
    return ValueError(
        f"{os.fspath(path)!r} does not hold an estimator, or is broken or truncated "
        f"({type(error).__name__}: {str(error).rstrip('.')}). Load what "
        "save_estimator saved."
    )


def _opened(file: BinaryIO) -> zipfile.ZipFile:
    if file.read(1) == b"\x80":
        raise ValueError("it is a pickle, and pickles are never loaded")
    return zipfile.ZipFile(file)


_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class _Arrays:
    """Read the arrays of an archive, each of them once.

    None may need more memory than it takes in the file, nor may all together, because
    `numpy.load` would take memory for whatever a header claims.
    """

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self.taken: dict[str, np.ndarray] = {}
        self._archive = archive
        self._left = {info.filename: info for info in archive.infolist()}
        size = file.seek(0, os.SEEK_END)
        claimed = sum(info.file_size for info in archive.infolist())
        if claimed > size or any(info.compress_type for info in archive.infolist()):
            raise ValueError(
                f"the archive is compressed, or claims {claimed} bytes in a file of "
                f"{size}"
            )

    def take(self, name: str) -> np.ndarray:
        self.taken[name] = self.read(name)
        return self.taken[name]

    def read(self, name: str) -> np.ndarray:
        info = self._left.pop(f"{name}.npy", None)
        if info is None:
            raise ValueError(f"the array {name!r} is missing, or is used twice")
        with self._archive.open(info) as member:
            read_header = _HEADERS[np.lib.format.read_magic(member)]
            shape, _, dtype = read_header(member)
            size = info.file_size - member.tell()
        if dtype.kind not in "biufU" or dtype.itemsize == 0:
            raise ValueError(f"the array {name!r} has the dtype {dtype}")
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(
                f"the array {name!r} of shape {shape} and dtype {dtype} has {size} "
                "bytes in the file"
            )
        with self._archive.open(info) as member:
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        # Of a machine with another order of bytes.
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _digest(tree: Any, arrays: Mapping[str, np.ndarray]) -> str:
    """Hash what a file holds of an estimator, alike on every machine."""
    digest = hashlib.blake2b(json.dumps(tree).encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.shape} {array.dtype.name} ".encode())
        flat = np.ascontiguousarray(array).reshape(-1)
        little = flat.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(little.view(np.uint8).data)
    return digest.hexdigest()


def _encode(value: Any, where: str, keep: Callable[[np.ndarray], str]) -> Any:
    """Encode a value as JSON, its arrays kept elsewhere; errors name it by `where`."""
    name = type(value).__name__

    def inside(values: dict[str, Any]) -> dict[str, Any]:
        return {key: _encode(v, f"{where}.{key}", keep) for key, v in values.items()}

    def each(values: Any) -> list[Any]:
        if _is_step(values):
            return [values[0], _encode(values[1], where, keep)]
        return [
            _encode(v, f"{where}[{(v[0] if _is_step(v) else i)!r}]", keep)
            for i, v in enumerate(values)
        ]

    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return {"float": value.hex()}
    if any(value is ufunc for ufunc in UFUNCS.values()):
        return {"ufunc": value.__name__}
    if _ESTIMATORS.get(name) is type(value):
        return {"estimator": name, "state": inside(_state(value, where))}
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
    if type(value) is np.ndarray and all(isinstance(v, Real) for v in value.ravel()):
        return {"objects": each(value.tolist())}
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
    if isinstance(value, Shards):
        return _encode(value.gather(), where, keep)  # a file holds them as of an array
    raise TypeError(
        f"{where} is a {name}, which the file cannot hold. Set it to something else "
        "before saving, or use joblib.dump, whose files run code when loaded."
    )


def _state(estimator: Any, where: str) -> dict[str, Any]:
    """Give what is saved of an estimator: all but callbacks and a pipeline's memory."""
    state = {key: v for key, v in vars(estimator).items() if key != "_skl_callbacks"}
    if isinstance(estimator, Pipeline) and estimator.memory is not None:
        warnings.warn(
            f"{where}.memory is not saved; got {estimator.memory!r}. A file must not "
            "choose that folder, because fit runs what it finds there. Set it again on "
            "the loaded pipeline: set_params(memory=...).",
            UserWarning,
            stacklevel=2,
        )
        state = {**state, "memory": None}
    return state


def _is_step(value: Any) -> bool:
    """Tell whether this is a name and an estimator, as in a pipeline."""
    return (
        type(value) in (list, tuple)
        and len(value) == 2
        and type(value[0]) is str
        and isinstance(value[1], BaseEstimator)
    )


def _renewed_sketcher(state: dict[str, Any]) -> dict[str, Any]:
    """Bring a sketcher's state or settings from an older file up to date."""
    if "sublinear_tf" not in state:
        return state
    if state.pop("sublinear_tf"):
        raise ValueError(
            "sublinear_tf=True comes from an older version, and is now power=0.5 or "
            "the like: fit again"
        )
    if "layer_names_" in state:
        n_layers = len(state["layer_names_"])
        state["weighting_"] = (state["_settings"].weighting,) * n_layers
        state["positive_part_"] = np.zeros(n_layers, dtype=bool)
    return {"power": 1.0, "center": False, **state}


def _renewed_clusterer(state: dict[str, Any]) -> dict[str, Any]:
    """Bring a clusterer's state from an older file up to date."""
    return _with_strength(_with_correction(state))


def _with_correction(state: dict[str, Any]) -> dict[str, Any]:
    """Add the correction for hubs, which older versions did not have."""
    new = ("hubness", "hubness_", "hub_skewness_", "local_similarity_")
    if "kth_similarity_" not in state or any(name in state for name in new):
        return state
    local = np.zeros_like(state["kth_similarity_"])
    uncorrected = dict(zip(new, (None, None, float("nan"), local), strict=True))
    return {"device": "cpu", **state, **uncorrected}


def _with_strength(state: dict[str, Any]) -> dict[str, Any]:
    """Add what came with `n_clusters`; nan where the strength is unknown."""
    new = ("n_clusters", "n_merged_", "resolution_", "strength_")
    if "kth_similarity_" not in state or any(name in state for name in new):
        return state
    state = {**state, "n_clusters": None}
    distinct, labels = state["_distinct"], state["labels_"]
    if labels.max() >= labels.size:
        raise ValueError(f"labels_ go up to {labels.max()} in {labels.size} rows")
    state |= {"resolution_": float(state["resolution"]), "n_merged_": 0}
    strength = np.full(labels.size, np.nan, dtype=np.float32)
    if state["graph"] == "mutual" and state["weights"] == "similarity":
        clusterer: Any = MutualKNNLeiden()
        vars(clusterer).update(state)
        votes = state["affinity_matrix_"][distinct.first][:, distinct.first]
        strength = distinct.spread(clusterer._strengths(votes), 0)
    return {**state, "strength_": strength}


def _renewed_rows(fields: dict[str, Any]) -> dict[str, Any]:
    """Rank distinct rows, as older versions did not."""
    if "ranks" in fields:
        return fields
    vectors = fields["vectors"]
    ranks = np.arange(len(vectors), dtype=np.int32)
    if vectors.shape[1]:
        _, in_order = representatives(*row_hashes(vectors))
        ranks[in_order] = np.arange(in_order.size)
    return {**fields, "ranks": ranks}


# What makes states and records of older files such as of now.
_RENEWED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "MultiLayerTfidfSketcher": _renewed_sketcher,
    "Settings": _renewed_sketcher,
    "MutualKNNLeiden": _renewed_clusterer,
    "UniqueRows": _renewed_rows,
    **{kind.__name__: partial(completed, kind) for kind in STEPS},
}


def _decode(tree: Any, array: Callable[[str], np.ndarray]) -> Any:
    """Give the value from which `_encode` made JSON."""
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
            renewed = _RENEWED.get(content, dict)
            vars(estimator).update(renewed(inside(tree["state"])))
            if maker is Pipeline and estimator.memory is not None:
                raise ValueError(
                    "Pipeline.memory must be None in a file, because fit would run "
                    f"what it finds there; got {estimator.memory!r}"
                )
            return estimator
        case "record":
            renewed = _RENEWED.get(content, dict)
            return _RECORDS[content](**renewed(inside(tree["fields"])))
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
        case "objects":
            return np.array([_decode(value, array) for value in content], dtype=object)
        case "csr":
            parts = zip(("data", "indices", "indptr"), content, strict=True)
            given = {name: array(key) for name, key in parts}
            about = {"format": "csr", "shape": tree["shape"], "_is_array": True}
            return sparse_from_arrays(
                given | {name: np.asarray(value) for name, value in about.items()},
                "the file",
            )
        case "ufunc":
            return UFUNCS[content]
        case "type":
            return np.dtype(content).type
        case "dtype":
            return np.dtype(content)
        case "random_state":
            name, keys, *rest = content
            drawn = (name, array(keys), *rest)
            check_generator("a RandomState", drawn)
            generator = np.random.RandomState()
            generator.set_state(drawn)
            return generator
    raise ValueError(f"{kind!r} is not of a known kind")
