"""Data that several tests share, each made once."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

# Two processes on two cores: threads that wait by spinning would take the other's time.
# Before NumPy and FAISS are imported, whose OpenMP reads it once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import settings

from skleiden import LayerStack, MultiLayerTfidfSketcher
from skleiden._stages import distinct
from skleiden.datasets import make_layered_activations

# A change is judged by the same examples each time; --hypothesis-profile=random, which
# the workflow uses, looks for others.
settings.register_profile("random", print_blob=True)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


def pytest_collection_modifyitems(items):
    """Mark what opens a browser, by the fixture that does; begin with long files.

    A long file that begins last would be waited for by all other processes.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    marks = ("cluster", "slow", "browser")
    long = {i.path for i in items if any(map(i.get_closest_marker, marks))}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish():
    """Look for garbage no longer among what lives until the end: modules and tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def layered():
    """400 rows of 3 sparse layers with 4 planted communities, and the communities."""
    return make_layered_activations(
        400,
        n_layers=3,
        n_neurons=300,
        n_communities=4,
        nnz_per_row=30,
        signal=0.75,
        random_state=0,
    )


@pytest.fixture(scope="session")
def stack(layered):
    return layered[0]


@pytest.fixture(scope="session")
def planted(layered):
    return layered[1]


@pytest.fixture(scope="session")
def embedding(stack):
    """The stack's embedding: unit rows, float32, not to be written to."""
    vectors = MultiLayerTfidfSketcher(
        32, layer_weights=None, random_state=0
    ).fit_transform(stack)
    vectors.flags.writeable = False
    return vectors


@pytest.fixture
def blobs():
    """Directions of 90 rows around three axes of five dimensions; their axes."""
    rng = np.random.RandomState(0)
    target = np.arange(90) % 3
    return 5 * np.eye(5)[target] + rng.standard_normal((90, 5)), target


@pytest.fixture
def workers(monkeypatch):
    """Dask without a cluster, and several shards of however few rows there are."""
    import dask

    monkeypatch.setattr(distinct, "_ROWS", 1)
    monkeypatch.setattr(distinct, "_BLOCKS", 4)  # whose pairs are soon searched
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(params=["here", "on workers"])
def place(request):
    """Put an X where the test runs: leave it as it is, or make Dask arrays of it.

    Tests run on both, or on those that they give the fixture as its parameter. The
    embedding of an X on workers is lazy; `numpy.asarray` brings it here, and leaves one
    that is here alone.
    """
    if request.param == "here":
        return lambda X: X
    request.getfixturevalue("workers")
    return on_workers


def on_workers(X):
    """The same matrix or layers as Dask arrays of three chunks of rows."""
    import dask.array as da

    if isinstance(X, LayerStack):
        return LayerStack(map(on_workers, X.layers), names=X.names, ids=X.ids)
    if isinstance(X, dict):
        return {name: on_workers(matrix) for name, matrix in X.items()}
    kind = type(X) if sp.issparse(X) else None
    rows = sp.csr_array(X) if kind else X  # not every format can be cut
    lazy = da.from_array(rows, (X.shape[0] // 3 + 1, -1), asarray=not kind)
    return lazy.map_blocks(kind) if kind else lazy


@pytest.fixture
def read_only_folder():
    """A folder in which this process cannot make files, even if it is root's."""
    # Not in tmp_path, which nobody but its owner can enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(name).resolve()
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o755)


WORDS = ["why", "is", "the", "sky", "blue", "how", "deep", "sea", "when", "night"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A tiny BERT with random weights, and its tokenizer, saved."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("model")
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    words = {word: number for number, word in enumerate([*special, *WORDS])}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    own.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token"), special, strict=False))
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **names).save_pretrained(
        path
    )
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=24,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def browser():
    required = os.environ.get("SKLEIDEN_REQUIRE_BROWSER") == "1"
    give_up = pytest.fail if required else pytest.skip
    if CHROMIUM is None:
        give_up("No Chromium was found; on Debian: apt-get install chromium.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up('Playwright is not installed: pip install ".[test]".')
    options = [
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
    ]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture(scope="module")
def context(browser, tmp_path_factory):
    """Hold the browser's tabs in one process: to start another takes half a second."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        reduced_motion="reduce",  # clicks wait until nothing moves
    )
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.touch()
    context.new_page().goto(blank.as_uri())  # a tab that keeps the process
    yield context
    context.close()


@pytest.fixture
def visit(context):
    """Opens a page; in the end, none may have complained or asked for more files."""
    tabs, complaints, requests, visited = [], [], [], set()

    def open_page(path, address="", viewport=None, java_script_enabled=True, **media):
        if java_script_enabled:
            tab = context.new_page()
        else:  # in a context of its own, which is closed with it
            tab = context.browser.new_page(java_script_enabled=False)
        tabs.append(tab)
        tab.on(
            "console",
            lambda said: (
                said.type in ("error", "warning") and complaints.append(said.text)
            ),
        )
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.on("request", lambda request: requests.append(request.url.split("#")[0]))
        if viewport:
            tab.set_viewport_size(viewport)
        if media:
            tab.emulate_media(**media)
        visited.add(path.as_uri())
        tab.goto(path.as_uri() + address)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert complaints == []
    assert set(requests) == visited
    assert len(requests) == len(tabs)
