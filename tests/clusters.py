"""Dask clusters of processes, whose workers start in a moment, at first and again."""

import contextlib
import time

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


def await_workers(client):
    """Wait until there is a worker again for each whose process has ended.

    One is soon known to the scheduler, but if it dies before its nanny knows that it is
    there, the nanny starts no other.
    """
    nannies = client.cluster.workers.values()
    end = time.monotonic() + 60
    while len(client.nthreads()) < len(nannies) or any(
        nanny.status.name != "running" for nanny in nannies
    ):
        assert time.monotonic() < end, "a worker did not come back"
        time.sleep(0.01)
