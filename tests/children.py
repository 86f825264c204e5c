"""Run hostile input, or any script, in a child process: a crash is a failed test.

Most of the time of a child is that of its imports. On Linux, children are therefore
forked from a server that has imported what is slow to, as a rule.
"""

import atexit
import contextlib
import importlib
import io
import json
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
    "message"; "peak", the memory that NumPy and Python took; and "printed", what went
    to the stream of errors. One child runs all cases; after one that kills or hangs it,
    whose "error" is "died" or "hung", another goes on. Modules that cases import are
    best preloaded: to import them while memory is watched is slow.
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
    assert outcome["peak"] < 2**26, outcome


def _main():
    module, function, cases, arguments, preload = json.loads(sys.stdin.read())
    answer = sys.stdout
    run = getattr(importlib.import_module(module), function)
    for name in preload:
        importlib.import_module(name)
    tracemalloc.start()
    for case in cases:
        tracemalloc.clear_traces()
        tracemalloc.reset_peak()
        outcome, printed = {}, io.StringIO()
        nowhere = contextlib.redirect_stdout(io.StringIO())
        try:
            with nowhere, contextlib.redirect_stderr(printed):
                outcome["result"] = run(case, *arguments)
        except Exception as error:
            outcome["error"], outcome["message"] = type(error).__name__, str(error)
            outcome["where"] = traceback.format_exc()[-2000:]
        outcome["peak"] = tracemalloc.get_traced_memory()[1]
        outcome["printed"] = printed.getvalue()
        print(json.dumps([case, outcome]), file=answer, flush=True)


if __name__ == "__main__":
    _main()
