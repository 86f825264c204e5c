"""Run hostile input, or any script, in a child process: a crash is a failed test.

Most of the time of a child is that of its imports. On Linux, children are therefore
forked from a server that has imported what is slow to, as a rule.
"""

import atexit
import contextlib
import importlib
import io
import json
import mmap
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import threading
import traceback
import tracemalloc
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TIMEOUT = 60  # seconds for all; only a case that hangs takes them
PEAK = 2**26  # bytes that a hostile case may take

# What children import and is slow to. Neither skleiden nor FAISS: both tell processes
# that were forked after they were imported, and a child is none of them.
PRELOADED = [
    *("pytest", "numpy", "scipy.sparse", "scipy.sparse.csgraph", "scipy.stats"),
    *("sklearn.pipeline", "sklearn.decomposition", "sklearn.metrics"),
    *("sklearn.neighbors", "sklearn.model_selection", "joblib", "pandas", "igraph"),
    *("jinja2", "argparse"),
]


def outcomes(module, function, cases, *arguments, timeout=TIMEOUT, preload=()):
    """Give the outcome of ``function(case, *arguments)`` of a module for each case.

    An outcome has "result" (what was returned, which JSON must know) or "error" and
    "message"; "peak", the most bytes of memory that it took; and "printed", what went
    to the stream of errors. One child runs all cases; after one that kills or hangs it,
    whose "error" is "died" or "hung", another goes on. Modules that cases import are
    best preloaded: what an import takes is counted, too.
    """
    left, found = list(cases), {}
    while left:
        program = [sys.executable, "-X", "faulthandler", "-m", __name__]
        given = json.dumps(
            [module, function, left, [str(a) for a in arguments], list(preload)]
        )
        try:
            child = subprocess.run(
                program,
                cwd=ROOT,
                input=given,
                env=os.environ | {"MALLOC_ARENA_MAX": "1"},  # else 128 MB a thread
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=timeout,
            )
            output, end = child.stdout, {"error": "died", "message": child.stderr}
        except subprocess.TimeoutExpired as error:
            output = error.stdout or ""
            output = output.decode("utf-8") if isinstance(output, bytes) else output
            end = {"error": "hung", "message": ""}
        done = [json.loads(line) for line in output.splitlines()]
        found.update(done)
        left = left[len(done) :]
        if left:
            found[left.pop(0)] = end
    return found


def server(*preloaded):
    """Start the server of this process, if there is none: how processes are started.

    Elsewhere than on Linux, where numerical libraries may not be forked, it is by new
    interpreters.
    """
    if sys.platform != "linux":
        return "spawn"
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload([*PRELOADED, *preloaded])
    forkserver.ensure_running()
    return "forkserver"


@contextlib.contextmanager
def cluster(n_workers=2, **options):
    """A client of workers with a thread each, which are processes of the server.

    They are not watched while they work: samples of what they do, a hundred a second,
    would be half of the work of such small tasks.
    """
    import dask
    import distributed

    settings = {
        # Started before Dask does, which has a list of its own of what to preload.
        "distributed.worker.multiprocessing-method": server(
            "distributed", "dask.array"
        ),
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        # A worker that died is not waited for: its memory is asked for this long.
        "distributed.comm.timeouts.connect": "3s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=":0",
            **options,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def environment():
    """Of an interpreter that finds this package wherever it is started."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}


def start_script(script, *arguments):
    """A process of a script, from the server if there is one, and pipes to it."""
    script, arguments = textwrap.dedent(script), list(map(str, arguments))
    if server() == "forkserver":
        return _Script(script, arguments)
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run_script(script, *arguments, timeout=TIMEOUT):
    """Run a script to its end: its exit code, what it printed, and of errors."""
    process = start_script(script, *arguments)
    printed, error = process.communicate(timeout=timeout)
    return process.returncode, printed, error


class _Script:
    """What tests use of `subprocess.Popen`, for a process of the server."""

    def __init__(self, script, arguments):
        context = multiprocessing.get_context("forkserver")
        (there_in, here_in), (here_out, there_out), (here_error, there_error) = (
            context.Pipe(duplex=False) for _ in range(3)
        )
        theirs = there_in, there_out, there_error
        self._process = context.Process(
            target=_run_script, args=(script, arguments, theirs)
        )
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(os.dup(end.fileno()), mode, encoding="utf-8", errors="replace")
            for end, mode in ((here_in, "w"), (here_out, "r"), (here_error, "r"))
        )
        for end in (here_in, here_out, here_error):
            end.close()
        self.kill = self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        """The exit code, negative if it is that of a signal."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            self._process.join()
            pytest.fail(f"The script did not end in {timeout} seconds.")
        return self.returncode

    def communicate(self, timeout=TIMEOUT):
        """What was printed, and printed of errors, until the end."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        printed = {}
        readers = [
            threading.Thread(target=lambda s=s: printed.update({s: s.read()}))
            for s in (self.stdout, self.stderr)
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        for stream in (self.stdout, self.stderr):
            stream.close()
        return printed[self.stdout], printed[self.stderr]


def _run_script(script, arguments, streams):
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False)
        for number, mode in enumerate("rww")
    )
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out


def check_refused(outcome, message, errors=("ValueError",)):
    """The case ended in such an error with this message, and took little memory."""
    assert outcome.get("error") in errors, outcome
    if not re.search(message, outcome["message"], re.DOTALL):
        pytest.fail(f"{message!r} is not in {outcome['message']!r}")
    assert outcome["peak"] < PEAK, outcome


def _main():
    module, function, cases, arguments, preload = json.loads(sys.stdin.read())
    answer = sys.stdout
    run = getattr(importlib.import_module(module), function)
    for name in preload:
        importlib.import_module(name)
    for case in cases:
        outcome, printed = {}, io.StringIO()

        def attempt(case=case, printed=printed):
            nowhere = contextlib.redirect_stdout(io.StringIO())
            with nowhere, contextlib.redirect_stderr(printed):
                return run(case, *arguments)

        with _Peak() as peak:
            try:
                outcome["result"] = attempt()
            except Exception as error:
                outcome["error"], outcome["message"] = type(error).__name__, str(error)
                outcome["where"] = traceback.format_exc()[-2000:]
        outcome["printed"] = printed.getvalue()
        outcome["peak"] = peak.taken if peak.taken < PEAK else _traced(attempt)
        print(json.dumps([case, outcome]), file=answer, flush=True)


class _Peak:
    """How many bytes of addresses are taken within, at most at once: `taken`.

    No fewer than the memory that is, and quick to tell, if Linux does.
    """

    taken = sys.maxsize

    def __enter__(self):
        if sys.platform == "linux":
            gone, now = self._peak_and_size()
            # What was taken before and given back would hide what is taken now.
            self.gap = mmap.mmap(-1, max(gone - now, 1), mmap.MAP_PRIVATE, prot=0)
            self.before = self._peak_and_size()[0]
        return self

    def __exit__(self, *_):
        if sys.platform == "linux":
            self.taken = self._peak_and_size()[0] - self.before
            self.gap.close()

    def _peak_and_size(self):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
        return [1024 * int(sizes[name].split()[0]) for name in ("VmPeak", "VmSize")]


def _traced(attempt):
    """How many bytes NumPy and Python take in a further attempt.

    Libraries reserve far more addresses than they use. To watch each object makes a
    case take three times as long.
    """
    tracemalloc.start()
    try:
        with contextlib.suppress(Exception):
            attempt()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    _main()
