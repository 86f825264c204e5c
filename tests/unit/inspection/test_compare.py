"""Two partitions compared."""

import json

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import make_layered_activations
from skleiden.inspection import Communities, compare
from skleiden.io import save_communities, save_labels

rng = np.random.RandomState(0)
LABELS = rng.randint(0, 5, 200)


def test_with_itself_and_with_other_numbers():
    for other in (LABELS, 4 - LABELS):
        found = compare(LABELS, other)
        assert found.ami == found.ari == 1
        assert not found.moved.any()
        assert found.splits == found.merges == {}
        np.testing.assert_array_equal(found.partner[LABELS], other)
        assert found.table["jaccard"].tolist() == [1] * 5


def test_known_split_and_merge():
    split = np.where((LABELS == 2) & (np.arange(200) % 3 == 0), 5, LABELS)
    found = compare(LABELS, split)
    assert found.splits == {2: [2, 5]}
    assert found.merges == {}
    np.testing.assert_array_equal(found.moved, split == 5)
    back = compare(split, LABELS)
    assert back.merges == {2: [2, 5]}
    assert back.splits == {}
    assert back.partner.tolist() == [0, 1, 2, 3, 4, -1]
    assert "communities 2 and 5 merged into 2" in back.describe()
    assert "community 2 split into 2 and 5" in found.describe()
    # A part below the share is no split.
    assert compare(LABELS, split, min_share=0.5).splits == {}


def test_scores_are_those_of_scikit_learn_with_noise_alone():
    other = np.where(rng.rand(200) < 0.6, LABELS, rng.randint(0, 8, 200))
    a, b = LABELS.copy(), other.copy()
    a[:20], b[10:25] = -1, -1
    found = compare(a, b)
    alone = [
        np.where(of < 0, 100 + np.arange(200), of) for of in (a, b)
    ]  # a row in no community is one of its own
    assert found.ami == pytest.approx(adjusted_mutual_info_score(*alone))
    assert found.ari == pytest.approx(adjusted_rand_score(*alone))
    assert found.moved[:10].all()
    assert not found.moved[10:20].any()


@pytest.mark.parametrize(
    ("a", "b", "ami"),
    [
        ([0, 0, 0], [0, 0, 0], 1),
        ([0, 1, 2], [0, 1, 2], 1),
        ([0, 0, 0], [0, 1, 2], 0),
        ([-1, -1], [-1, -1], 1),
        ([0], [0], 1),
        ([-1, -1], [0, 0], 0),
    ],
)
def test_one_community_and_rows_alone(a, b, ami):
    assert compare(a, b).ami == ami


def test_rows_are_found_by_their_ids():
    ids = np.array([f"q{i}" for i in range(200)])
    order = rng.permutation(200)[:150]
    a = Communities(LABELS[:180], ids=ids[:180])
    found = compare(a, Communities(LABELS[order], ids=ids[order]))
    assert found.ami == 1
    assert found.ids.tolist() == [of for of in ids[:180].tolist() if of in ids[order]]
    assert (found.n_only_a, found.n_only_b) == (
        180 - found.ids.size,
        150 - found.ids.size,
    )
    assert f"{found.n_only_b} rows are in the second alone" in found.describe()
    assert compare(a, LABELS[:180]).ids.tolist() == ids[:180].tolist()


def test_of_estimators(stack):
    estimator = fitted(stack)
    found = compare(estimator, estimator[-1].labels_)
    assert found.ami == pytest.approx(1)
    assert repr(found).startswith("<Comparison: AMI 1.000, ARI 1.000 on 400 rows; 0 of")
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_frame(), pandas.DataFrame)
    with pytest.raises(TypeError, match=r"b must be a fitted clusterer.*Fit it first"):
        compare(estimator, MutualKNNLeiden())


IDS = np.array([f"q{i}" for i in range(200)])
SPLIT = np.where((LABELS == 2) & (np.arange(200) % 3 == 0), 5, LABELS)


def test_order_of_rows_changes_nothing():
    order = rng.permutation(200)
    one = compare(Communities(LABELS, IDS), Communities(SPLIT, IDS))
    other = compare(
        Communities(LABELS[order], IDS[order]), Communities(SPLIT[::-1], IDS[::-1])
    )
    assert one.ami == other.ami
    assert one.ari == other.ari
    assert (one.splits, one.merges) == (other.splits, other.merges) == ({2: [2, 5]}, {})
    assert (
        set(one.ids[one.moved]) == set(other.ids[other.moved]) == set(IDS[SPLIT == 5])
    )
    for name in one.table:
        np.testing.assert_array_equal(one.table[name], other.table[name])


def test_matches_and_what_json_holds():
    found = compare(
        Communities(LABELS, IDS, names={2: "cats"}),
        Communities(SPLIT, IDS, keywords={2: ["cat", "kitten"], 5: [], 0: ["dog"]}),
    )
    matches = found.matches
    assert matches["n_common"].tolist() == sorted(matches["n_common"], reverse=True)
    assert matches["a"].tolist() == matches["b"].tolist()
    (two,) = np.flatnonzero(matches["a"] == 2)
    assert matches["size_a"][two] == np.count_nonzero(LABELS == 2)
    assert matches["size_b"][two] == matches["n_common"][two]
    assert matches["name_a"][two] == "cats"
    assert matches["name_b"][two] == "cat, kitten"
    assert found.describe()[-1] == "community 2 (cats) split into 2 (cat, kitten) and 5"
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["splits"] == [{"community": 2, "parts": [2, 5]}]
    assert plain["moved"] == [
        {"id": IDS[row], "a": 2, "b": 5} for row in np.flatnonzero(SPLIT == 5)
    ]
    assert plain["n_moved"] == len(plain["moved"])
    assert "<td>cats</td>" in found._repr_html_()


def save(folder, name, labels, ids=IDS, **known):
    """A folder as the command makes it, in as far as it is read."""
    folder = folder / name
    folder.mkdir()
    found = Communities(labels, ids, **known)
    save_communities(folder / "communities.json", found)
    save_labels(folder / "labels.csv", found)
    return folder


def test_files_and_folders(tmp_path):
    texts = [f"text {i}" for i in range(200)]
    one = save(tmp_path, "one", LABELS, texts=texts)
    two = save(tmp_path, "two", SPLIT[::-1], IDS[::-1], names={5: "new"})
    expected = compare(LABELS, SPLIT)
    for a in (one, str(one), one / "communities.json", one / "labels.csv"):
        for b in (two, two / "labels.csv"):
            found = compare(a, b)
            assert (found.ami, found.splits) == (expected.ami, {2: [2, 5]})
            assert found.names_b == {5: "new"}
            assert list(found.texts) == texts
    (two / "communities.json").unlink()  # as a run is that was interrupted
    assert compare(one, two).splits == {2: [2, 5]}


def test_ids_of_csv_files_are_strings(tmp_path):
    numbered = save(tmp_path, "numbered", LABELS, ids=range(500, 700))
    assert compare(numbered / "labels.csv", numbered).ami == 1
    assert compare(numbered, numbered / "labels.csv").ids[0] == 500


def test_labels_that_are_strings():
    words = np.array(["a", "b", "c", "d", "e", "f"])
    found = compare(words[LABELS], words[SPLIT])
    assert found.describe()[-1] == "community 2 (c) split into 2 (c) and 5 (f)"
    assert found.ami == compare(LABELS, SPLIT).ami
    noise = compare(["a", "-1", "a"], ["b", "-1", "b"])
    assert (noise.ami, noise.names_b) == (1, {0: "b"})


def test_row_numbers_that_may_be_of_other_rows():
    with pytest.raises(ValueError, match=r"must have ids.*numbers of 200 and of 150"):
        compare(Communities(LABELS), Communities(LABELS[:150]))
    # Texts tell that they are the same.
    texts = [f"text {i}" for i in range(200)]
    found = compare(
        Communities(LABELS, texts=texts), Communities(LABELS[:150], texts=texts[:150])
    )
    assert (found.ami, found.n_only_a, found.n_only_b) == (1, 50, 0)
    with pytest.raises(
        ValueError,
        match=r"the texts of 199 of 200 ids differ .* 'text 0' and 'text 1' for 0\.",
    ):
        compare(
            Communities(LABELS, texts=texts),
            Communities(LABELS, texts=[*texts[1:199], "text 199", "text 199"]),
        )
    changed = ["other", *texts[1:]]
    with pytest.warns(UserWarning, match="texts of 1 of 200 ids differ .* 'other' for"):
        compare(Communities(LABELS, texts=texts), Communities(LABELS, texts=changed))


def test_prompts_are_not_compared_with_neurons():
    known = {"texts": [""] * 200, "summary": {"modularity": 0.5}}
    prompts = Communities(LABELS, **known)
    assert compare(prompts, prompts).rows == "prompts"
    neurons = Communities(LABELS, summary={"rows": "neurons"})
    with pytest.raises(ValueError, match="of one kind; got prompts and neurons"):
        compare(prompts, neurons)
    assert compare(neurons, neurons).rows == "neurons"
    assert compare(neurons, LABELS).rows == "rows"  # which may be of anything


def fitted(stack, seed=0, **parameters):
    return make_pipeline(
        MultiLayerTfidfSketcher(layer_weights=None, random_state=seed),
        MutualKNNLeiden(random_state=seed, **parameters),
    ).fit(stack)


def test_layers_seeds_models_and_sets_of_prompts_in_a_line(tmp_path, stack, planted):
    first, second = (LayerStack({name: stack[name]}) for name in stack.names[:2])
    assert 0.5 < compare(fitted(first), fitted(second)).ami < 1
    assert compare(fitted(stack, 0), fitted(stack, 1)).ami > 0.9
    # Another model has other neurons, for the same prompts by the same ids.
    ids = [f"q{i}" for i in range(400)]
    order = np.argsort(planted, kind="stable")
    other, target = make_layered_activations(400, n_communities=4, random_state=5)
    by_theme = np.argsort(target, kind="stable")
    runs = {
        "model": (fitted(other[by_theme[:380]]), [ids[i] for i in order[:380]]),
        "prompts": (fitted(stack[:300]), ids[:300]),
    }
    whole = save(tmp_path, "whole", fitted(stack)[-1].labels_, ids)
    found = {
        name: compare(whole, save(tmp_path, name, estimator[-1].labels_, of_rows))
        for name, (estimator, of_rows) in runs.items()
    }
    assert (found["model"].n_only_a, found["prompts"].n_only_a) == (20, 100)
    assert found["prompts"].ami > 0.9
    assert found["model"].ami > 0.5


def test_many_rows():
    n = 300_000
    ids = np.array([f"q{i}" for i in range(n)])
    labels = rng.randint(0, 200, n)
    other = np.where(rng.rand(n) < 0.1, rng.randint(0, 200, n), labels)
    found = compare(Communities(labels, ids), Communities(other[::-1], ids[::-1]))
    assert np.count_nonzero(found.moved) == np.count_nonzero(labels != other)


def test_bad_input(tmp_path):
    with pytest.raises(
        ValueError, match=r"same rows; got 3 and 2 labels\. Give Commun"
    ):
        compare([0, 0, 1], [0, 1])
    with pytest.raises(ValueError, match="b: labels must be one integer per row"):
        compare([0, 1], [0.5, 1])
    with pytest.raises(FileNotFoundError, match=r"no communities.json and no labels"):
        compare([0, 1], tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*missing\.csv'"):
        compare([0, 1], str(tmp_path / "missing.csv"))
    with pytest.raises(ValueError, match=r"min_share must be in \(0, 0.5\]; got 0"):
        compare([0, 1], [0, 1], min_share=0)
    one, other = Communities([0, 1], ids=["a", "b"]), Communities([0, 1], ids=[1, 2])
    with pytest.raises(
        ValueError, match=r"no row in common; got ids such as \['a', 'b"
    ):
        compare(one, other)
    with pytest.raises(ValueError, match=r"ids of b must not repeat.*got 1 different"):
        compare(one, Communities([0, 1], ids=["a", "a"]))
