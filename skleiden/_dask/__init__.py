"""The estimators' work on Dask arrays: imported only where one comes in.

All of it is lazy tasks on blocks of rows, run by whatever scheduler is the default: a
cluster's, where a :class:`distributed.Client` is open. What is kept between stages is
persisted on the workers, which make it again if one of them is lost.

An embedding is held as `Shards`, blocks of some 100 MB of its distinct rows. A search
compares every shard with every other (for "ivf" after the rows have been brought to
shards of whole lists), and a row's neighbours are merged from those found in each; an
edge is made where what two shards list of one another meets. A worker so needs two
shards at a time. What has a few bytes a row (hashes, numbers, labels) is gathered.
"""

from ._arrays import each_block, fold_rows, map_rows
from ._graph import UnionRows, affinity
from ._plan import RowsOnWorkers
from ._search import gather, last_neighbors, measured, search
from ._shards import distinct_rows, nearest_fitted
from ._tasks import call, fetch

__all__ = [
    "RowsOnWorkers",
    "UnionRows",
    "affinity",
    "call",
    "distinct_rows",
    "each_block",
    "fetch",
    "fold_rows",
    "gather",
    "last_neighbors",
    "map_rows",
    "measured",
    "nearest_fitted",
    "search",
]
