"""What all that deals with estimators shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.pipeline import Pipeline

# More threads than these, where there are fewer processors, make nothing faster; and
# where the system has no room for them, OpenMP ends the process. OpenBLAS takes over
# 100 MB of addresses for each, and crashes the process where these are limited.
_MOST_THREADS = 32


# Whether this process was forked, by which joblib's workers are not doubled: a child
# that asked its parent's for something would wait for ever.
_is_forked = False


def _after_fork() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


def processes(n_jobs: int | None) -> int | None:
    """`n_jobs` for processes: one in a forked child, and no more than can be of use."""
    return 1 if _is_forked else at_most_useful(n_jobs)


def at_most_useful(n_jobs: int | None) -> int | None:
    """`n_jobs` without those that could only do harm."""
    most = max(_MOST_THREADS, os.cpu_count() or 1)
    return None if n_jobs is None else min(int(n_jobs), most)


@contextmanager
def all_or_nothing(estimator: object) -> Iterator[None]:
    """Undo what is set on an estimator inside if it fails.

    Half of one fit beside half of another would give wrong results, or have compiled
    code read outside of arrays. Arrays changed in place are not restored.
    """
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def final_step(estimator: Any) -> tuple[str, Any]:
    """Give the last step of nested pipelines, and the prefix of its parameters."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def fitted_sketcher(estimator: Any) -> Any:
    """Give the fitted `MultiLayerTfidfSketcher` in an estimator, or None."""
    while hasattr(estimator, "estimator_"):  # a StableLeiden
        estimator = estimator.estimator_
    steps = [step for _, step in getattr(estimator, "steps", [])]
    return next((step for step in steps if hasattr(step, "layer_names_")), None)


def fitted_clusterer(estimator: Any) -> Any:
    """Give the fitted `MutualKNNLeiden` at the end of an estimator."""
    _, last = final_step(estimator)
    while hasattr(last, "estimator_"):  # a StableLeiden
        _, last = final_step(last.estimator_)
    if not (hasattr(last, "labels_") and hasattr(last, "affinity_matrix_")):
        raise TypeError(
            "Takes a fitted MutualKNNLeiden, or a pipeline or StableLeiden of one; got "
            f"{type(last).__name__} without labels_ and affinity_matrix_. Fit it first."
        )
    return last


def fitted_labelling(estimator: Any) -> Any:
    """Give the fitted clusterer, of any kind, at the end of an estimator."""
    _, last = final_step(estimator)
    if not hasattr(last, "labels_"):
        raise TypeError(
            "estimator must be a clusterer, or a pipeline that ends in one, with "
            f"labels_ after fit; {type(last).__name__} has none. Fit it first, or use "
            "another."
        )
    return last
