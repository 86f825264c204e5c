"""``python -m tests``: everything that must hold, in the order of how fast it fails."""

import subprocess
import sys
from pathlib import Path

COMMANDS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("pytest", *sys.argv[1:]),
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
