"""What the estimators share in fitting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
