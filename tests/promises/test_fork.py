"""Children forked after a fit: they come back, with the same labels."""

import os
import subprocess
import sys

import pytest

from tests.children import run_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

# Python warns of forks beside threads, from version 3.12 on: that is what is tested.
START = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.pipeline import make_pipeline
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import make_layered_activations
from skleiden.model_selection import StableLeiden

stack, _ = make_layered_activations(400, n_layers=2, n_neurons=512, random_state=0)

def make(n_jobs=None, layer_weights=None, **parameters):
    return make_pipeline(
        MultiLayerTfidfSketcher(
            32, layer_weights=layer_weights, random_state=0, n_jobs=n_jobs
        ),
        MutualKNNLeiden(10, random_state=0, n_jobs=n_jobs, **parameters),
    )

def in_child(function):
    # Exit code of a forked child: 0 if the function says so, 14 if it hangs.
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if function() else 3)
    return os.waitpid(child, 0)[1]
"""

FITTED = """
n_jobs, algorithm = eval(sys.argv[1]), sys.argv[2]
# Layers are judged by exact searches, whatever the last step does.
parameters = dict(
    layer_weights="auto" if algorithm == "exact" else None, algorithm=algorithm
)
fitted = make(n_jobs, **parameters).fit(stack)
labels, expected = fitted[-1].labels_, fitted.predict(stack)

def same():
    again = make(n_jobs, **parameters).fit_predict(stack)
    return (fitted.predict(stack) == expected).all() and (again == labels).all()

def twice():
    return same() and in_child(same) == 0

assert in_child(twice) == 0
assert same()
"""

# A fit goes on in a thread of the parent, which holds locks when the child is made.
MEANWHILE = """
labels, done = make(2).fit_predict(stack), threading.Event()

def work():
    while not done.is_set():
        make(2).fit(stack)

thread = threading.Thread(target=work)
thread.start()
try:
    for _ in range(8):
        time.sleep(0.01)
        assert in_child(lambda: (make(2).fit_predict(stack) == labels).all()) == 0
finally:
    done.set()
    thread.join()
"""

JOBLIB = """
fitted = make(2).fit(stack)
expected = StableLeiden(make(2), n_runs=3, random_state=0).fit(stack).labels_
with parallel_config("multiprocessing", n_jobs=2):
    stable = StableLeiden(make(2), n_runs=3, random_state=0, n_jobs=2).fit(stack)
    predicted = Parallel()(delayed(fitted.predict)(part) for part in (stack, stack))
assert (stable.labels_ == expected).all()
assert all((labels == fitted.predict(stack)).all() for labels in predicted)
"""

# Workers of joblib's in other processes, which the child must not wait for.
WORKERS = """
from skleiden.model_selection import community_stability, resolution_profile

def found():
    labels = StableLeiden(make(), n_runs=3, n_jobs=2, random_state=0).fit(stack).labels_
    profile = resolution_profile(
        make(), stack, resolutions=[0.5, 1.0], n_runs=2, n_permutations=0, n_jobs=2
    )
    fitted = make().fit(stack)
    stability = community_stability(fitted, stack, n_runs=2, n_jobs=2, random_state=0)
    return [*labels, *profile.table["stability"], *stability]

expected = found()
assert in_child(lambda: found() == expected) == 0
with parallel_config("multiprocessing", n_jobs=2):
    assert found() == expected
"""

# What is loaded by then is FAISS alone, by somebody else.
LOADED = """
import faiss
X = np.random.RandomState(0).standard_normal((3000, 16)).astype("f4")
index = faiss.IndexFlatIP(16)
index.add(X)
index.search(X, 5)
assert in_child(lambda: MutualKNNLeiden(5, n_jobs=2).fit(X).n_clusters_ > 0) == 0
"""


@pytest.mark.parametrize("n_jobs", ["None", "1", "2"])
@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
def test_child_after_a_fit(n_jobs, algorithm):
    code, _, error = run_script(START + FITTED, n_jobs, algorithm, timeout=180)
    assert code == 0, error


@pytest.mark.parametrize("program", [MEANWHILE, LOADED], ids=["meanwhile", "loaded"])
def test_other_children(program):
    code, _, error = run_script(START + program, timeout=180)
    assert code == 0, error


@pytest.mark.parametrize("program", [JOBLIB, WORKERS], ids=["joblib", "workers"])
def test_children_by_joblib(program):
    """In an interpreter of its own, of which joblib's processes are forks or copies."""
    finished = subprocess.run(
        [sys.executable, "-c", START + program],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == 0, finished.stderr
