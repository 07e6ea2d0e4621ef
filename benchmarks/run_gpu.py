"""Builds, tests and times the CUDA part on a machine with a GPU, offline: `python benchmarks/run_gpu.py`.

Needs nvcc, cmake, ninja, pybind11, torch and NumPy; pytest for the tests, compute-sanitizer for the sanitizer. Writes
benchmarks/results/gpu.json, case by case.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "gpu"
STAGE = BUILD / "stage"
OUTPUT = ROOT / "benchmarks" / "results" / "gpu.json"

SIZES = ((200, 2048), (1000, 2048), (4096, 2048), (5000, 2048), (200, 100352))
BATCH = 20
STEPS = {"linear": 0, "cosine": 0, "pearson": 0, "sqeuclidean": 1, "euclidean": 1, "rbf": 1}
SMALL_CASE = """
import torch, dds_ext
for n, d in ((37, 70), (260, 40)):
    X = torch.randn(n, d, device="cuda")
    for f in dds_ext.METRICS:
        dds_ext.rdm(X, f, normalize="zscore", center="unbiased")
    dds_ext.rdm(X.double(), "rbf", normalize="layer", center="double")
torch.cuda.synchronize()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{STAGE}{os.pathsep}{ROOT / 'tests'}"}


def run(*command: str, timeout: float | None = None) -> tuple[int, str, float]:
    """Exit status, the end of what it printed, and the seconds it took."""
    start = time.perf_counter()
    try:
        result = subprocess.run(
            command,
            cwd=STAGE if STAGE.exists() else ROOT,
            env=environment(),
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        code, text = result.returncode, result.stdout + result.stderr
    except subprocess.TimeoutExpired as error:
        code, text = 124, f"stopped after {error.timeout:.0f} s"
    return code, text[-6000:], time.perf_counter() - start


def build() -> dict[str, Any]:
    """Compiles for the GPUs present, and stages the package beside its modules."""
    import pybind11

    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    shutil.copytree(ROOT / "dds_ext", STAGE / "dds_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    configure = ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(BUILD), "-DDDS_EXT_CUDA=on"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    seconds = 0.0
    for command in (
        configure,
        ["cmake", "--build", str(BUILD)],
        ["cmake", "--install", str(BUILD), "--prefix", str(STAGE / "dds_ext")],
    ):
        code, text, took = run(*command)
        seconds += took
        if code:
            sys.exit(f"{' '.join(command)} failed:\n{text}")
    return {"seconds": seconds}


def tests() -> dict[str, Any]:
    code, text, seconds = run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests" / "test_cuda.py"),
        timeout=240,
    )
    print(text)
    return {"exit": code, "last_line": text.strip().splitlines()[-1], "seconds": seconds}


def sanitizer() -> dict[str, Any]:
    if shutil.which("compute-sanitizer") is None:
        return {"skipped": "compute-sanitizer is not on PATH"}
    found = {}
    for tool in ("memcheck", "racecheck"):
        code, text, seconds = run(
            "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SMALL_CASE, timeout=90
        )
        print(text[-2000:])
        found[tool] = {"exit": code, "last_line": text.strip().splitlines()[-1], "seconds": seconds}
    return found


def seconds_of(call: Callable[[], Any], budget: float = 0.4) -> dict[str, float]:
    """Median, best and quartiles of the device time of a call, from events around each."""
    import numpy as np
    import torch

    def sample() -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = call()
        end.record()
        end.synchronize()
        del result
        return float(begin.elapsed_time(end)) / 1e3

    sample()
    first = max(sample(), 1e-6)
    times = [sample() for _ in range(int(np.clip(budget / first, 5, 200)))]
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75])
    return {
        "median_s": float(median),
        "best_s": min(times),
        "lower_quartile_s": float(lower),
        "upper_quartile_s": float(upper),
        "samples": len(times),
    }


def roofs() -> dict[str, Any]:
    """Pair-elements, or multiply-adds, a second by inner step, and bytes a second of a copy (read and written)."""
    import torch

    from dds_ext import _cuda_backend

    kernels = _cuda_backend.module()
    sink = torch.zeros(1, device="cuda")
    stream = torch.cuda.current_stream().cuda_stream
    blocks = 2 * torch.cuda.get_device_properties(0).multi_processor_count
    found: dict[str, Any] = {}
    for index, name in enumerate(kernels.roofs()):

        def loop(steps: int, index: int = index) -> int:
            return int(kernels.start_roof(index, steps, blocks, sink.data_ptr(), stream))

        steps = 20_000
        found[name] = loop(1) * steps / seconds_of(lambda loop=loop, n=steps: loop(n))["best_s"]
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    found["copy_bytes"] = 2 * source.numel() * 4 / seconds_of(lambda: target.copy_(source))["best_s"]
    return found


def exact_rows(X: Any, f: str, rows: Any) -> Any:
    """Rows of the matrix in float64, on the device."""
    import torch

    Z, A = X.double(), X[rows].double()
    if f in ("laplacian", "manhattan"):
        d = torch.stack([(Z - a).abs().sum(1) for a in A])
        return torch.exp(-d / X.shape[1]) if f == "laplacian" else d
    if f in ("sqeuclidean", "euclidean"):
        d = torch.stack([(Z - a).square().sum(1) for a in A])
        return d.sqrt() if f == "euclidean" else d
    if f == "pearson":
        Z, A = Z - Z.mean(1, keepdim=True), A - A.mean(1, keepdim=True)
    if f in ("pearson", "cosine"):
        return 1 - (A / A.norm(dim=1, keepdim=True)) @ (Z / Z.norm(dim=1, keepdim=True)).T
    return A @ Z.T


def contenders(X: Any, f: str) -> dict[str, Callable[[], Any]]:
    """Ways of others to the same matrix, the exponential or root included; TF32 stays off.

    KeOps is not among them: it makes no matrices.
    """
    import torch

    d = X.shape[1]
    ways: dict[str, Callable[[], Any]] = {}
    if f == "laplacian":
        ways["torch.cdist p=1"] = lambda: torch.exp(torch.cdist(X, X, p=1) / -d)
    if f == "manhattan":
        ways["torch.cdist p=1"] = lambda: torch.cdist(X, X, p=1)
    if f == "euclidean":
        ways["torch.cdist p=2"] = lambda: torch.cdist(X, X)
        exact = "donot_use_mm_for_euclid_dist"
        ways["torch.cdist p=2, differences"] = lambda: torch.cdist(X, X, compute_mode=exact)
    if f == "linear":
        ways["torch X @ X.T"] = lambda: X @ X.T
    if f == "pearson":
        ways["torch.corrcoef"] = lambda: 1 - torch.corrcoef(X)
    metric = {"manhattan": "cityblock", "pearson": "correlation"}.get(f, f)
    if metric in ("cityblock", "sqeuclidean", "euclidean", "cosine", "correlation"):
        if find_spec("cuvs"):
            from cuvs.distance import pairwise_distance

            ways["cuVS pairwise_distance"] = lambda: torch.as_tensor(pairwise_distance(X, X, metric=metric))
        if find_spec("cupyx"):
            import cupy
            from cupyx.scipy.spatial.distance import cdist

            ways["CuPy cdist"] = lambda: torch.as_tensor(cdist(cupy.asarray(X), cupy.asarray(X), metric))
    return ways


def cases(results: dict[str, Any], save: Callable[[], None]) -> None:
    import torch

    import dds_ext

    torch.manual_seed(0)
    for n, d in SIZES:
        X = torch.randn(n, d, device="cuda").relu() * torch.rand(d, device="cuda").mul(2)
        rows = torch.linspace(0, n - 1, 5, device="cuda").long()
        for f in ("laplacian", "manhattan", "sqeuclidean", "euclidean", "linear", "cosine", "pearson", "rbf"):
            step = {0: "dot", 1: "squared_difference", 2: "absolute_difference"}[STEPS.get(f, 2)]
            entry: dict[str, Any] = {}
            elements = n * (n - 1) // 2 * d
            ours = {
                "dds_ext": lambda f=f, X=X: dds_ext.rdm(X, f, check_finite=False),
                "dds_ext, checked": lambda f=f, X=X: dds_ext.rdm(X, f),
                "dds_ext, zscore and unbiased": lambda f=f, X=X: dds_ext.rdm(
                    X, f, normalize="zscore", center="unbiased", check_finite=False
                ),
            }
            if f != "rbf":
                exact = exact_rows(X, f, rows)
            for name, call in {**ours, **contenders(X, f)}.items():
                entry[name] = seconds_of(call)
                entry[name]["fraction_of_roof"] = elements / entry[name]["median_s"] / results["roofs"][step]
                if f != "rbf" and "zscore" not in name:
                    difference = (call()[rows].double() - exact).abs()
                    difference[torch.arange(len(rows)), rows] = 0
                    entry[name]["largest_error"] = float(difference.max())
            results["cases"][f"{f}-{n}x{d}"] = entry
            best = entry["dds_ext"]
            print(f"{f}-{n}x{d}: " + "  ".join(f"{k} {v['median_s'] * 1e3:.3f} ms" for k, v in entry.items()))
            print(f"    {best['fraction_of_roof']:.1%} of the roof, error {best.get('largest_error')}")
            save()
    for n, d in ((200, 2048), (200, 100352)):
        models = [torch.randn(n, d, device="cuda") for _ in range(BATCH)]
        timed = seconds_of(lambda models=models: dds_ext.affinity(models), budget=1)
        results["cases"][f"affinity-{BATCH}x{n}x{d}"] = {"dds_ext": timed}
        print(f"affinity-{BATCH}x{n}x{d}: {timed['median_s'] * 1e3:.3f} ms")
        save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--skip", action="append", default=[], choices=["tests", "sanitizer", "cases"])
    arguments = parser.parse_args()
    results: dict[str, Any] = {"build": build(), "cases": {}}

    def save() -> None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.output.with_name(f".{arguments.output.name}.tmp")
        temporary.write_text(json.dumps(results, indent=1) + "\n")
        os.replace(temporary, arguments.output)

    sys.path.insert(0, str(STAGE))
    import torch

    import dds_ext

    if not torch.cuda.is_available():
        sys.exit("there is no GPU here, or this torch was built without CUDA")
    results["machine"] = {
        "gpu": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "dds_ext": dds_ext.info(),
    }
    save()
    if "tests" not in arguments.skip:
        results["tests"] = tests()
        save()
    if "sanitizer" not in arguments.skip:
        results["sanitizer"] = sanitizer()
        save()
    if "cases" not in arguments.skip:
        results["roofs"] = roofs()
        print(results["roofs"])
        cases(results, save)
    save()


if __name__ == "__main__":
    main()
