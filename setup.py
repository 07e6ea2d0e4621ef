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
            str(ROOT),
        ]
        subprocess.run(configure, cwd=build, check=True)
        subprocess.run(["cmake", "--build", "."], cwd=build, check=True)
        subprocess.run(["cmake", "--install", "."], cwd=build, check=True)


setup(ext_modules=[Extension("dds_ext._cpu", sources=[])], cmdclass={"build_ext": CMakeBuild})
