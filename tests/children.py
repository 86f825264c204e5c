"""Run hostile input in a child process, so that a crash is a failed test."""

import contextlib
import importlib
import io
import json
import re
import subprocess
import sys
import traceback
import tracemalloc
from pathlib import Path

import pytest

TIMEOUT = 60  # seconds for all; only a case that hangs takes them


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
                cwd=Path(__file__).parents[1],
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
