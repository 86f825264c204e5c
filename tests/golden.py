"""Hashes of every stage on several data sets, to tell which promise broke.

python -m tests.golden            print what is found here
python -m tests.golden --update   write it to golden.json, for these versions
"""

import hashlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import load_prompt_activations, make_layered_activations

GOLDEN = Path(__file__).with_name("golden.json")
STAGES = ("embedding", "neighbours", "graph", "labels")


def prompts():
    return load_prompt_activations().data


def sparse():
    return make_layered_activations(1500, n_layers=3, random_state=0)[0]


def odd():
    """Dense rows, of which some are equal, some zero, and some nearly equal."""
    X, group = _directions()
    X += 6 * np.eye(30)[group]
    X[:40], X[40:80], X[600:650] = X[100], 0, X[50:100] * (1 + 1e-7)
    return X


def odd_groups():
    """The direction of each of the rows of `odd`, -1 for zero rows."""
    _, group = _directions()
    group[:40], group[40:80], group[600:650] = group[100], -1, group[50:100].copy()
    return group


def _directions():
    rng = np.random.RandomState(0)
    return rng.standard_normal((700, 30)), rng.randint(6, size=700)


DATA = {"prompts": prompts, "sparse": sparse, "odd": odd}
CLUSTERERS = {
    "exact, igraph": {},
    "ivf, igraph": {"algorithm": "ivf"},
    "hnsw, igraph": {"algorithm": "hnsw"},
    "exact, leidenalg": {"backend": "leidenalg"},
    "exact, igraph, hubs left": {"hubness": None},
    "exact, union graph, UMAP's weights": {"graph": "union", "weights": "umap"},
}


def digest(array):
    array = np.ascontiguousarray(array)
    return hashlib.blake2b(array.data, digest_size=8).hexdigest()


def fit(X, parameters, *, n_jobs=None):
    """The embedding and the fitted clusterer."""
    sketcher = MultiLayerTfidfSketcher(
        32, layer_weights=None, weighting="idf", random_state=0, n_jobs=n_jobs
    )
    clusterer = MutualKNNLeiden(15, random_state=0, n_jobs=n_jobs, **parameters)
    embedding = sketcher.fit_transform(X)
    return embedding, clusterer.fit(embedding)


def stages(X, parameters, *, n_jobs=None):
    """A hash of the result of each stage."""
    embedding, clusterer = fit(X, parameters, n_jobs=n_jobs)
    affinity = clusterer.affinity_matrix_
    edges = np.concatenate([affinity.indptr, affinity.indices]).astype(np.int64)
    found = (
        # As far as other storage and other processors agree.
        np.rint(embedding.astype(np.float64) * 1e5).astype(np.int64) + 0,
        edges,
        np.rint(affinity.data.astype(np.float64) * 1e4).astype(np.int64),
        clusterer.labels_,
    )
    return dict(zip(STAGES, map(digest, found), strict=True))


def everything(data, *, n_jobs=None):
    return {
        f"{name}: {kind}": stages(X, parameters, n_jobs=n_jobs)
        for name, X in data.items()
        for kind, parameters in CLUSTERERS.items()
    }


def here():
    """The kind of machine, on which floating point depends."""
    return f"{platform.system()} {platform.machine()}"


def versions():
    """What labels depend on beside this package: one key for each combination."""
    packages = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "igraph", "leidenalg")
    return ", ".join(f"{name} {version(name)}" for name in packages)


if __name__ == "__main__":
    found = everything({name: make() for name, make in DATA.items()})
    if "--update" in sys.argv:
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        golden.setdefault(here(), {})[versions()] = found
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    else:
        print(json.dumps(found))
