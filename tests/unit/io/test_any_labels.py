"""Labels of any size in files and AnnData: gaps cost nothing and are no error."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden.inspection import Communities
from skleiden.io import load_labels, save_labels, to_anndata

LARGEST = 2**63 - 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("large", [4, 20_000_000, LARGEST])
def test_labels_that_are_saved_are_loaded(tmp_path, suffix, large):
    """Those of some rows, as of Communities(labels[some], ids[some])."""
    if suffix == ".parquet":
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
    given = Communities([0, large, -1], ["a", "b", "c"], names={large: "far"})
    save_labels(tmp_path / f"a{suffix}", given)
    found = load_labels(tmp_path / f"a{suffix}")
    assert_array_equal(found.labels, given.labels)
    assert found.names == given.names


def test_a_label_that_no_integer_holds_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,community\na,{LARGEST + 1}\n")
    with pytest.raises(ValueError, match=r"is broken: .*too large"):
        load_labels(tmp_path / "a.csv")


@pytest.mark.parametrize("large", [4, LARGEST])
@pytest.mark.filterwarnings("ignore")
def test_anndata_has_a_category_for_each_label_that_rows_have(large):
    pytest.importorskip("anndata", exc_type=ImportError)
    labels = np.array([large, 0, -1, 2, 0])
    found = to_anndata(Communities(labels, [*"abcde"])).obs["community"]
    assert found.cat.categories.tolist() == ["0", "2", str(large)]
    told = found.astype(object).where(found.notna(), "-1")
    assert told.tolist() == [*map(str, labels.tolist())]
