"""scikit-learn's and SciPy's own tests of the functions that are replaced, with the patch on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SUITES = {
    # each package's tests that reach a function served here
    "sklearn": ("sklearn.metrics.tests.test_pairwise", "kernel or cosine or manhattan or euclidean"),
    "scipy": ("scipy.spatial.tests.test_distance", "cityblock or euclidean or cosine or correlation"),
}

# whose calls there are all of kinds that are served; the others' are also of sparse input and other metrics
WHOLLY_SERVED = {
    "sklearn": ["sklearn.metrics.pairwise.cosine_distances", "sklearn.metrics.pairwise.manhattan_distances"],
    "scipy": [],
}


@pytest.mark.parametrize("package", SUITES)
def test_suite_passes_with_the_patch(package: str, tmp_path: Path) -> None:
    module, chosen = SUITES[package]
    pytest.importorskip(module, reason=f"this {package} was installed without its tests")
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    plugins = ("-p", "patched", "-p", "no:cacheprovider")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "--pyargs", module, "-k", chosen],
        env=os.environ | {"DDS_PATCH": package, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
    served = {name: int(count) for name, count in re.findall(r"^(\S+): served (\d+)", run.stdout, re.MULTILINE)}
    assert served
    assert all(served.values()), served
    passed_on = {name: int(count) for name, count in re.findall(r"^(\S+): served .*passed on (\d+)", run.stdout, re.M)}
    assert {name: passed_on[name] for name in WHOLLY_SERVED[package]} == dict.fromkeys(WHOLLY_SERVED[package], 0)
