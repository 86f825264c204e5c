"""``python -m tests``: everything that must hold, in the order of how fast it fails.

``python -m tests quick`` leaves out the tests that are slow, start a cluster or open a
browser. Further arguments go to pytest.
"""

import subprocess
import sys
from pathlib import Path

# Files run in as many processes as there are cores: several share costly fixtures. In
# the order of tests/conftest.py: by itself, xdist begins with files of many tests.
TESTS = ("pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
QUICK = ("-m", "not slow and not cluster and not browser")
ARGUMENTS = sys.argv[1:]
if ARGUMENTS[:1] == ["quick"]:
    ARGUMENTS[:1] = QUICK

COMMANDS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    (*TESTS, *ARGUMENTS),
)


def main() -> int:
    root = Path(__file__).parents[1]
    for module, *arguments in COMMANDS:
        print("$", module, *arguments, flush=True)
        run = subprocess.run([sys.executable, "-m", module, *arguments], cwd=root)
        if run.returncode:
            return run.returncode
    return 0


sys.exit(main())
