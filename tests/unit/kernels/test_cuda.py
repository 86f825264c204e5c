"""Exact neighbours by a GPU are the CPU's, bit for bit; here torch's CPU is the card.

Where torch finds a GPU, the same tests run on it.
"""

import copy
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden import FaissKNeighborsTransformer, MutualKNNLeiden
from skleiden._kernels import cuda, knn
from skleiden._stages import search
from skleiden.io import load_estimator, save_estimator

torch = pytest.importorskip("torch")

CARDS = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=CARDS)
def card(request, monkeypatch):
    """A device of torch, which estimators take for the GPU that they ask for."""
    device = torch.device(request.param)
    monkeypatch.setattr(cuda, "find_device", lambda _: device)
    return device


@pytest.fixture
def few(monkeypatch):
    """Short lists and small groups, so that some hundred rows are many."""
    monkeypatch.setattr(cuda, "_SPARE", 3)
    monkeypatch.setattr(cuda, "_GROUP", 4)


@pytest.fixture
def again(monkeypatch):
    """The numbers of rows that are searched by the CPU."""
    numbers, exact = [], knn.exact_neighbors

    def count(queries, *arguments, **options):
        numbers.append(len(queries))
        return exact(queries, *arguments, **options)

    monkeypatch.setattr(knn, "exact_neighbors", count)
    return numbers


def unit(X):
    return knn.unit_rows(np.ascontiguousarray(X, dtype=np.float32))


def random(n=700, d=24, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def near_copies(noise, n=600, d=24):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4, d))[np.arange(n) % 4]
    return unit(X * (1 + noise * rng.standard_normal(X.shape)))


def cloud(noise, n=600, d=24):
    """Rows all around one another."""
    rng = np.random.default_rng(0)
    return unit(np.ones(d) + noise * rng.standard_normal((n, d)))


def with_repeats():
    X = random(500)
    return np.vstack([X, X[:200]])


def antipodes():
    """Two rows, each many times, and a few others: most similarities are 1 and -1."""
    X = np.repeat([[1, 0], [-1, 0]], 150, axis=0)
    return unit(np.vstack([X, random(5, 2)]))


DATA = {
    "random": random(),
    "one column": random(300, 1),
    "three columns": random(900, 3),
    "sparse": unit(np.where(random(600, 40) > 0.2, random(600, 40), 0)[:, :40] + 1e-6),
    "repeats": with_repeats(),
    "antipodes": antipodes(),
    **{f"near copies, {e}": near_copies(e) for e in (1e-7, 1e-5, 1e-4, 1e-3, 1e-2)},
    **{f"cloud, {e}": cloud(e) for e in (1e-7, 1e-5, 1e-3, 3e-2)},
}


def arguments(X, seed=1):
    """Vectors that are their own queries, in a random order of ties."""
    ranks = np.random.default_rng(seed).permutation(len(X)).astype(np.int32)
    return (X, X), knn.Ranks(ranks, ranks), np.arange(len(X))


def assert_same(X, k, card, **options):
    both, ranks, own = arguments(X)
    expected = knn.exact_neighbors(*both, k, ranks, own=own)
    found = cuda.exact_neighbors(*both, k, ranks, own=own, device=card, **options)
    assert found.ids.dtype == np.int32
    assert found.similarities.dtype == np.float32
    assert_array_equal(found.ids, expected.ids)
    assert_array_equal(found.similarities, expected.similarities)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.usefixtures("few")
def test_lists_are_the_cpus(card, name, k):
    assert_same(DATA[name], k, card)


@pytest.mark.parametrize("k", [5, 80])
def test_lists_are_the_cpus_with_the_sizes_of_use(card, k, again):
    X = random(6000, 16)  # enough for groups where k is small
    assert_same(X, k, card)
    assert sum(again[1:]) < 60


@pytest.mark.parametrize("k", [30, 45, 49])
def test_long_lists_are_the_cpus(card, k):
    assert_same(random(50), k, card)


@pytest.mark.parametrize("k", [3, 40])
@pytest.mark.usefixtures("few")
def test_queries_may_be_others_or_zero(card, k):
    vectors, queries = random(400), random(90, seed=1)
    queries[::7] = 0
    queries[1::7] = vectors[:13]
    ranks = knn.Ranks(np.zeros(90, np.int32), np.arange(400, dtype=np.int32))
    expected = knn.exact_neighbors(queries, vectors, k, ranks)
    found = cuda.exact_neighbors(queries, vectors, k, ranks, device=card)
    assert (expected.ids[0] == -1).all()
    assert_array_equal(found.ids, expected.ids)
    assert_array_equal(found.similarities, expected.similarities)


@pytest.mark.parametrize(
    "most", [(1, 4), (1, 2**17), (2**13, 4), (2**13, 100), (64, 64), (699, 704)]
)
@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.usefixtures("few")
def test_blocks_of_any_size_give_the_same(card, monkeypatch, most, stay):
    X = DATA["repeats"][480:540] if most[0] == 1 else DATA["repeats"]
    monkeypatch.setattr(cuda, "_MOST", most)
    monkeypatch.setattr(cuda, "_LEAST", (1, 4))
    columns = cuda._Card._columns

    def forced(self, vectors, blocks, **_):
        return columns(self, vectors, blocks, stay=stay)

    monkeypatch.setattr(cuda._Card, "_columns", forced)
    assert_same(X, 6, card)


@pytest.mark.parametrize("free", [2**20, 2**17, 2**15])
@pytest.mark.usefixtures("few")
def test_blocks_fit_the_free_memory(card, monkeypatch, free):
    monkeypatch.setattr(cuda, "_LEAST", (1, 4))
    monkeypatch.setattr(cuda._Card, "free", lambda _: free)
    sizes = []
    shortlist = cuda._Card._shortlist

    def noted(self, queries, others, width):
        size = cuda._Blocks(len(queries), others.size)
        sizes.append(size.n_bytes(queries.shape[1], width))
        return shortlist(self, queries, others, width)

    monkeypatch.setattr(cuda._Card, "_shortlist", noted)
    assert_same(random(100), 6, card)
    assert max(sizes) <= 0.8 * free


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("few")
def test_lists_do_not_depend_on_threads(card, threads):
    with knn.limit_threads(threads):
        assert_same(cloud(1e-2), 10, card)


def test_progress_counts_each_row_once(card):
    done = []
    assert_same(np.vstack([random(500), near_copies(1e-6)]), 5, card)
    both, ranks, own = arguments(np.vstack([random(500), near_copies(1e-6)]))
    cuda.exact_neighbors(*both, 5, ranks, own=own, device=card, progress=done.append)
    assert sum(done) == 1100


# ------------------------------------------------------------------------ the bound


def adversarial(name, n, d):
    rng = np.random.default_rng(d)
    X = rng.standard_normal((n, d))
    if name == "positive":
        X = np.abs(X)
    elif name == "between halves":
        X = rng.choice([-1, 1], (n, d)) * (1 + 2.0**-11 * rng.choice([0.98, 1.02], d))
    elif name == "all lose":  # just below what would be rounded up
        step = float(np.spacing(np.float16(d**-0.5)))
        low = (np.floor(d**-0.5 / step - 0.49) + 0.49) * step
        high = low + step
        n_high = round((1 - d * low**2) / (high**2 - low**2))
        row = np.where(np.arange(d) < n_high, high, low)
        X = rng.permuted(np.tile(row, (n, 1)), axis=1)
    elif name == "tiny":  # most entries are subnormal numbers of half precision
        X = np.where(rng.random((n, d)) < 0.95, 1e-5 * X, X)
    elif name == "one large":
        X[:, 1:] *= 1e-4
    return unit(X)


@pytest.mark.parametrize("d", [1, 2, 17, 300, 2000])
@pytest.mark.parametrize(
    "name",
    ["random", "positive", "between halves", "all lose", "tiny", "one large"],
)
def test_similarities_are_within_the_bound_of_scores(card, name, d):
    X = adversarial(name, 300, d)
    with cuda._Card(card) as open_card:
        half, errors = open_card.upload(X, 300)
        scores = (half @ half.T).cpu().numpy()
    errors = errors.cpu().numpy()
    allowed = cuda.bound(d, errors[:, None], errors.max())
    exact = X.astype(np.float64)
    all_columns = np.tile(np.arange(300), (300, 1))
    for similarities in (exact @ exact.T, knn._products(X, X, all_columns)):
        assert (similarities <= cuda.unrounded(scores) + allowed).all()
    # No more than what is stated of any unit rows, and little more than it must be.
    assert allowed.max() <= 2.0**-10 * 1.003 + d * 2.0**-21 + d**0.5 * 2.0**-23
    if name == "all lose" and d == 300:
        lost = exact @ exact.T - (half.double() @ half.double().T).cpu().numpy()
        assert lost.max() > 0.75 * allowed.max()


@pytest.mark.parametrize("value", [0.0, 1e-7, -1e-7, 0.1, -0.1, 0.7, -0.7, 1.0, -1.0])
def test_a_score_tells_the_largest_number_it_was(value):
    singles = np.float32(value) + np.linspace(-1e-3, 1e-3, 5001).astype(np.float32)
    assert (singles <= cuda.unrounded(singles.astype(np.float16))).all()


def test_all_scores_tell_the_largest_numbers_they_were():
    scores = np.arange(2**16, dtype=np.uint16).view(np.float16)
    scores = np.sort(scores[np.isfinite(scores)])
    exact = scores.astype(np.float64)
    largest = (exact[:-1] + exact[1:]) / 2  # halfway to the next
    found = cuda.unrounded(scores[:-1])
    assert (found >= largest).all()
    allowed = 2.0**-11 * np.abs(exact[:-1]) + 2.0**-24
    assert (found - exact[:-1] <= 1.001 * allowed).all()


@pytest.mark.parametrize("error", [0.0, 0.1])
@pytest.mark.parametrize("largest", [0.0, 0.2])
def test_bounds_are_of_what_rounding_took_and_of_what_sums_lose(error, largest):
    rounding = cuda.bound(0, error, largest)
    assert rounding == pytest.approx(1.001 * error + (1.001 + error) * largest)
    of_card, of_cpu = 2.0**-22, 2.0**-24
    lengths = (1.001 + error) * (1.001 + largest)
    lost = 300 * (of_card * lengths + of_cpu * 1.001**2)
    assert cuda.bound(300, error, largest) - rounding == pytest.approx(lost, rel=1e-5)


def test_rows_are_proven_by_the_last_score_and_its_bound():
    lists = cuda._Shortlists(np.zeros((4, 1)), np.array([0.5, 0.5, -1.5, -1.5]))
    last = np.array([[0.500002], [0.5000009], [-1], [-0.9999985]], dtype=np.float32)
    assert lists.prove(last).tolist() == [True, False, False, True]
    assert lists.prove(last + np.float32(2e-6)).tolist() == [True] * 4


def crowd(n=2000, d=64):
    """Rows whose nearest differ by less than half precision tells apart."""
    rng = np.random.default_rng(0)
    return unit(np.ones(d) + 0.02 * rng.standard_normal((n, d)))


def test_without_the_bound_lists_would_be_wrong(card, monkeypatch, again):
    both, ranks, own = arguments(crowd())
    expected = knn.exact_neighbors(*both, 10, ranks, own=own)
    again.clear()
    found = cuda.exact_neighbors(*both, 10, ranks, own=own, device=card)
    assert_array_equal(found.ids, expected.ids)
    assert sum(again) > 1000
    monkeypatch.setattr(cuda, "bound", lambda *_: -1.0)
    found = cuda.exact_neighbors(*both, 10, ranks, own=own, device=card)
    assert (found.ids != expected.ids).any()


def test_rows_of_which_the_bound_tells_enough_are_not_searched_again(card, again):
    both, ranks, own = arguments(random(2000, 64))
    cuda.exact_neighbors(*both, 10, ranks, own=own, device=card)
    assert again == []


# ------------------------------------------------------------------ torch's settings


MATMUL = torch.backends.cuda.matmul


def in_half():
    """Settings by which a card may keep sums in half precision."""
    return [getattr(MATMUL, name, None) for name in cuda._IN_HALF]


@pytest.fixture(params=[True, False])
def set_to(request):
    """All of them, as a user may have set them."""
    before = in_half()
    for name, value in zip(cuda._IN_HALF, before, strict=True):
        if value is not None:
            setattr(MATMUL, name, request.param)
    yield in_half()
    for name, value in zip(cuda._IN_HALF, before, strict=True):
        if value is not None:
            setattr(MATMUL, name, value)


@pytest.mark.usefixtures("few")
def test_settings_of_torch_do_not_count_and_are_left(card, monkeypatch, set_to):
    inside, largest = [], cuda._largest

    def noted(scores, width):
        assert scores.dtype == torch.float16
        inside.append(in_half())
        return largest(scores, width)

    monkeypatch.setattr(cuda, "_largest", noted)
    with torch.autocast(card.type, dtype=torch.bfloat16), torch.no_grad():
        assert_same(random(), 5, card)
        assert torch.is_autocast_enabled(card.type)
        assert not torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not any(inside[0])
    assert in_half() == set_to


def test_searches_in_several_threads_leave_settings_of_torch(card, monkeypatch, set_to):
    inside, largest = [], cuda._largest

    def slow(scores, width):
        inside.append(in_half())
        time.sleep(0.01)
        inside.append(in_half())
        return largest(scores, width)

    monkeypatch.setattr(cuda, "_largest", slow)
    monkeypatch.setattr(cuda, "_MOST", (100, 2**17))
    X = random()
    both, ranks, own = arguments(X)
    expected = knn.exact_neighbors(*both, 5, ranks, own=own)

    def run(_):
        return cuda.exact_neighbors(*both, 5, ranks, own=own, device=card)

    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(run, range(4)):
            assert_array_equal(found.ids, expected.ids)
    assert len(inside) == 4 * 7 * 2
    assert not any(map(any, inside))
    assert in_half() == set_to


@pytest.mark.parametrize("place", ["_largest", "rank", "bound"])
def test_an_interruption_leaves_everything_as_it_was(card, monkeypatch, place):
    fitted = MutualKNNLeiden(5, device="cuda", random_state=0).fit(random())
    before = copy.deepcopy(vars(fitted))
    settings = in_half()
    threads = knn.n_threads()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(knn if place == "rank" else cuda, place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(random(seed=1))
    assert vars(fitted).keys() == before.keys()
    assert_array_equal(fitted.labels_, before["labels_"])
    assert in_half() == settings
    assert not torch.is_inference_mode_enabled()
    assert knn.n_threads() == threads


# ------------------------------------------------------------------------- memory


FULL = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
)


@pytest.mark.parametrize("error", FULL, ids=["allocation", "library"])
@pytest.mark.parametrize("place", ["_largest", "upload"])
@pytest.mark.usefixtures("few")
def test_blocks_are_halved_where_memory_runs_out(card, monkeypatch, error, place):
    monkeypatch.setattr(cuda, "_LEAST", (8, 32))
    owner = cuda if place == "_largest" else cuda._Card
    function, sizes = getattr(owner, place), []

    def fail(*given):
        rows = given[-2] if place == "_largest" else given[1]
        sizes.append(rows.shape)
        if rows.shape[-2] > 90 and len(sizes) < 30:
            raise error
        return function(*given)

    monkeypatch.setattr(owner, place, fail)
    assert_same(random(), 5, card)
    rows = [shape[0] for shape in sizes]
    assert rows[0] == 700
    assert 350 in rows
    assert 87 in rows


@pytest.fixture
def stay(monkeypatch):
    """Whether vectors were to stay on the card, each time that it was asked."""
    found, columns = [], cuda._Card._columns

    def noted(self, vectors, blocks, *, stay):
        found.append(stay)
        return columns(self, vectors, blocks, stay=stay)

    monkeypatch.setattr(cuda._Card, "_columns", noted)
    return found


@pytest.mark.parametrize(("lacking", "stays"), [(0, True), (2, False)])
def test_vectors_stay_on_the_card_if_there_is_room(
    card, monkeypatch, stay, lacking, stays
):
    X = random(640, 24)
    needed = cuda._Blocks(640, 640).n_bytes(24, 5 + 32 + 1) + 2 * 640 * 24
    monkeypatch.setattr(cuda._Card, "free", lambda _: (needed - lacking) / 0.8 + 0.1)
    assert_same(X, 5, card)
    assert stay == [stays]


@pytest.mark.usefixtures("few")
def test_vectors_do_not_stay_where_memory_ran_out(card, monkeypatch, stay):
    monkeypatch.setattr(cuda, "_LEAST", (8, 32))
    largest, full = cuda._largest, [True, True]

    def fail(*given):
        if full:
            full.pop()
            raise FULL[0]
        return largest(*given)

    monkeypatch.setattr(cuda, "_largest", fail)
    assert_same(random(), 5, card)
    assert stay == [True, False, False]


def test_memory_that_torch_holds_for_later_is_free():
    calls = []
    memory = SimpleNamespace(
        mem_get_info=lambda _: (1000, 5000),
        memory_reserved=lambda _: 100,
        memory_allocated=lambda _: 30,
        empty_cache=lambda: calls.append("empty"),
    )
    card = cuda._Card(SimpleNamespace(type="cuda"))
    card.torch = SimpleNamespace(cuda=memory)
    assert card.free() == 1070
    card.empty()
    assert calls == ["empty"]


def test_memory_of_blocks_is_about_that_of_what_lies_in_it():
    """Rows and scores in half precision, the rows' errors in single, and shortlists."""
    (n, m), d, width = (1000, 30_000), 64, 50
    rows, scores, groups = 2 * (n + m) * d, 2 * n * m, 2 * n * m // 32
    errors, gathered = 4 * (n + m) * d, n * width * 32 * 2
    least = rows + errors + scores + 2 * groups + gathered
    assert least < cuda._Blocks(n, m).n_bytes(d, width) < 1.5 * least


def test_it_is_said_what_memory_is_needed(card, monkeypatch):
    def fail(*_):
        raise FULL[0]

    both, ranks, own = arguments(random())
    message = (
        rf"A search on device='{card}' needs \d\d? MB of its memory for the smallest "
        r"blocks, and \d+ MB are free\. Free some .*or device='cpu'\."
    )
    monkeypatch.setattr(cuda._Card, "free", lambda _: 1000)
    with pytest.raises(MemoryError, match=message):
        cuda.exact_neighbors(*both, 5, ranks, own=own, device=card)
    monkeypatch.undo()
    monkeypatch.setattr(cuda, "_largest", fail)
    with pytest.raises(MemoryError, match=message):
        cuda.exact_neighbors(*both, 5, ranks, own=own, device=card)


def test_other_errors_of_the_card_are_its_own(card, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(cuda, "_largest", fail)
    both, ranks, own = arguments(random())
    with pytest.raises(RuntimeError, match="illegal memory access"):
        cuda.exact_neighbors(*both, 5, ranks, own=own, device=card)


# ------------------------------------------------------------------------ estimators


def planted():
    """Directions around a few, with repeats, near repeats and zero rows, mixed up."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 32))[np.arange(900) % 8]
    X += 0.7 * rng.standard_normal(X.shape)
    near = np.repeat(X[:3], 80, axis=0) * (1 + 1e-6 * rng.standard_normal((240, 32)))
    X = np.vstack([X, X[:100], near, np.zeros((10, 32))])
    return X[rng.permutation(len(X))]


@pytest.mark.parametrize("hubness", ["csls", None])
@pytest.mark.parametrize("algorithm", ["auto", "exact"])
def test_labels_are_those_of_the_cpu(card, monkeypatch, hubness, algorithm):
    monkeypatch.setattr(search, "_EXACT_ROWS", 10)  # "auto" is exact for any number
    options = {"hubness": hubness, "random_state": 0}
    X = planted()
    expected = MutualKNNLeiden(20, algorithm="exact", **options).fit(X)
    found = MutualKNNLeiden(20, algorithm=algorithm, device="cuda", **options).fit(X)
    assert found.algorithm_ == "exact"
    assert found.knn_recall_ == 1
    assert_array_equal(found.labels_, expected.labels_)
    assert (found.affinity_matrix_ != expected.affinity_matrix_).nnz == 0
    assert_array_equal(found.kth_similarity_, expected.kth_similarity_)
    assert_array_equal(found.predict(X[:50]), expected.predict(X[:50]))


@pytest.mark.parametrize("k", [1, 15, 5000])
def test_graphs_are_those_of_the_cpu(card, k):
    X = planted()
    on_card = FaissKNeighborsTransformer(k, device="cuda")
    on_cpu = FaissKNeighborsTransformer(k, algorithm="exact")
    found, expected = on_card.fit_transform(X), on_cpu.fit_transform(X)
    for part in ("indptr", "indices", "data"):
        assert_array_equal(getattr(found, part), getattr(expected, part))
    assert (on_card.transform(X[:40]) != on_cpu.transform(X[:40])).nnz == 0


def test_vectors_may_be_mapped_or_tensors(card, tmp_path):
    X = random(1000)
    np.save(tmp_path / "x.npy", X)
    expected = MutualKNNLeiden(10, random_state=0).fit(X).labels_
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for given in (mapped, torch.tensor(X, device=card)):
        fitted = MutualKNNLeiden(10, device="cuda", random_state=0).fit(given)
        assert_array_equal(fitted.labels_, expected)


def test_all_rows_may_be_equal(card):
    fitted = MutualKNNLeiden(device="cuda", random_state=0).fit(np.ones((10, 3)))
    assert_array_equal(fitted.labels_, 0)


def test_progress_names_the_device(card, capfd):
    FaissKNeighborsTransformer(3, device="cuda", verbose=1).fit(random(300))
    assert f"Neighbors (exact, 300 rows on {card})" in capfd.readouterr().err


def test_what_was_fitted_with_a_card_is_of_use_without_one(card, monkeypatch, tmp_path):
    X = planted()
    fitted = MutualKNNLeiden(15, device="cuda", random_state=0).fit(X)
    save_estimator(tmp_path / "fitted.npz", fitted)
    monkeypatch.setattr(cuda, "find_device", None)
    loaded = load_estimator(tmp_path / "fitted.npz")
    assert loaded.device == "cuda"
    assert_array_equal(loaded.predict(X[:30]), fitted.predict(X[:30]))


def test_a_graph_of_distances_needs_no_device():
    X = planted()
    graph = FaissKNeighborsTransformer(40).fit_transform(X)
    options = {"metric": "precomputed", "random_state": 0}
    found = MutualKNNLeiden(20, device="cuda", **options).fit(graph)
    assert_array_equal(found.labels_, MutualKNNLeiden(20, **options).fit(graph).labels_)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:01", "cpu:0", 0])
@pytest.mark.parametrize("estimator", [FaissKNeighborsTransformer, MutualKNNLeiden])
def test_other_names_are_refused(estimator, device):
    message = (
        f"The 'device' parameter of {estimator.__name__} must be 'cpu', 'cuda' or the "
        f"name of one of several GPUs, such as 'cuda:1'. Got {device!r} instead."
    )
    with pytest.raises(ValueError, match=message):
        estimator(device=device).fit(np.eye(3))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_names_of_cards_are_taken(card, device):
    fitted = FaissKNeighborsTransformer(device=device).fit(np.eye(3))
    assert fitted.algorithm_ == "exact"


@pytest.mark.parametrize("algorithm", ["hnsw", "ivf"])
def test_approximate_searches_are_not_on_a_card(algorithm):
    with pytest.raises(
        ValueError,
        match=f"algorithm='{algorithm}' is not available on device='cuda', which "
        "compares all pairs. Use algorithm='exact' or 'auto', or device='cpu'",
    ):
        MutualKNNLeiden(algorithm=algorithm, device="cuda").fit(np.eye(3))


@pytest.mark.usefixtures("workers")
def test_dask_arrays_are_not_searched_on_a_card(card):
    da = pytest.importorskip("dask.array")
    with pytest.raises(
        ValueError,
        match=r"device='cuda' is not available for a Dask array, whose blocks are "
        r"compared on the workers\. Use device='cpu', or an array in this process",
    ):
        MutualKNNLeiden(device="cuda").fit(da.from_array(random(), (300, -1)))


def test_torch_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError,
        match=r"device='cuda' needs torch, built for CUDA: pip install "
        r'"skleiden\[torch\]" .* Or leave device=\'cpu\'',
    ):
        MutualKNNLeiden(device="cuda").fit(np.eye(3))


@pytest.mark.parametrize(
    ("version", "built"), [(None, "without CUDA"), ("12.4", "for CUDA 12.4")]
)
def test_a_card_is_asked_for(monkeypatch, version, built):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(
        ValueError,
        match=rf"device='cuda:1' needs a GPU that torch can use, and torch \S+, built "
        rf"{built}, finds none\. Check with torch\.cuda\.is_available\(\)",
    ):
        MutualKNNLeiden(device="cuda:1").fit(np.eye(3))


def test_a_number_of_no_card_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert cuda.find_device("cuda") == torch.device("cuda")
    assert cuda.find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(
        ValueError,
        match=r"device='cuda:2' does not exist: GPUs are numbered from 0, and torch "
        r"finds 2\. Use one of these, or device='cpu'",
    ):
        MutualKNNLeiden(device="cuda:2").fit(np.eye(3))


def test_a_card_is_looked_for_before_rows_are_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a GPU"):
        MutualKNNLeiden(device="cuda").fit(np.full((3, 3), np.nan, dtype=np.float32))


def test_half_precision_is_bounded_from_above():
    """Of numbers at the edge of rounding down, and of those too small for more."""
    halves = np.linspace(0, 1, 4097, dtype=np.float16)
    halves = np.concatenate(
        [halves, np.arange(40, dtype=np.float16) * np.float16(6e-8)]
    )
    above = np.nextafter(halves, np.float16(2))
    largest = (halves.astype(np.float64) + above) / 2  # which may become the lower one
    for sign in (-1, 1):
        scores = (sign * np.where(sign > 0, halves, above)).astype(np.float16)
        most = sign * largest
        bounds = cuda.unrounded(scores)
        assert (bounds >= most).all()
        assert (bounds <= most + np.abs(most) * 2.0**-10 + 2.0**-23).all()


@pytest.mark.parametrize("d", [1, 64, 4096])
def test_sums_in_single_precision_are_bounded_by_their_number_of_terms(d):
    unit_of_last_place = 2.0**-24
    assert 4 * d * unit_of_last_place < cuda.bound(d, 0.0, 0.0)
    assert cuda.bound(d, 0.0, 0.0) < 8 * d * unit_of_last_place
    # What rounding took from either adds to it, and from both, at most both.
    more = cuda.bound(d, 1e-3, 1e-4) - cuda.bound(d, 0.0, 0.0)
    assert 1.1e-3 < more < 1.2e-3
