"""Deletes every barrier and every wait of the CUDA kernels in turn; the emulated tests must notice each of them.

`python tests/cuda/delete_barriers.py` works on a copy of the sources, a minute or so for each. A barrier that is
redundant on purpose says so in a comment on its line: "redundant: ...".
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WAITS = re.compile(r"__syncthreads\(\);|__syncwarp\(\);|wait_copies<\d>\(\);|barrier_of_grid\([^;]*\);")


def places() -> list[tuple[Path, int]]:
    """(file, line) of every barrier and wait of the kernels."""
    return [
        (path.relative_to(ROOT), number)
        for path in sorted((ROOT / "csrc" / "cuda").glob("*.h"))
        if path.name != "device.h"
        for number, line in enumerate(path.read_text().splitlines())
        if WAITS.search(line) and "redundant:" not in line
    ]


def passes(copy: Path) -> bool:
    """Whether the tests pass; an error that is no failing test stops everything."""
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_cuda_emulated.py"]
    result = subprocess.run(tests, cwd=copy, text=True, capture_output=True)
    if result.returncode not in (0, 1):
        sys.exit(f"the tests do not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.returncode == 0


def survives(copy: Path, path: Path, number: int) -> bool:
    """Whether the tests pass without what stands there."""
    lines = (ROOT / path).read_text().splitlines()
    lines[number] = WAITS.sub(";", lines[number])
    (copy / path).write_text("\n".join(lines) + "\n")
    survived = passes(copy)
    shutil.copy(ROOT / path, copy / path)
    return survived


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", "build", "*.egg-info", "__pycache__", ".venv")
        )
        if not passes(copy):
            sys.exit("the tests fail as it is: build the sources in place first (CONTRIBUTING.md)")
        unnoticed = []
        for path, number in places():
            survived = survives(copy, path, number)
            print(f"{path}:{number + 1}  {'NOT NOTICED' if survived else 'noticed'}", flush=True)
            unnoticed += [f"{path}:{number + 1}"] * survived
    if unnoticed:
        sys.exit(f"the tests pass without {', '.join(unnoticed)}")


if __name__ == "__main__":
    main()
