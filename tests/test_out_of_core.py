"""Layers in files that are larger than what a fit takes of memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import sys, threading, time
import faiss, igraph  # noqa: F401 (their own memory is not the fit's)
import numpy as np
from sklearn.metrics import homogeneity_score
from sklearn.pipeline import make_pipeline
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.io import load_activations

def own():
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

before, peak, done = own(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, own())

watcher = threading.Thread(target=watch)
watcher.start()
stack = load_activations(sys.argv[1])
pipeline = make_pipeline(
    MultiLayerTfidfSketcher(32, random_state=0, weighting=sys.argv[2]),
    MutualKNNLeiden(15, random_state=0),
).fit(stack)
done.set()
watcher.join()
group = np.load(sys.argv[3])
print(peak - before, homogeneity_score(group, pipeline[-1].labels_))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """160 MB of half-precision activations of 4 layers, with 5 planted groups."""
    folder = tmp_path_factory.mktemp("layers")
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, 8000)
    np.save(folder / "group.npy", group)
    for name in range(4):
        layer = rng.random((8000, 2500), dtype=np.float32)
        at_home = np.arange(2500) // 500 == group[:, None]
        layer *= layer > np.where(at_home, 0.4, 0.95)
        np.save(folder / f"layer_{name}.npy", layer.astype(np.float16))
    return folder


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)
@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_fit_takes_a_fraction_of_the_input(folder, weighting):
    group = folder / "group.npy"
    size = sum(path.stat().st_size for path in folder.glob("layer_*.npy"))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder / "layer_*.npy", weighting, group],
        capture_output=True,
        text=True,
        check=True,
    )
    taken, homogeneity = map(float, run.stdout.split())
    assert size > 150e6
    assert taken < size / 2
    assert homogeneity > 0.95
