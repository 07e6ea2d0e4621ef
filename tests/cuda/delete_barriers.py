"""Deletes every barrier and every wait of the CUDA kernels in turn; test_kernels.cpp must notice each of them.

`python tests/cuda/delete_barriers.py` works on a copy of the sources: each deletion is compiled without optimisation,
and run with the threads in several orders until one of them shows it. All of it takes a few minutes on two cores. A
barrier that is redundant on purpose says why in a comment on its line: "redundant: ...". The exit status is 1 where a
deletion is not noticed, or one that is called redundant is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WAITS = re.compile(r"__syncthreads\(\);|__syncwarp\(\);|wait_copies<\d>\(\);|barrier_of_grid\([^;]*\);")
ORDERS = ("ascending", "descending", "1", "2")
SECONDS = 300
"""Of a run; what takes longer hangs, and has been noticed."""


def places() -> list[tuple[Path, int]]:
    """(file, line) of every barrier and wait of the kernels."""
    return [
        (path.relative_to(ROOT), number)
        for path in sorted((ROOT / "csrc" / "cuda").glob("*.h"))
        if path.name != "device.h"  # which defines them
        for number, line in enumerate(path.read_text().splitlines())
        if WAITS.search(line)
    ]


def done(*command: str | Path) -> None:
    """Runs it; an error stops everything."""
    result = subprocess.run(command, text=True, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def noticed(build: Path) -> str:
    """The first order of threads in which the tests fail, and what they say; empty where they pass in all."""
    done("cmake", "--build", build, "--target", "test_kernels", "--parallel", "2")
    for order in ORDERS:
        environment = {**os.environ, "DDS_EMULATED_ORDER": order}
        command = [build / "tests" / "cuda" / "test_kernels"]
        try:
            result = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"{order}: it never ends"
        if result.returncode != 0:
            return f"{order}: {(result.stderr.splitlines() or [f'status {result.returncode}'])[0]}"
    return ""


def main() -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        copy, build = Path(folder) / "copy", Path(folder) / "build"
        for part in ("csrc", "cmake", "tests"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "CMakeLists.txt", copy)
        done("cmake", "-S", copy, "-B", build, "-DDDS_EXT_TESTS=ON", "-DDDS_EXT_PYTHON=OFF", "-DDDS_EXT_CUDA=off")
        if why := noticed(build):
            sys.exit(f"nothing is deleted, and the tests fail: {why}")
        print("nothing deleted: the tests pass", flush=True)
        for path, number in places():
            lines = (ROOT / path).read_text().splitlines()
            redundant = "redundant:" in lines[number]
            lines[number] = WAITS.sub(";", lines[number])
            (copy / path).write_text("\n".join(lines) + "\n")
            why = noticed(build)
            shutil.copyfile(ROOT / path, copy / path)
            wrong += redundant == bool(why)
            said = f"noticed: {why}" if why else "NOT NOTICED"
            print(f"{path}:{number + 1}  {said}{', called redundant' if redundant else ''}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
