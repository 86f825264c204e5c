import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.neighbors import KNeighborsTransformer

import skleiden._kernels.ivf
import skleiden._stages.search
from skleiden import FaissKNeighborsTransformer, LayerStack, MutualKNNLeiden
from skleiden._kernels import ivf, knn
from tests.checks import brute_neighbors, unit_rows
from tests.children import run_script

# HNSW's graph of all vectors is made in this process alone.
SEARCHES = [
    ("here", "exact"),
    ("here", "hnsw"),
    ("here", "ivf"),
    ("on workers", "exact"),
    ("on workers", "ivf"),
]


def lists(graph):
    """Ids and distances of each row of a graph, without the row itself."""
    rows = []
    for i in range(graph.shape[0]):
        row = slice(graph.indptr[i], graph.indptr[i + 1])
        ids, distances = graph.indices[row], graph.data[row]
        assert ids[0] == i
        assert distances[0] == 0
        rows.append((ids[1:], distances[1:]))
    return rows


@pytest.mark.parametrize(("place", "algorithm"), SEARCHES, indirect=["place"])
@pytest.mark.parametrize("n_neighbors", [1, 10, 399])
def test_equals_brute_force(embedding, place, algorithm, n_neighbors):
    transformer = FaissKNeighborsTransformer(
        n_neighbors, algorithm=algorithm, target_recall=1.0, random_state=0
    )
    graph = transformer.fit_transform(place(embedding))
    ids, similarities = brute_neighbors(embedding, n_neighbors)
    rows = lists(graph)
    for i, (found, _) in enumerate(rows):
        assert found.size == n_neighbors
        assert i not in found
        assert len(set(found) & set(ids[i])) >= n_neighbors - 1
    # By similarity: float32 may round a tie to the other side.
    distances = np.stack([distances for _, distances in rows])
    np.testing.assert_allclose(1 - distances, similarities, atol=2e-6)
    assert transformer.knn_recall_ == 1.0
    assert transformer.algorithm_ == algorithm


def test_equals_scikit_learns_transformer(embedding, place):
    ours = FaissKNeighborsTransformer(7)
    theirs = KNeighborsTransformer(n_neighbors=7, metric="cosine")
    X = place(embedding)
    graph, expected = ours.fit_transform(X), theirs.fit_transform(embedding)
    assert graph.format == expected.format == "csr"
    assert graph.shape == expected.shape
    assert graph.nnz == expected.nnz
    np.testing.assert_allclose(graph.toarray(), expected.toarray(), atol=2e-6)
    new = embedding[:5] + 0.1 * embedding[5:10]
    np.testing.assert_allclose(
        ours.transform(place(new)).toarray(), theirs.transform(new).toarray(), atol=2e-6
    )
    for transformer in (ours, theirs):
        transformer.set_params(mode="connectivity")
    graph, expected = ours.fit_transform(X), theirs.fit_transform(embedding)
    np.testing.assert_array_equal(graph.toarray(), expected.toarray())


def test_scale_of_rows_does_not_matter(embedding, place):
    expected = FaissKNeighborsTransformer(5).fit_transform(embedding)
    factors = np.geomspace(1e-150, 1e150, 400)[:, None]
    scaled = FaissKNeighborsTransformer(5).fit_transform(
        place(embedding.astype(np.float64) * factors)
    )
    np.testing.assert_allclose(scaled.toarray(), expected.toarray(), atol=2e-6)


@pytest.mark.parametrize(("place", "algorithm"), SEARCHES, indirect=["place"])
def test_equal_rows_are_searched_once_and_listed_by_the_first(
    embedding, place, algorithm
):
    copies = np.concatenate([embedding[:100], np.repeat(embedding[:1], 60, axis=0)])
    transformer = FaissKNeighborsTransformer(10, algorithm=algorithm, random_state=0)
    found = lists(transformer.fit_transform(place(copies)))
    alone = lists(transformer.fit_transform(place(embedding[:100])))
    for (ids, distances), (expected, exact) in zip(found, alone, strict=False):
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_array_equal(distances, exact)
    for ids, distances in found[100:]:
        np.testing.assert_array_equal(ids, [0, *alone[0][0][:9]])
        assert distances[0] == 0
        assert (distances[1:] > 0).all()


def test_nearly_equal_rows_are_told_apart(place):
    X = np.eye(3)[[0, 0, 1, 2]] + 1e-4 * np.eye(4)[:, [1, 2, 0]]
    graph = FaissKNeighborsTransformer(2).fit_transform(place(X))
    assert graph[0, 1] > 0
    assert graph[0, 1] < 1e-6


def test_zero_rows_list_themselves_only(embedding, place):
    X = embedding[:50].copy()
    X[[3, 20]] = 0
    graph = FaissKNeighborsTransformer(5).fit_transform(place(X))
    counts = np.diff(graph.indptr)
    np.testing.assert_array_equal(np.flatnonzero(counts == 1), [3, 20])
    assert np.delete(counts, [3, 20]).tolist() == [6] * 48
    assert not np.isin(graph.indices, [3, 20])[np.repeat(counts, counts) > 1].any()
    # A zero query has no neighbours at all.
    fitted = FaissKNeighborsTransformer(5).fit(place(embedding))
    assert np.diff(fitted.transform(place(X[:5])).indptr).tolist() == [6, 6, 6, 0, 6]


@pytest.mark.parametrize("X", [np.zeros((6, 3)), np.ones((6, 3)), np.eye(6)[:2]])
def test_nothing_to_tell_apart(place, X):
    transformer = FaissKNeighborsTransformer(4)
    graph = transformer.fit_transform(place(X))
    assert graph.shape == (len(X), len(X))
    assert transformer.n_neighbors_ == min(4, len(X) - 1)
    assert transformer.transform(place(X)).shape == graph.shape


def test_n_neighbors_is_clipped(embedding, place):
    transformer = FaissKNeighborsTransformer(1000).fit(place(embedding))
    assert transformer.n_neighbors_ == 399
    assert transformer.n_neighbors == 1000


def test_a_row_alone_and_in_a_batch(embedding, place):
    fitted_on = place(embedding[:300])
    transformer = FaissKNeighborsTransformer(10).fit(fitted_on)
    batch = transformer.transform(place(embedding[300:]))
    alone = sp.vstack([transformer.transform(row[None]) for row in embedding[300:]])
    assert (batch != alone).nnz == 0
    whole = transformer.transform(fitted_on)
    assert (whole != transformer.fit_transform(fitted_on)).nnz == 0


@pytest.mark.parametrize("algorithm", ["exact", "hnsw", "ivf"])
def test_threads_and_repetition_change_nothing(embedding, algorithm, monkeypatch):
    monkeypatch.setattr(skleiden._kernels.knn, "_ROWS_AT_ONCE", 70)
    make = FaissKNeighborsTransformer(20, algorithm=algorithm, random_state=0)
    expected = make.fit_transform(embedding)
    for n_jobs in (1, 2, 4, -1):
        again = clone(make).set_params(n_jobs=n_jobs).fit_transform(embedding)
        assert (again != expected).nnz == 0


def test_thread_count_is_restored_even_after_an_error(embedding):
    import faiss

    before = faiss.omp_get_max_threads()
    with skleiden._kernels.knn.limit_threads(before + 3):
        assert faiss.omp_get_max_threads() == before + 3
    assert faiss.omp_get_max_threads() == before
    with pytest.raises(KeyboardInterrupt), skleiden._kernels.knn.limit_threads(1):
        raise KeyboardInterrupt
    assert faiss.omp_get_max_threads() == before


def hard_vectors():
    """Vectors without structure, which an approximate search finds hard."""
    X = np.random.RandomState(0).standard_normal((3000, 64)).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def grouped_vectors():
    """Vectors in thirty groups."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((30, 32))[rng.randint(30, size=3000)]
    X = (X + 0.4 * rng.standard_normal(X.shape)).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def recall_of(graph, X, k):
    """Share of all rows' true neighbours that a graph holds; ties count as found."""
    unit = unit_rows(X.astype(np.float64))
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    last = np.partition(similarities, -k, axis=1)[:, -k]
    return np.mean(
        [
            np.sum(1 - distances >= least - 2e-6) / k
            for least, (_, distances) in zip(last, lists(graph), strict=True)
        ]
    )


def test_recall_is_measured_and_raised_to_the_target():
    X = hard_vectors()
    weak = {"hnsw_m": 8, "ef_construction": 16, "ef_search": 1, "algorithm": "hnsw"}
    transformer = FaissKNeighborsTransformer(
        10, target_recall=0.9, random_state=0, **weak
    )
    graph = transformer.fit_transform(X)
    assert transformer.knn_recall_ >= 0.9
    found = recall_of(graph, X, 10)
    assert found >= 0.9
    assert abs(found - transformer.knn_recall_) < 0.03


def test_warns_where_the_recall_cannot_be_reached():
    X = hard_vectors()
    transformer = FaissKNeighborsTransformer(
        10,
        algorithm="hnsw",
        target_recall=1.0,
        hnsw_m=2,
        ef_construction=1,
        random_state=0,
    )
    with pytest.warns(UserWarning, match=r"reached a recall of 0\.\d+ .*Raise hnsw_m"):
        transformer.fit(X)
    assert transformer.knn_recall_ < 1.0


def test_auto_takes_what_compares_less(embedding, monkeypatch, capfd):
    assert FaissKNeighborsTransformer().fit(embedding).algorithm_ == "exact"
    # Equal rows do not count: they are searched once.
    monkeypatch.setattr(skleiden._stages.search, "_EXACT_ROWS", 400)
    X = np.concatenate([embedding, embedding[:50]])
    assert FaissKNeighborsTransformer().fit(X).algorithm_ == "exact"
    monkeypatch.setattr(skleiden._stages.search, "_EXACT_ROWS", 1000)
    # Where nothing is near to anything, lists would compare most pairs.
    cases = ((grouped_vectors(), 0.95, "ivf"), (hard_vectors(), 0.995, "exact"))
    for X, target_recall, algorithm in cases:
        transformer = FaissKNeighborsTransformer(
            10, target_recall=target_recall, random_state=0, verbose=1
        ).fit(X)
        assert transformer.algorithm_ == algorithm
        told = rf"Neighbors \({algorithm}, 3000 rows, lists compare \d+\.\d% of pairs\)"
        assert re.search(told, capfd.readouterr().err)


@pytest.mark.parametrize(
    ("place", "target_recall"),
    [("here", 0.8), ("here", 0.95), ("here", 0.99), ("on workers", 0.95)],
    indirect=["place"],
)
def test_ivf_keeps_its_promise(place, target_recall):
    X = grouped_vectors()
    transformer = FaissKNeighborsTransformer(
        10, algorithm="ivf", target_recall=target_recall, random_state=0
    )
    found = recall_of(transformer.fit_transform(place(X)), X, 10)
    assert found >= target_recall
    assert abs(found - transformer.knn_recall_) < 0.03
    assert transformer.knn_recall_ >= target_recall


def test_ivf_compares_all_where_the_target_is_1():
    X = hard_vectors()
    transformer = FaissKNeighborsTransformer(
        10, algorithm="ivf", target_recall=1.0, random_state=0
    )
    graph = transformer.fit_transform(X)
    assert recall_of(graph, X, 10) == transformer.knn_recall_ == 1.0


@pytest.mark.parametrize("target_recall", [0.9, 1.0])
def test_ivf_does_not_depend_on_threads_or_selections(target_recall, monkeypatch):
    X = grouped_vectors()
    graphs = []
    for n_jobs, waiting, stripe in ((1, 96, 4096), (2, 1, 300), (4, 1, 50)):
        monkeypatch.setattr(skleiden._kernels.ivf, "_WAITING", waiting)
        monkeypatch.setattr(skleiden._kernels.ivf, "_STRIPE_ROWS", stripe)
        transformer = FaissKNeighborsTransformer(
            10,
            algorithm="ivf",
            target_recall=target_recall,
            random_state=0,
            n_jobs=n_jobs,
        )
        graphs.append(transformer.fit_transform(X))
    assert (graphs[0] != graphs[1]).nnz == 0
    assert (graphs[0] != graphs[2]).nnz == 0


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_ivf_of_few_rows_equals_exact(embedding, place, n):
    X = place(embedding[:n])
    found = FaissKNeighborsTransformer(algorithm="ivf", random_state=0).fit_transform(X)
    expected = FaissKNeighborsTransformer(algorithm="exact").fit_transform(X)
    assert (found != expected).nnz == 0


def test_ivf_of_rows_of_few_columns():
    # Fewer columns than principal components, opposite rows, and one odd row out.
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    X[0] = [3.0, 4.0]
    found = FaissKNeighborsTransformer(5, algorithm="ivf", random_state=0)
    assert recall_of(found.fit_transform(X), X, 5) >= 0.95
    # The first principal component alone says nothing of the second list.
    X = np.ones((2000, 1))
    X[::2] = -1
    graph = FaissKNeighborsTransformer(5, algorithm="ivf").fit_transform(X)
    assert graph.shape == (2000, 2000)


def test_a_list_that_is_too_long_is_refused():
    code = skleiden._kernels.ivf._Code
    code.of(2**21, 2**21)
    with pytest.raises(ValueError, match=r"list of 8388608 rows .* algorithm='hnsw'"):
        code.of(2**23, 2**23)


def test_interrupted_ivf_leaves_threads_alone(monkeypatch):
    from threadpoolctl import threadpool_info

    def interrupt(*arguments):
        raise KeyboardInterrupt

    def threads():
        return [(lib["filepath"], lib["num_threads"]) for lib in threadpool_info()]

    FaissKNeighborsTransformer(5, algorithm="ivf").fit(grouped_vectors())
    before = threads()
    monkeypatch.setattr(skleiden._kernels.ivf, "_make_stripes", interrupt)
    transformer = FaissKNeighborsTransformer(5, algorithm="ivf", n_jobs=1)
    with pytest.raises(KeyboardInterrupt):
        transformer.fit(grouped_vectors())
    assert threads() == before
    assert not hasattr(transformer, "knn_recall_")


@pytest.mark.parametrize("make", [FaissKNeighborsTransformer, MutualKNNLeiden])
@pytest.mark.parametrize("algorithm", ["exact", "hnsw", "ivf"])
def test_parameters_may_be_numpys_integers(embedding, make, algorithm):
    numbers = {
        "n_neighbors": 10,
        "hnsw_m": 8,
        "ef_construction": 30,
        "ef_search": 20,
        "n_jobs": 2,
        "random_state": 0,
    }
    expected = make(algorithm=algorithm, **numbers).fit(embedding)
    numpys = {name: np.int64(number) for name, number in numbers.items()}
    found = make(algorithm=algorithm, **numpys).fit(embedding)
    if make is MutualKNNLeiden:
        np.testing.assert_array_equal(found.labels_, expected.labels_)
    else:
        graph = found.transform(embedding)
        assert (graph != expected.transform(embedding)).nnz == 0
        assert type(found.n_neighbors_) is int


def test_more_candidates_than_rows_are_as_many_as_rows(embedding):
    most = {"ef_construction": 2**31 - 1, "ef_search": 2**31 - 1}
    transformer = FaissKNeighborsTransformer(5, algorithm="hnsw", **most)
    assert transformer.fit(embedding).knn_recall_ == 1.0


def test_numbers_of_any_dtype(embedding, place):
    steps = np.rint(100 * embedding)
    expected = FaissKNeighborsTransformer(5).fit_transform(steps.astype(np.float32))
    for dtype in (np.int8, np.int64, np.float16, np.float64):
        X = place(steps.astype(dtype))
        found = FaissKNeighborsTransformer(5).fit_transform(X)
        assert (found != expected).nnz == 0


def test_a_failed_refit_changes_nothing(embedding, place):
    fitted, X = FaissKNeighborsTransformer(5), place(embedding)
    expected = fitted.fit(X).transform(X)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.set_params(n_neighbors=7).fit(place(np.full((50, 8), np.nan)))
    assert (fitted.transform(X) != expected).nnz == 0


def test_feature_names(embedding):
    names = FaissKNeighborsTransformer(3).fit(embedding[:4]).get_feature_names_out()
    assert names.tolist() == [f"faisskneighborstransformer{i}" for i in range(4)]


def test_unit_rows_are_not_copied(embedding):
    transformer = FaissKNeighborsTransformer(5).fit(embedding)
    assert np.shares_memory(transformer._distinct.vectors, embedding)
    scaled = 2 * embedding
    before = scaled.copy()
    FaissKNeighborsTransformer(5).fit(scaled)
    np.testing.assert_array_equal(scaled, before)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_only_if_asked(embedding, capfd, verbose):
    for algorithm in ("exact", "hnsw", "ivf"):
        FaissKNeighborsTransformer(
            5, algorithm=algorithm, verbose=verbose, random_state=0
        ).fit(embedding)
        assert (f"Neighbors ({algorithm}" in capfd.readouterr().err) == bool(verbose)


@pytest.mark.parametrize(
    ("X", "parameters", "error", "message"),
    [
        (np.eye(3), {"n_neighbors": 0}, ValueError, "'n_neighbors' parameter"),
        (np.eye(3), {"mode": "graph"}, ValueError, "'mode' parameter"),
        (np.eye(3), {"metric": "euclidean"}, ValueError, "'metric' parameter"),
        (np.eye(3), {"algorithm": "kd_tree"}, ValueError, "'algorithm' parameter"),
        (np.eye(3), {"target_recall": 0.0}, ValueError, "'target_recall' parameter"),
        (np.eye(3), {"hnsw_m": 1}, ValueError, "'hnsw_m' parameter"),
        (np.eye(3), {"ef_search": 0}, ValueError, "'ef_search' parameter"),
        (
            np.eye(3),
            {"ef_search": 2**40},
            ValueError,
            r"range \[1, 2147483647\]. Got 10",
        ),
        (
            np.eye(3),
            {"ef_construction": 2**31},
            ValueError,
            "in the range .* Got 21474",
        ),
        (np.eye(3), {"ef_construction": 0}, ValueError, "'ef_construction' parameter"),
        (np.ones((1, 3)), {}, ValueError, "minimum of 2 is required"),
        (np.ones((0, 3)), {}, ValueError, "0 sample"),
        (sp.eye_array(3).tocsr(), {}, TypeError, "[Ss]parse data was passed"),
        (np.array([["a", "b"], ["c", "d"]]), {}, ValueError, "strings"),
        (
            np.eye(3).astype("M8[D]"),
            {},
            TypeError,
            "real numbers; got dtype datetime64",
        ),
        (np.ones((2, 3, 4)), {}, TypeError, "LayerStack"),
        ([np.eye(2), np.eye(2)], {}, TypeError, "LayerStack"),
        (LayerStack([np.eye(3)]), {}, TypeError, "got a LayerStack. Embed it first"),
        ({"mlp": np.eye(3)}, {}, TypeError, r"matrix; got a dict. Embed it"),
        (sp.eye_array(3).todok(), {}, TypeError, "[Ss]parse data was passed"),
    ],
)
def test_bad_input(X, parameters, error, message):
    with pytest.raises(error, match=message):
        FaissKNeighborsTransformer(**parameters).fit(X)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_values_that_are_not_finite(place, value, what):
    X = place(np.array([[1.0, value], [1, 1]]))
    with pytest.raises(ValueError, match=f"contains {what}"):
        FaissKNeighborsTransformer().fit(X)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory marks"
)
def test_ivf_makes_no_second_copy_of_the_vectors():
    # In a process of its own: memory that others gave back would be used first.
    code = """
import numpy as np
from pathlib import Path
from skleiden import FaissKNeighborsTransformer

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

rng = np.random.default_rng(0)
centers = rng.standard_normal((50, 1024), dtype=np.float32)
X = np.empty((20_000, 1024), dtype=np.float32)
for rows in np.split(X, 100):
    rows[:] = centers[rng.integers(50, size=len(rows))]
    rows += rng.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
search = FaissKNeighborsTransformer(5, algorithm="ivf", random_state=0)
search.fit(X[:2000])
Path("/proc/self/clear_refs").write_text("5")
before = peak()
search.fit(X)
print((peak() - before) * 1024 / X.nbytes)
"""
    returncode, printed, error = run_script(code)
    assert returncode == 0, error
    assert float(printed) < 0.9


@pytest.mark.parametrize("k", [1, 4])
def test_stripe_keeps_the_best_and_knows_their_last(k):
    """Candidates of rows 10 to 13, more than there is room for."""
    rng = np.random.RandomState(0)
    n, keep = 1000, k + 3
    code = ivf._Code.of(n, 4)
    stripe = ivf._Stripe(10, 14, code, keep, np.empty(4 * (keep + 2), dtype=np.uint64))
    rows = np.repeat(np.arange(10, 14), 50)
    ids = np.concatenate([rng.permutation(n)[:50] for _ in range(4)])
    similarities = rng.uniform(-0.2, 1, rows.size).astype(np.float32)
    ids[::50], similarities[::50] = np.arange(10, 14), 1
    least = np.full(n, -2, dtype=np.float32)
    order = rng.permutation(rows.size)
    for some in np.array_split(order, 20):
        tails = code.tails(rows[some], ids[some], similarities[some])
        stripe.add(code.heads(rows[some] - 10) | tails, k, least)
    stripe.select(k, least)
    table = stripe.table(10, 14)
    assert table.shape == (4, keep)
    for row in range(4):
        own = slice(50 * row, 50 * (row + 1))
        best = np.argsort(-similarities[own], kind="stable")
        assert set(table[row]) == set(ids[own][best[:keep]])
        last = similarities[own][best[k]]
        assert last - 4e-6 <= least[10 + row] <= last
    np.testing.assert_array_equal(stripe.table(11, 13), table[1:3])
    assert (least[:10] == -2).all()
    assert (least[14:] == -2).all()


def test_the_longest_list_that_can_be_told_apart():
    """Rows, 21 bits of similarity and ids fill the 64 bits of a candidate."""
    ivf._Code.of(2**22, 2**21)
    with pytest.raises(ValueError, match=r"list of 2097153 rows among 4194304"):
        ivf._Code.of(2**22, 2**21 + 1)


def test_a_stripe_takes_in_what_comes_while_another_thread_has_it():
    """No thread waits: candidates are left, and taken in when the lock is free."""
    code, k = ivf._Code.of(100, 1), 2
    stripe = ivf._Stripe(5, 6, code, k + 2, np.empty(6, dtype=np.uint64))
    least = np.full(100, -2, dtype=np.float32)
    rows, ids = np.full(4, 5), np.array([5, 6, 7, 8])
    similarities = np.array([1, 0.9, 0.8, 0.7], dtype=np.float32)
    keys = code.heads(rows - 5) | code.tails(rows, ids, similarities)
    with stripe.lock:
        stripe.add(keys[2:], k, least)
    assert stripe.filled == 0
    stripe.add(keys[:2], k, least)
    assert stripe.filled == 4
    stripe.select(k, least)
    np.testing.assert_array_equal(stripe.table(5, 6), [ids])


def test_candidates_handed_on_in_parts_change_nothing(monkeypatch):
    X = grouped_vectors()
    graphs = []
    for at_once in (2**17, 1):
        monkeypatch.setattr(ivf, "_PAIRS_AT_ONCE", at_once)
        monkeypatch.setattr(ivf, "_ROWS_SCANNED", 1024 if at_once > 1 else 50)
        search = FaissKNeighborsTransformer(10, algorithm="ivf", random_state=0)
        graphs.append(search.fit_transform(X))
    assert (graphs[0] != graphs[1]).nnz == 0


@pytest.mark.parametrize("repeated", [False, True])
def test_order_by_keys_is_that_of_a_stable_sort(repeated):
    rng = np.random.default_rng(0)
    keys = (
        rng.integers(-3, 3, (3, 500))
        if repeated
        else rng.integers(-(9**9), 9**9, (3, 500))
    )
    keys[:, 100:110] = keys[:, 200:210]
    expected = np.lexsort(keys[::-1])
    np.testing.assert_array_equal(knn._ordered(*keys), expected)
    np.testing.assert_array_equal(knn._ordered(*keys[:, :1]), [0])
