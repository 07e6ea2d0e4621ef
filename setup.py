"""Builds the extension modules through CMake; everything else stands in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CUDA = os.environ.get("DDS_EXT_CUDA", "").lower() or "auto"
# The compiler as packages, for machines with a driver and a CUDA build of torch but no toolkit.
NVCC_PACKAGES = ["nvidia-cuda-nvcc>=13,<14", "nvidia-cuda-runtime>=13,<14", "nvidia-cuda-cccl>=13,<14"]


def find_nvcc() -> str | None:
    """nvcc on PATH or by CUDACXX, else that of the packages above, where they are installed."""
    wanted = os.environ.get("CUDACXX")
    if wanted and shutil.which(wanted) is None:
        raise SystemExit(f"CUDACXX={wanted} is no program that can be run")
    found = wanted or shutil.which("nvcc")
    for folder in sys.path:
        packaged = Path(folder) / "nvidia" / "cu13" / "bin" / "nvcc"
        if not found and packaged.exists():
            found = str(packaged)
    return found


class CMakeBuild(build_ext):
    """Configures, builds and installs CMake's Python modules to where setuptools expects them."""

    def build_extension(self, ext: Extension) -> None:
        """Builds all modules at once: CMakeLists.txt is the one description of them."""
        destination = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve() / "cmake"
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake",
            "-G",
            "Ninja",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            f"-DCMAKE_INSTALL_PREFIX={destination}",
            # said anew: the one in the cache may have gone with the isolated environment of an earlier build
            f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DDDS_EXT_CUDA={CUDA}",
            f"-DDDS_EXT_CUDA_ARCHS={os.environ.get('DDS_EXT_CUDA_ARCHS', '').replace(',', ';')}",
            *([f"-DCMAKE_CUDA_COMPILER={nvcc}"] if CUDA != "off" and (nvcc := find_nvcc()) else []),
            str(ROOT),
        ]
        subprocess.run(configure, cwd=build, check=True)
        subprocess.run(["cmake", "--build", "."], cwd=build, check=True)
        for module in destination.glob("_cuda.*"):  # of an earlier build, which this one may not replace
            module.unlink()
        subprocess.run(["cmake", "--install", "."], cwd=build, check=True)


setup(
    ext_modules=[Extension("dds_ext._cpu", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    # build requirements that depend on the machine
    setup_requires=NVCC_PACKAGES if CUDA == "on" and not find_nvcc() else [],
)
