"""Builds and runs the C++ tests: natively, with the sanitizers, and for 64-bit Arm under an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLCHAIN = ROOT / "tests" / "cpp" / "aarch64.cmake"

OPTIONS = ["-DDDS_EXT_PYTHON=OFF", "-DDDS_EXT_CUDA=off", "-DDDS_EXT_TESTS=ON"]
CONFIGURATIONS = {
    "native": [],
    "sanitized": ["-DDDS_EXT_SANITIZE=ON"],
    "aarch64": [f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}"],
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cpp(name: str, tmp_path: Path) -> None:
    if name == "aarch64":
        missing = [tool for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64") if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"needs {' and '.join(missing)} (Debian: g++-aarch64-linux-gnu, qemu-user)")

    # cmake and ninja from the environment that runs the tests, where it is not activated
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> None:
        result = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"

    run("cmake", "-G", "Ninja", *OPTIONS, *CONFIGURATIONS[name], str(ROOT))
    run("cmake", "--build", ".")
    run("ctest", "--output-on-failure", "--no-tests=error")
