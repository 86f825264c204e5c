"""Dask clusters of processes, whose workers start in a moment, at first and again."""

import contextlib

import dask
from distributed import Client, LocalCluster

from tests.children import server


@contextlib.contextmanager
def cluster(n_workers=2, **options):
    """A client of workers with a thread each, which are processes of the server."""
    # Before Dask, which has a list of its own of what to preload.
    method = server("distributed", "dask.array")
    method = {"distributed.worker.multiprocessing-method": method}
    options = {"threads_per_worker": 1, "dashboard_address": ":0"} | options
    with (
        dask.config.set(method),
        LocalCluster(n_workers=n_workers, **options) as local,
        Client(local) as client,
    ):
        yield client
