"""Change each array of a saved estimator in many ways, and see what becomes of it.

``python attack_saved_estimators.py rows.npy '{"saved": ["PCA"]}'`` changes the arrays
of saved.npz but those of a PCA, loads every changed file and predicts the rows, in a
process of its own, as memory may be overwritten; it prints how many files were refused,
and which gave a wrong answer.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

# Of these some changes make what another fit could have made: nothing but the digest
# tells them from what was saved. The vectors before a precomputed graph are of these.
_ANY_VALUES = {
    "signs_",
    "buckets_",
    "layer_weights_",
    "kth_similarity_",
    "local_similarity_",
    # Of scikit-learn's steps.
    "components_",
    "data_max_",
    "data_min_",
    "max_abs_",
    "mean_",
    "min_",
    "scale_",
    "statistics_",
    "var_",
}


def read(path, *, forge=True):
    """The arrays and the document of a file; without its digest, to forge it."""
    with np.load(path) as archive:
        arrays = dict(archive)
    document = json.loads(str(arrays.pop("document")))
    if forge:
        del document["digest"]
    return arrays, document


def write(path, arrays, document):
    np.savez(path, document=np.array(json.dumps(document)), **arrays)


def states(tree):
    """The estimators in a document, outer ones first: names and states."""
    if isinstance(tree, dict):
        if "state" in tree:
            yield tree["estimator"], tree["state"]
        for value in tree.values():
            yield from states(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from states(value)


def edit(arrays, document, attribute, change):
    """Change the first attribute, or field or part of one, of a name."""
    for holder, key in _places(document["estimator"]):
        if key == attribute:
            value = holder[key]
            name = value.get("array") if isinstance(value, dict) else None
            if isinstance(value, str) and value in arrays:  # a part of a CSR array
                name = value
            if name is None:
                holder[key] = change(value)
            else:
                arrays[name] = change(arrays[name])
            return
    raise KeyError(attribute)


def _places(tree):
    if isinstance(tree, dict):
        if "csr" in tree:
            parts = dict(zip(("data", "indices", "indptr"), tree["csr"], strict=True))
            yield from ((parts, key) for key in parts)
            return
        inside = tree.get("state", tree.get("fields"))
        if inside is not None:
            yield from ((inside, key) for key in inside)
            yield from _places(inside)
            return
        for value in tree.values():
            yield from _places(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _places(value)


def _strings(tree):
    """All strings in a document; among them are the names of its arrays."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _strings(value)


def put(array, value, place):
    changed = array.copy()
    changed.reshape(-1)[place] = value
    return changed


CHANGES = {
    "nan": lambda a: put(a, np.nan, 0),
    "negative": lambda a: put(a, -7, 0),
    "minus one": lambda a: put(a, -1, -1),
    "large": lambda a: put(a, 10**9 if a.dtype.itemsize > 2 else 99, 0),
    "largest": lambda a: put(a, np.iinfo(a.dtype).max, 0),
    "smallest": lambda a: put(a, np.iinfo(a.dtype).min, -1),
    "infinite": lambda a: put(a, np.inf, 0),
    "one more": lambda a: a + np.array(1, a.dtype),
    "zeros": np.zeros_like,
    "first as last": lambda a: put(a, a.flat[0], -1),
    "shuffled": lambda a: np.random.RandomState(1).permutation(a),
    "reversed": lambda a: a[::-1].copy(),
    "shorter": lambda a: a[:-1],
    "longer": lambda a: np.concatenate([a, a[-1:]]),
    "empty": lambda a: a[:0],
    "much longer": lambda a: np.zeros((10**5, *a.shape[1:]), a.dtype),
    "float64": lambda a: a.astype("f8"),
    "float32": lambda a: a.astype("f4"),
    "int64": lambda a: a.astype("i8"),
    "bool": lambda a: a.astype(bool),
    "text": lambda a: a.astype(str),
    "other bytes": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "0-d": lambda a: np.array(a.flat[0]),
    "as a row": lambda a: a[None],
    "transposed": lambda a: np.ascontiguousarray(a.T),
    "Fortran order": np.asfortranarray,
}


def main(rows, files):
    found, X = {}, np.load(rows)
    for name, left_out in json.loads(files).items():
        print(name, file=sys.stderr)  # before whatever ends the process
        found[name] = _attack(f"{name}.npz", X, left_out)
    print(json.dumps(found))


def _attack(path, X, left_out):
    from skleiden.io import load_estimator

    changed = Path("changed.npz")
    expected = load_estimator(path).predict(X)
    arrays, document = read(path)
    of_others = {
        text
        for kind, state in states(document["estimator"])
        if kind in left_out
        for text in _strings(state)
    }
    attributes = {}
    for holder, key in _places(document["estimator"]):
        value = holder[key]
        name = value.get("array") if isinstance(value, dict) else value
        if isinstance(name, str):
            attributes[name] = key
    found = {"refused": 0, "same": 0, "another state": 0, "wrong": []}
    for name in arrays.keys() - of_others:
        array = arrays[name]
        for kind, change in CHANGES.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    new = change(array)
            except (ValueError, OverflowError, IndexError):
                continue  # no such change of an array of this kind
            attribute = attributes.get(name)
            write(changed, arrays | {name: new}, document)
            try:
                loaded = load_estimator(changed)
            except ValueError as error:
                found["refused"] += 1
                if str(changed) not in str(error):
                    found["wrong"].append([attribute, kind, str(error)])
                continue
            labels = loaded.predict(X)
            if np.array_equal(labels, expected):
                found["same"] += 1
            elif attribute in _ANY_VALUES or (
                attribute == "vectors" and "precomputed" in str(document)
            ):
                found["another state"] += 1
                if labels.min() < -1 or labels.max() >= expected.size:
                    found["wrong"].append([attribute, kind, "labels"])
            else:
                found["wrong"].append([attribute, kind, "other labels"])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
