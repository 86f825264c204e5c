"""Threads that share tasks: order, errors, interruptions, and that they end."""

import itertools
import threading
import time

import pytest

from skleiden._kernels import pool as kernel
from skleiden._kernels.pool import Pool


def nothing():
    return None


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_tasks", [0, 1, 3, 200])
def test_results_are_in_the_order_of_tasks(n_threads, n_tasks):
    def slower_at_first(i):
        time.sleep(0.002 if i < 3 else 0)
        return i * i

    with Pool(n_threads, nothing) as pool:
        assert list(pool.map(slower_at_first, range(n_tasks))) == [
            i * i for i in range(n_tasks)
        ]
        # The same threads go on with others.
        assert list(pool.map(str, iter(range(n_tasks)))) == list(
            map(str, range(n_tasks))
        )
        assert len(pool.threads) == min(n_threads, n_tasks)
    assert not any(thread.is_alive() for thread in pool.threads)


def test_tasks_run_at_once_in_prepared_threads():
    both, prepared = threading.Barrier(2), []

    def meet(_):
        both.wait(30)
        return threading.current_thread() in prepared

    with Pool(2, lambda: prepared.append(threading.current_thread())) as pool:
        assert list(pool.map(meet, "ab")) == [True, True]
        assert threading.current_thread() not in prepared


def test_batches_begin_before_their_results_are_asked_for():
    begun = threading.Event()
    with Pool(1, nothing) as pool:
        first = pool.map(lambda _: begun.set(), "a")
        second = pool.map(str, range(3))
        assert begun.wait(30)
        assert list(second) == ["0", "1", "2"]
        assert list(first) == [None]


def test_results_come_while_others_are_made(monkeypatch):
    monkeypatch.setattr(kernel, "_SECONDS", 0.01)
    seen = threading.Event()

    def wait_for_the_first(i):
        assert i == 0 or seen.wait(30)
        return i

    with Pool(2, nothing) as pool:
        results = pool.map(wait_for_the_first, range(4))
        assert next(results) == 0
        seen.set()
        assert list(results) == [1, 2, 3]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_of_several_errors_the_first_task_has_its_own_raised(n_threads):
    done = []

    def fail(i):
        done.append(i)
        if i == 4:
            time.sleep(0.05)  # others fail before it
        if i >= 4:
            raise ValueError(f"task {i}")
        return i

    pool, given = Pool(n_threads, nothing), []
    with pytest.raises(ValueError, match=r"^task 4$"), pool:
        given.extend(pool.map(fail, range(1000)))
    assert given == [0, 1, 2, 3]
    assert len(done) < 10  # none was begun afterwards
    assert not any(thread.is_alive() for thread in pool.threads)


def test_errors_of_preparing_are_raised():
    def refuse():
        raise ImportError("no library")

    with pytest.raises(ImportError, match="no library"), Pool(2, refuse) as pool:
        list(pool.map(str, range(3)))


def test_errors_of_preparing_come_before_those_of_tasks():
    numbers, begun = itertools.count(), threading.Event()

    def refuse_the_second():
        if next(numbers) == 1:
            begun.wait(30)
            raise ImportError("no library")

    def fail(_):
        begun.set()
        raise ValueError("task")

    with (
        pytest.raises(ImportError, match="no library"),
        Pool(2, refuse_the_second) as pool,
    ):
        list(pool.map(fail, range(3)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_outside_ends_the_threads_soon(error):
    done, begun = [], threading.Event()

    def work(i):
        begun.set()
        time.sleep(0.01)
        done.append(i)

    def interrupted():
        with pool:
            pool.map(work, range(10_000))
            begun.wait(30)
            raise error

    pool = Pool(2, nothing)
    with pytest.raises(error):
        interrupted()
    assert len(done) < 100
    assert not any(thread.is_alive() for thread in pool.threads)


def test_what_is_left_is_done_before_the_end():
    done = []
    with Pool(2, nothing) as pool:
        pool.map(done.append, range(50))
    assert sorted(done) == list(range(50))


def test_an_error_that_was_raised_holds_no_arrays():
    """Its traceback has frames of threads, and these what their tasks had."""
    import gc
    import weakref

    class Array:
        pass

    def fail(_):
        held = Array()
        references.append(weakref.ref(held))
        raise ValueError("full")

    references = []
    gc.disable()
    try:
        try:
            with Pool(1, nothing) as pool:
                list(pool.map(fail, "a"))
        except ValueError:
            del pool
        assert [reference() for reference in references] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("text", "expected", "match"),
    [
        ("can't start new thread", MemoryError, r"No room for the 7 threads .*n_jobs"),
        ("another reason", RuntimeError, "another reason"),
    ],
)
def test_no_room_for_threads(monkeypatch, text, expected, match):
    started = threading.Thread.start

    def refuse(thread):
        if len(pool.threads) == 2:
            raise RuntimeError(text)
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = Pool(7, nothing)
    with pytest.raises(expected, match=match), pool:
        pool.map(str, range(20))
    assert len(pool.threads) == 2
    assert not any(thread.is_alive() for thread in pool.threads)
