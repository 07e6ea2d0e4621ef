"""Times callables side by side, in rounds, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import dds_ext

# What other pools of threads take to fall asleep after a call: OpenBLAS's and OpenMP's wait awake for their next one,
# on the cores that the next contender needs.
SETTLE = 0.03
# A sample is at least this long; shorter calls are repeated within it.
SAMPLE = 5e-4
# How the error of an entry of a matrix is expressed, where its scale depends on the features.
ENTRY, NORMS = "relative to the entry", "relative to |x||y|"
ERROR_KINDS = {"linear": NORMS} | dict.fromkeys(("manhattan", "euclidean", "sqeuclidean"), ENTRY)
# From here on the first call is a sample too (nothing that a first call does more takes a noticeable share)...
LONG = 1.0
# ... and from here on the only one.
ENDLESS = 10.0


def pair_elements(n: int, d: int) -> int:
    """Unique pair-elements of a matrix."""
    return n * (n - 1) // 2 * d


@dataclass(frozen=True)
class Roof:
    """What bounds a kernel: the register-only loop of its own inner step, in its type and instruction set."""

    f: str
    elements: int
    """Unique pair-elements that a call forms."""
    dtype: str = "float32"
    fast: bool = False
    isa: str | None = None
    """None: the one in use."""

    def measure(self) -> float:
        """Pair-elements per second, best of 15."""
        dtype = {"float32": 2, "float64": 3}[self.dtype]
        isa = self.isa or dds_ext.info()["isa"]
        return float(dds_ext._cpu.roof(dds_ext.METRICS.index(self.f), dtype, self.fast, isa))


@dataclass(frozen=True)
class Contender:
    """One way to a result."""

    name: str
    call: Callable[[], Any]
    error: Callable[[Any], float] | None = None
    """Of a result, against the float64 reference."""
    error_kind: str = "absolute"
    roof: Roof | None = None
    slow: bool = False
    """Too slow for a quick look."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` rounds, in which a fast contender takes about `seconds` in all."""

    rounds: int
    seconds: float


@dataclass
class _Record:
    contender: Contender
    error: float | None
    per_round: int
    """Samples of a round."""
    rounds: int
    calls: int
    """Calls of a sample."""
    samples: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    roof: float = 0.0

    def sample(self) -> None:
        call = self.contender.call
        cpu, start = time.process_time(), time.perf_counter()
        if self.calls == 1:
            result = call()  # freeing it is not part of the call
            end = time.perf_counter()
            cpu_end = time.process_time()
            del result
        else:
            for _ in range(self.calls):
                call()
            end = time.perf_counter()
            cpu_end = time.process_time()
        self.samples.append((end - start) / self.calls)
        self.wall += end - start
        self.cpu += cpu_end - cpu


def _begin(contender: Contender, effort: Effort) -> _Record:
    """The first call: warms up, gives the error, and tells how many more there is time for."""
    record = _Record(contender, None, 0, 0, 1)
    cpu, start = time.process_time(), time.perf_counter()
    result = contender.call()
    took = time.perf_counter() - start
    cpu = time.process_time() - cpu
    if contender.error is not None:
        record.error = float(contender.error(result))
    del result
    if contender.roof is not None:
        record.roof = contender.roof.measure()
    if took >= LONG:
        record.samples, record.wall, record.cpu = [took], took, cpu
        record.per_round, record.rounds = 1, 0 if took >= ENDLESS else min(2, effort.rounds)
        return record
    start = time.perf_counter()
    contender.call()
    took = max(min(took, time.perf_counter() - start), 1e-7)
    record.calls = max(1, math.ceil(SAMPLE / took))
    fit = effort.seconds / effort.rounds / (took * record.calls)
    record.per_round = max(1, min(20, round(fit)))
    record.rounds = effort.rounds if took < LONG / 2 else min(3, effort.rounds)
    return record


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Median, best and quartiles of samples in seconds."""
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return {
        "median_s": float(median),
        "best_s": min(samples),
        "lower_quartile_s": float(lower),
        "upper_quartile_s": float(upper),
        "samples": len(samples),
    }


def _summary(record: _Record) -> dict[str, Any]:
    out: dict[str, Any] = {
        **spread(record.samples),
        "calls_per_sample": record.calls,
        "cores_busy": record.cpu / record.wall,
        "error": record.error,
        "error_kind": None if record.error is None else record.contender.error_kind,
    }
    roof = record.contender.roof
    if roof is not None:
        total = record.roof * torch.get_num_threads()
        out["pair_elements"] = roof.elements
        out["roof"] = {
            "pair_elements_per_second_and_thread": record.roof,
            "isa": roof.isa or dds_ext.info()["isa"],
            "fraction": roof.elements / out["median_s"] / total,
            "fraction_best": roof.elements / out["best_s"] / total,
        }
    return out


def measure(contenders: Sequence[Contender], effort: Effort) -> dict[str, dict[str, Any]]:
    """Figures by the contender's name: seconds (median, best, quartiles), error, and share of the roof."""
    records = [_begin(contender, effort) for contender in contenders]
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(record.rounds for record in records)):
            for record in records if turn % 2 == 0 else reversed(records):
                if turn >= record.rounds:
                    continue
                time.sleep(SETTLE)
                # the loop of the roof and an untimed call bring the cores back up to speed
                if record.contender.roof is not None:
                    record.roof = max(record.roof, record.contender.roof.measure())
                if not record.samples or record.samples[-1] < LONG / 4:
                    record.contender.call()
                for _ in range(record.per_round):
                    record.sample()
    finally:
        gc.enable()
    return {record.contender.name: _summary(record) for record in records}
