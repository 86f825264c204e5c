"""Tables of labels, read again."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden.inspection import Communities
from skleiden.io import load_labels, save_communities, save_labels
from skleiden.io._partitions import load_partition

HOSTILE = ["=1+1", "'quoted", '"x",y', "line\nbreak", " space ", "-5", "@", "𝄞"]
LABELS = np.array([0, 0, 1, 1, -1, 2, 0, -1])


def known(**changes):
    full = {
        "labels": LABELS,
        "ids": HOSTILE,
        "texts": [f"{text} text" for text in HOSTILE],
        "names": {0: "=cats", 2: "dogs"},
        "confidence": np.linspace(0, 1, 8),
        "attached": LABELS == 2,
        "strength": np.linspace(1, 0, 8),
        "second": np.where(LABELS == 0, 1, -1),
    }
    return Communities(**(full | changes))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
def test_come_back_as_they_were(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    save_labels(path, known())
    found = load_labels(path)
    assert found.ids.tolist() == HOSTILE
    for name in ("texts", "names"):
        assert getattr(found, name) == getattr(known(), name)
    for name in ("labels", "confidence", "attached", "strength", "second"):
        assert_array_equal(getattr(found, name), getattr(known(), name))
        assert getattr(found, name).dtype == getattr(known(), name).dtype


def test_ids_keep_their_type_in_parquet_alone(tmp_path):
    for suffix, ids in ((".csv", ["7", "8"]), (".parquet", [7, 8])):
        path = tmp_path / f"labels{suffix}"
        save_labels(path, Communities([0, 0], ids=[7, 8]))
        found = load_labels(path)
        assert found.ids.tolist() == ids
        assert found.texts is found.confidence is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,text\na,b\n", r"has no column 'community'; it has id, text\. Give what"),
        ("", "has no column 'id'; it has none"),
        ("id,community\n", "is broken: it must hold rows; got none. Save the labels"),
        ("id,community\na,0.5\n", "must be an integer in each row; got '0.5' for the"),
        ("id,community\na,\n", "got '' for the id 'a'"),
        ("id,community\na,1_0\n", "got '1_0' for the id 'a'"),
        ("id,community\na,-" + "9" * 30, "is broken: "),
        ("id,community,second\na,0," + "9" * 30, "is broken: "),
        ("id,id,community\na,b,0\n", "has the column 'id' more than once. Give"),
        ("id,community\na,-2\n", "labels must be at least 0, or -1 for noise; got -2"),
        ("id,community\na,0\nb\n", r"must have 2 cells in each line.*got \['b'\]"),
        ("id,community,attached\na,0,yes\n", "must be True or False in each row; got"),
        (
            "id,community,confidence\na,0,x\n",
            "must be a number from 0 to 1 in each row",
        ),
        ("id,community,strength\na,0,1.5\n", "a number from 0 to 1 .* got '1.5' for"),
        ("id,community,strength\na,0,-inf\n", "a number from 0 to 1 .* got '-inf'"),
        ("id,community,second\na,0,7\n", "of the rows, at most 0; got 7. Save the"),
        ("id,community,second\na,0,-2\n", "second must be -1 or a community .*got -2"),
        ("id,community,name\na,0,x\nb,0,y\n", "got 'x' and 'y' for community 0. Save"),
        ('id,community\n"a,0\n', "is not a CSV file"),
    ],
)
def test_broken_tables_are_named(tmp_path, text, match):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=match) as error:
        load_labels(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_not_known_of_a_row_stays_so(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
    path = tmp_path / f"labels{suffix}"
    confidence = [0.5, np.nan, 1.0]
    save_labels(path, Communities([0, 0, -1], confidence=confidence, names={0: "a"}))
    found = load_labels(path)
    assert_array_equal(found.confidence, confidence)
    assert found.names == {0: "a"}


def test_fractions_in_parquet_are_refused(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "labels.parquet"
    pandas.DataFrame({"id": ["a", "b"], "community": [0.5, 1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"an integer in each row; got .*0\.5"):
        load_labels(path)


def test_what_is_no_table(tmp_path):
    (tmp_path / "labels.txt").write_text("id,community\na,0\n")
    with pytest.raises(ValueError, match=r"path must end in \.csv or \.parquet; got"):
        load_labels(tmp_path / "labels.txt")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_labels(tmp_path / "missing.csv")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_labels(tmp_path)


def test_a_folder_is_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no communities\.json and no label"):
        load_partition(tmp_path)
    save_labels(tmp_path / "labels.csv", Communities([0, 1]))
    assert load_partition(tmp_path).ids.tolist() == ["0", "1"]
    save_communities(tmp_path / "communities.json", Communities([0, 1, 1]))
    assert load_partition(tmp_path).ids.tolist() == [0, 1, 2]
    assert load_partition(tmp_path / "labels.csv").labels.size == 2
    assert load_partition(tmp_path / "communities.json").labels.size == 3


def test_nul_characters_come_back(tmp_path):
    ids, texts = ["a\0b", "\0", "c\0"], ["x\0y", "\0=1", "\0\0"]
    saved = Communities([0, 0, -1], ids=ids, texts=texts, names={0: "n\0m"})
    save_labels(tmp_path / "labels.csv", saved)
    found = load_labels(tmp_path / "labels.csv")
    assert (found.ids.tolist(), found.texts, found.names) == (ids, texts, {0: "n\0m"})
