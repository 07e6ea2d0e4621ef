"""A pytest plugin for other packages' own tests: the packages that DDS_PATCH names are patched for the whole run.

``DDS_PATCH=scipy python -m pytest -p patched --pyargs scipy.spatial.tests.test_distance`` in this folder. rsatoolbox's
wheel has no tests; those of its source archive 0.0.4 run with later versions: copy them to a folder of their own, and
there, with this folder on PYTHONPATH, ``DDS_PATCH=rsatoolbox python -m pytest -p patched test_compare_rdm.py``. Its
test_noise_ceiling.py needs `parameterized`, from PyPI.
"""

from __future__ import annotations

import os

import pytest

from dds_ext import compat

PATCH = compat.patch(*os.environ["DDS_PATCH"].split())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, calls in PATCH.counts.items():
        terminalreporter.write_line(f"{name}: served {calls.served}, passed on {calls.passed_on}")
