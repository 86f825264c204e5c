"""Labels as a table, one row for each sample."""

from __future__ import annotations

import os
from pathlib import Path

from skleiden.inspection import Communities

from ._files import as_csv, check_place, write_whole


def save_labels(path: str | os.PathLike[str], communities: Communities) -> None:
    """Save the community of each row as CSV or Parquet.

    Parameters
    ----------
    path : path-like
        The file, written whole or not at all: ``.csv``, or ``.parquet``, which needs
        pandas and pyarrow.

    communities : Communities
        From :func:`skleiden.inspection.describe_communities`, or
        ``Communities(labels, ids)``.

    Raises
    ------
    ValueError
        If the name ends in something else.

    ImportError
        If Parquet is asked for, and pandas or pyarrow is not installed.

    OSError
        If the file cannot be written, as in `save_communities`.

    Notes
    -----
    Columns are ``id``, ``community`` (-1 is noise) and, where known, ``confidence``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.io import save_labels
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> save_labels(path, Communities([0, 0, -1], ids=["q1", "q2", "q3"]))
    >>> print(path.read_text(), end="")
    id,community
    q1,0
    q2,0
    q3,-1
    """
    suffix = Path(path).suffix.lower()
    columns = {
        "id": communities.ids.tolist(),
        "community": communities.labels.tolist(),
    }
    if communities.confidence is not None:
        columns["confidence"] = communities.confidence.tolist()
    if suffix == ".csv":
        write_whole(path, as_csv(columns))
    elif suffix == ".parquet":
        check_place(path)
        try:
            import pandas as pd

            content = pd.DataFrame(columns).to_parquet(index=False)
        except ImportError as error:
            raise ImportError(
                "Parquet needs pandas and pyarrow: pip install pandas pyarrow. A .csv "
                "needs neither."
            ) from error
        write_whole(path, content)
    else:
        raise ValueError(f"path must end in .csv or .parquet; got {str(path)!r}.")
