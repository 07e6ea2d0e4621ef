"""Builds, tests and times the CUDA part on a machine with a GPU, offline: `python benchmarks/run_gpu.py`.

Needs nvcc, cmake, ninja, pybind11, torch and NumPy; pytest and SciPy for the tests, compute-sanitizer for the
sanitizer. What one step has not used of its time goes to those after it. Everything found out is written at once, also
where a step fails, runs out of time or hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from store import save

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "gpu"
STAGE = BUILD / "stage"
OUTPUT = ROOT / "benchmarks" / "results" / "gpu.json"

STEPS = {"build": 3, "tests": 3, "cases": 5, "sanitizer": 2}
"""In the order they are taken, and how the time is divided."""
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
CASE_SECONDS = 40
"""From one message of a case to the next; what takes longer hangs."""
KEPT = 12_000  # characters of what a step printed
OUT_OF_TIME = "not run: out of time"


class Deadline:
    """Divides what is left of the time among the steps that are left."""

    def __init__(self, seconds: float, steps: Sequence[str]) -> None:
        self.end = time.monotonic() + seconds
        self.steps = list(steps)

    def share(self, step: str) -> float:
        """Seconds for the next step."""
        weights = [STEPS[s] for s in self.steps[self.steps.index(step) :]]
        return max(0.0, self.end - time.monotonic()) * weights[0] / sum(weights)


def folder() -> Path:
    """Where commands run. Not in the sources: Python would take the package there, which has no CUDA part."""
    return STAGE if STAGE.exists() else ROOT


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{STAGE}{os.pathsep}{ROOT / 'tests'}", **more}


def end(process: subprocess.Popen[Any]) -> None:
    """The process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold on to it
        process.wait(10)


def run(command: Sequence[str], seconds: float, **more: str) -> dict[str, Any]:
    """Exit status (None where the time ran out), seconds, and the end of what was printed up to then."""
    if seconds <= 0:
        return {"exit": None, "seconds": 0.0, "output": OUT_OF_TIME}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        try:
            process = subprocess.Popen(
                command, cwd=folder(), env=environment(**more), stdout=printed, stderr=printed, start_new_session=True
            )
        except OSError as error:
            return {"exit": 127, "seconds": 0.0, "output": str(error)}
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            end(process)
        took = time.perf_counter() - start
        printed.seek(0)
        text = printed.read()[-KEPT:]
    if code is None:
        text += f"\nstopped after {took:.0f} s"
    return {"exit": code, "seconds": took, "output": text}


def build(seconds: float) -> dict[str, Any]:
    """Compiles for the GPUs present, and stages the package beside its modules."""
    import pybind11

    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "dds_ext", STAGE / "dds_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    configure = ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(BUILD), "-DDDS_EXT_CUDA=on"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    result = {"exit": 0, "seconds": 0.0, "output": ""}
    for command in (
        configure,
        ["cmake", "--build", str(BUILD)],
        ["cmake", "--install", str(BUILD), "--prefix", str(STAGE / "dds_ext")],
    ):
        one = run(command, seconds - result["seconds"])
        result = {
            "exit": one["exit"],
            "seconds": result["seconds"] + one["seconds"],
            "output": (result["output"] + one["output"])[-KEPT:],
        }
        if one["exit"] != 0:
            break
    return result


def tests(seconds: float) -> dict[str, Any]:
    """Named one by one, so that the last name is that of a test that hangs."""
    pytest = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]
    return run([*pytest, str(ROOT / "tests" / "test_cuda.py")], seconds)


def sanitizer(seconds: float) -> dict[str, Any]:
    """By tool. Without torch's cache of memory, so that every array has bounds of its own."""
    if shutil.which("compute-sanitizer") is None:
        return {"output": "compute-sanitizer is not on PATH"}
    start = time.monotonic()
    found: dict[str, Any] = {}
    calls = [sys.executable, str(ROOT / "tests" / "cuda" / "small_calls.py"), "cuda"]
    for i, tool in enumerate(TOOLS):
        left = (seconds - (time.monotonic() - start)) / (len(TOOLS) - i)
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *calls]
        found[tool] = run(command, left, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    return found


class Worker:
    """gpu_worker.py at work, and what it says."""

    def __init__(self, command: Sequence[str]) -> None:
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=folder(),
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def message(self, seconds: float) -> dict[str, Any] | None:
        """The next; None where the worker has ended. Raises queue.Empty after some seconds of silence."""
        until = time.monotonic() + seconds
        while (line := self.lines.get(timeout=max(0.0, until - time.monotonic()))) is not None:
            if line.startswith("{"):
                message: dict[str, Any] = json.loads(line)
                return message
        return None

    def ended(self, silent: bool) -> str:
        """Ends it; its status and the end of its errors."""
        if not silent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        end(self.process)
        self.errors.seek(0)
        text = self.errors.read()[-KEPT:]
        self.errors.close()
        return f"the process ended with status {self.process.returncode}\n{text}".strip()


def put(results: dict[str, Any], message: dict[str, Any]) -> None:
    """A worker's message, where it belongs."""
    if "machine" in message:
        results["machine"] = message["machine"]
    elif "roof" in message:
        results.setdefault("roofs", {})[message["roof"]] = message["rate"]
    elif "case" in message:
        case = results["cases"].setdefault(message.pop("case"), {})
        if "contender" in message:
            entry = case.setdefault("contenders", {})[message.pop("contender")] = message
            roof = results.get("roofs", {}).get(message.get("step"))
            if roof and "median_s" in message:
                for key, seconds in (("fraction", message["median_s"]), ("fraction_best", message["best_s"])):
                    entry[f"{key}_of_roof"] = message["pair_elements"] / seconds / roof
        else:
            case |= message


def line(name: str, case: dict[str, Any]) -> str:
    """A case in short: times in microseconds, share of the roof, error relative to what is promised."""
    words = [f"{name}:"]
    for contender, e in case.get("contenders", {}).items():
        said = f"{e['median_s'] * 1e6:.1f} us" if "median_s" in e else "FAILED"
        said += f" {e['fraction_of_roof']:.0%}" if "fraction_of_roof" in e else ""
        said += f" err {e['error_over_promise']:.2f}" if "error_over_promise" in e else ""
        words.append(f"{contender} {said};")
    return " ".join([*words, case.get("failed", "")])


def sound(case: dict[str, Any]) -> bool:
    """Whether all of dds_ext's own was measured, and was as exact as promised."""
    ours = [e for name, e in case.get("contenders", {}).items() if name.startswith("dds_ext")]
    return "failed" not in case and all("failed" not in e and e.get("error_over_promise", 0) <= 1 for e in ours)


def cases(command: Sequence[str], names: Sequence[str], seconds: float, results: dict[str, Any], output: Path) -> None:
    """Has everything measured that the names or patterns mean; `command` starts a worker. What breaks or silences one
    is left out by the next."""
    until = time.monotonic() + seconds
    waiting: list[str] | None = None
    while waiting is None or waiting:
        current, why = None, ""
        worker = Worker([*command, *(names if waiting is None else waiting)])
        try:
            while (message := worker.message(min(CASE_SECONDS, until - time.monotonic()))) is not None:
                if "names" in message:
                    waiting = message["names"]
                elif "begins" in message:
                    current = message["begins"]
                elif "ends" in message and waiting is not None:
                    waiting.remove(message["ends"])
                    print(line(message["ends"], results["cases"].get(message["ends"], {})), flush=True)
                    current = None
                else:
                    put(results, message)
                save(output, results)
        except queue.Empty:
            why = OUT_OF_TIME if time.monotonic() >= until else f"stopped: it said nothing for {CASE_SECONDS} s"
        except ValueError as error:
            why = f"the worker does not speak JSON: {error}"
        status = worker.ended(silent=bool(why))
        if waiting is None or (current is None and waiting and why != OUT_OF_TIME):
            results["measuring"] = f"{why}\n{status}".strip()
            save(output, results)
            print(f"nothing more can be measured: {results['measuring']}", flush=True)
            break
        failed: dict[str, str] = {}
        if why == OUT_OF_TIME:
            failed = dict.fromkeys(waiting, OUT_OF_TIME)
            waiting = []
        elif current is not None:
            failed = {current: why or status}
            waiting.remove(current)
        for name, reason in failed.items():
            case = results["cases"].setdefault(name, {})
            case.setdefault("failed", reason)
            print(line(name, case), flush=True)
        save(output, results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--minutes", type=float, default=8, help="for everything together (default: 8)")
    parser.add_argument("--skip", action="append", default=[], choices=STEPS, help="a step; repeatable")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a case, or a pattern; repeatable")
    parser.add_argument("--list", action="store_true", help="print the names of the cases of what was built last")
    arguments = parser.parse_args()
    worker = [sys.executable, str(ROOT / "benchmarks" / "gpu_worker.py")]
    if arguments.list:
        return subprocess.run([*worker, "--list"], env=environment()).returncode

    steps = [step for step in STEPS if step not in arguments.skip]
    deadline = Deadline(60 * arguments.minutes, steps)
    results: dict[str, Any] = {"minutes": arguments.minutes, "cases": {}}
    good = True
    for step in steps:
        seconds = deadline.share(step)
        print(f"{step}: {seconds:.0f} s at most", flush=True)
        if step == "cases":
            names = ["roofs", *arguments.only] if arguments.only else []
            cases(worker, names, seconds, results, arguments.output)
            good &= "measuring" not in results and all(map(sound, results["cases"].values()))
            continue
        try:
            results[step] = {"build": build, "tests": tests, "sanitizer": sanitizer}[step](seconds)
        except Exception as error:  # pybind11 is missing, the disk is full: the steps after it may still run
            results[step] = {"exit": 1, "seconds": 0.0, "output": f"{type(error).__name__}: {error}"}
        save(arguments.output, results)
        parts = results[step] if step == "sanitizer" and "output" not in results[step] else {step: results[step]}
        for name, part in parts.items():
            good &= part.get("exit", 0) == 0
            print(f"{name}: exit {part.get('exit')}\n{part['output'][-1500:]}", flush=True)
        if step == "build" and results[step]["exit"] != 0:
            print(f"the build failed: {arguments.output} holds what the compiler said", flush=True)
            return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
