"""The measuring command for GPUs, without one: what it does with its time and with what fails, and its oracle."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import CENTERINGS, METRICS, NORMALIZATIONS, features

import dds_ext
from dds_ext import _cuda_backend, reference

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import gpu_cases  # noqa: E402
import gpu_exact  # noqa: E402
import gpu_measure  # noqa: E402
import gpu_worker  # noqa: E402
import run_gpu  # noqa: E402

CPU = torch.device("cpu")

# A worker of five cases: one breaks the process, one says nothing any more.
WORKER = """
import json, os, sys, time
names = sys.argv[1:] or ["roofs", "first", "breaks", "hangs", "last"]
def say(**message): print(json.dumps(message), flush=True)
print("noise of a library")
say(names=names)
for name in names:
    say(begins=name)
    if name == "roofs":
        say(roof="dot", rate=100.0)
    else:
        say(case=name, about="a case")
        say(case=name, contender="dds_ext", median_s=0.5, best_s=0.25, pair_elements=10, step="dot")
    if name == "breaks":
        print("an illegal address", file=sys.stderr)
        os._exit(7)
    if name == "hangs":
        time.sleep(600)
    say(ends=name)
"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a worker's source; the results, which were saved too."""
    monkeypatch.setattr(run_gpu, "CASE_SECONDS", 2)

    def measure(source: str, seconds: float = 30, names: tuple[str, ...] = ()) -> dict[str, Any]:
        output = tmp_path / "gpu.json"
        results: dict[str, Any] = {"cases": {}}
        run_gpu.cases([sys.executable, "-c", source], names, seconds, results, output)
        assert json.loads(output.read_text()) == results
        return results

    return measure


def test_what_breaks_or_hangs_loses_nothing_else(measured: Any) -> None:
    results = measured(WORKER)
    found = results["cases"]
    assert results["roofs"] == {"dot": 100.0}
    assert list(found) == ["first", "breaks", "hangs", "last"]
    for case in found.values():
        assert case["contenders"]["dds_ext"]["fraction_of_roof"] == pytest.approx(0.2)
        assert case["contenders"]["dds_ext"]["fraction_best_of_roof"] == pytest.approx(0.4)
    assert "status 7" in found["breaks"]["failed"] and "an illegal address" in found["breaks"]["failed"]
    assert "said nothing for 2 s" in found["hangs"]["failed"]
    assert run_gpu.sound(found["first"]) and run_gpu.sound(found["last"]) and not run_gpu.sound(found["hangs"])


def test_what_does_not_fit_is_said(measured: Any) -> None:
    start = time.monotonic()
    source = WORKER.replace('names = sys.argv[1:] or ["roofs", "first", "breaks", "hangs", "last"]',
                            'names = ["hangs", "later"]')  # fmt: skip
    found = measured(source, seconds=1)["cases"]
    assert time.monotonic() - start < 15
    assert found["later"] == {"failed": run_gpu.OUT_OF_TIME}
    assert found["hangs"]["failed"] == run_gpu.OUT_OF_TIME and "dds_ext" in found["hangs"]["contenders"]


@pytest.mark.parametrize(
    "source", ["raise SystemExit('no device')", "import time; time.sleep(600)", "print('{broken')"]
)
def test_a_worker_that_never_begins(measured: Any, source: str) -> None:
    results = measured(source)
    assert results["cases"] == {}
    assert any(said in results["measuring"] for said in ("no device", "said nothing", "does not speak JSON"))


def test_time_that_is_not_used_goes_to_the_next() -> None:
    deadline = run_gpu.Deadline(130, list(run_gpu.STEPS))
    shares = [deadline.share(step) for step in run_gpu.STEPS]
    assert sum(run_gpu.STEPS.values()) == 13
    np.testing.assert_allclose(shares, [30, 39, 130 * 5 / 7, 130], atol=1)
    assert run_gpu.Deadline(-1, ["tests"]).share("tests") == 0


def test_a_step_keeps_what_was_printed() -> None:
    hangs = "import time; print('one passed', flush=True); time.sleep(600)"
    stopped = run_gpu.run([sys.executable, "-c", hangs], 2)
    assert stopped["exit"] is None and "one passed" in stopped["output"] and "stopped after 2 s" in stopped["output"]
    assert run_gpu.run([sys.executable, "-c", "raise SystemExit(5)"], 20)["exit"] == 5
    assert run_gpu.run([sys.executable, "-c", ""], 20)["output"] == ""
    assert run_gpu.run(["no such program"], 20)["exit"] == 127
    assert run_gpu.run([sys.executable], 0) == {"exit": None, "seconds": 0.0, "output": run_gpu.OUT_OF_TIME}


def test_what_was_built_is_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the package in the sources."""
    monkeypatch.setattr(run_gpu, "STAGE", tmp_path)
    (tmp_path / "dds_ext.py").write_text("print('staged')")
    for arguments in (["-c", "import dds_ext"], ["-m", "dds_ext"]):
        assert run_gpu.run([sys.executable, *arguments], 20)["output"] == "staged\n"
    worker = run_gpu.Worker([sys.executable, "-c", "import dds_ext"])
    assert worker.lines.get(timeout=20) == "staged\n"
    worker.ended(silent=False)


def test_a_build_that_fails_is_written(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "cmake").write_text("#!/bin/sh\necho error: no such kernel\nexit 1\n")
    (tools / "cmake").chmod(0o755)
    output = tmp_path / "gpu.json"
    source = "import run_gpu, sys, pathlib; run_gpu.STAGE = pathlib.Path(sys.argv.pop(1)); sys.exit(run_gpu.main())"
    result = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path / "stage"), "--output", str(output)],
        env={"PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'benchmarks'}"},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 1 and "error: no such kernel" in result.stdout, result.stderr
    results = json.loads(output.read_text())
    assert results["build"]["exit"] == 1 and "error: no such kernel" in results["build"]["output"]


@pytest.mark.parametrize("f", METRICS)
def test_the_oracle_is_the_reference(f: str) -> None:
    X, Y = features(20, 24), features(7, 24, seed=2)
    close = {"rtol": 1e-10, "atol": 1e-11}  # float64 in another order, and a root of squared differences
    for normalize in NORMALIZATIONS:
        for center in CENTERINGS:
            options = {"normalize": normalize, "center": center, "channels": 4}
            exact = reference.rdm(X.double().numpy(), f, **options)
            np.testing.assert_allclose(gpu_exact.matrix(X, f, **options), exact, **close, err_msg=normalize)
    exact = reference.METRICS[f](X.double().numpy(), Y.double().numpy(), 0.01 if f == "rbf" else None)
    np.testing.assert_allclose(gpu_exact.matrix(X, f, Y=Y, gamma=0.01 if f == "rbf" else None), exact, **close)


@pytest.mark.parametrize("measure", ["dds", "rsa"])
def test_the_scores_are_the_reference(measure: str) -> None:
    X = [features(15, 30, seed=i) for i in range(3)]
    exact = reference.affinity([x.double().numpy() for x in X], **dds_ext.MEASURES[measure])
    np.testing.assert_allclose(gpu_exact.scores(X, **dds_ext.MEASURES[measure]), exact, rtol=0, atol=1e-12)


def test_the_gradient_is_the_derivative() -> None:
    X, G = features(9, 30), features(9, 9, seed=1)
    x = X.double().requires_grad_()
    (exact,) = torch.autograd.grad(gpu_exact.matrix(x, "laplacian"), x, G.double())
    np.testing.assert_allclose(gpu_exact.laplacian_gradient(X, G), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("f", METRICS)
def test_errors_are_seen(f: str) -> None:
    """An entry that is off by twice what is promised."""
    X = features(12, 40)
    for options in ({}, {"normalize": "zscore", "center": "unbiased"}, {"Y": features(9, 40, seed=1), "gamma": 0.01}):
        if f not in ("laplacian", "rbf"):
            options.pop("gamma", None)
        errors = gpu_exact.Errors(X, f, **options)
        K = errors.exact.clone()
        assert errors(K) == 0
        K[2, 7] += 2 * errors.promise * errors.scale[2, 7]
        assert errors(K) == pytest.approx(2 * errors.promise, rel=1e-3)


def test_every_case_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, small and on the CPU: no contender fails, and dds_ext keeps its promises."""

    class Kernels:
        @staticmethod
        def roofs() -> list[str]:
            return re.findall(r'\{"(\w+)", start<', (ROOT / "csrc" / "cuda" / "roof.cu").read_text())

        @staticmethod
        def start_roof(index: int, steps: int, blocks: int, sink: int, stream: int) -> int:
            return steps

    monkeypatch.setattr(_cuda_backend, "module", Kernels)
    monkeypatch.setattr(gpu_measure, "BUDGET", 0)
    monkeypatch.setattr(gpu_measure, "SAMPLE", 0)
    monkeypatch.setattr(gpu_measure.roofs, "__defaults__", (1, 1 << 10))
    monkeypatch.setattr(gpu_cases, "MODELS", 3)
    cases = gpu_cases.cases([(24, 64)], [(20, 64), (20, 128)], (30, 64), [(20, 64)], (12,))
    assert gpu_worker.work([gpu_worker.ROOFS, *cases], cases, CPU) == 0
    results: dict[str, Any] = {"cases": {}}
    for line in capsys.readouterr().out.splitlines():
        run_gpu.put(results, json.loads(line))
    assert set(results["cases"]) == set(cases)
    assert set(results["roofs"]) == {*Kernels.roofs(), "copy_bytes"}
    for name, case in results["cases"].items():
        assert "failed" not in case and case["contenders"], (name, case)
        for contender, entry in case["contenders"].items():
            assert "failed" not in entry and entry["median_s"] > 0, (name, contender, entry)
            assert "error" in entry, (name, contender)
            assert ("step" in entry) == ("fraction_of_roof" in entry), (name, contender)
        assert run_gpu.sound(case), (name, case)
        assert run_gpu.line(name, case).startswith(f"{name}: dds_ext")


def test_a_failing_case_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def prepare(device: torch.device) -> list[gpu_measure.Contender]:
        raise RuntimeError("no memory")

    def fails() -> None:
        raise RuntimeError("no kernel")

    cases = {
        "a": gpu_cases.Case("a", "about", prepare),
        "b": gpu_cases.Case("b", "about", lambda device: [gpu_measure.Contender("dds_ext", fails)]),
    }
    assert gpu_worker.work(["a", "b"], cases, CPU) == 0
    results: dict[str, Any] = {"cases": {}}
    for line in capsys.readouterr().out.splitlines():
        run_gpu.put(results, json.loads(line))
    assert "no memory" in results["cases"]["a"]["failed"]
    assert "no kernel" in results["cases"]["b"]["contenders"]["dds_ext"]["failed"]
    assert not any(map(run_gpu.sound, results["cases"].values()))


def test_the_calls_that_are_watched() -> None:
    runpy.run_path(str(ROOT / "tests" / "cuda" / "small_calls.py"))["calls"]("cpu")
