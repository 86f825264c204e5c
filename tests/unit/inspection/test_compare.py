"""Two partitions compared."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import Communities, compare

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
    fitted = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(stack)
    found = compare(fitted, fitted[-1].labels_)
    assert found.ami == pytest.approx(1)
    assert repr(found).startswith("<Comparison: AMI 1.000, ARI 1.000 on 400 rows; 0 of")
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_frame(), pandas.DataFrame)
    with pytest.raises(TypeError, match=r"b must be a fitted clusterer.*Fit it first"):
        compare(fitted, MutualKNNLeiden())


def test_bad_input(tmp_path):
    with pytest.raises(
        ValueError, match=r"same rows; got 3 and 2 labels\. Give Commun"
    ):
        compare([0, 0, 1], [0, 1])
    with pytest.raises(ValueError, match="b: labels must be one integer per row"):
        compare([0, 1], [0.5, 1])
    with pytest.raises(TypeError, match=r"got the path .*Load it with skleiden\.io"):
        compare([0, 1], tmp_path)
    with pytest.raises(ValueError, match=r"min_share must be in \(0, 0.5\]; got 0"):
        compare([0, 1], [0, 1], min_share=0)
    one, other = Communities([0, 1], ids=["a", "b"]), Communities([0, 1], ids=[1, 2])
    with pytest.raises(
        ValueError, match=r"no row in common; got ids such as \['a', 'b"
    ):
        compare(one, other)
    with pytest.raises(ValueError, match=r"ids of b must not repeat.*got 1 different"):
        compare(one, Communities([0, 1], ids=["a", "a"]))
