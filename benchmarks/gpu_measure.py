"""Times callables on a GPU by events, without what Python takes between two of them.

The calls of a sample are captured in a CUDA graph, back to back, where they can be; what cannot be captured (a call
that waits for its own result) is timed as its user sees it, Python included. On the CPU, where the tests run all of
this, a clock stands in for the events.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from measure import spread

SAMPLE = 2e-3
"""A sample is at least this long, in seconds."""
MOST_CALLS = 100  # of a sample
BUDGET = 0.3
"""Seconds for the samples of a contender."""
FLUSH_BYTES = 1 << 28  # more than any second-level cache holds


@dataclass(frozen=True)
class Contender:
    """One way to a result."""

    name: str
    call: Callable[[], Any]
    error: Callable[[Any], float] | None = None
    error_kind: str = "absolute"
    promise: float | None = None
    """The largest error that dds_ext promises here, for others too a measure of theirs."""
    step: str | None = None
    """The roof, where pair-elements are what it takes."""
    elements: int = 0
    capturable: bool = True


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of the device, from the begin of `work` to its end."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def issue_seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Until a call returns to an idle host, of an idle device: median of ten."""
    times = []
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    synchronize(device)
    return statistics.median(times)


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """Of torch's memory on the device, that a call takes at most on top of what is there; its result is part of it."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return torch.cuda.max_memory_allocated(device) - before


def repeated(call: Callable[[], Any], times: int, captured: bool) -> Callable[[], None]:
    """What makes that many calls, one after the other."""

    def loop() -> None:
        for _ in range(times):
            call()

    if not captured:
        return loop
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loop()
    return lambda: graph.replay()


def timed(contender: Contender, device: torch.device) -> dict[str, Any]:
    """Device time of a call (warm: calls back to back; cold: each after the second-level cache was flushed), and the
    time until it returns to the host."""
    call, captured = contender.call, contender.capturable and device.type == "cuda"
    entry: dict[str, Any] = {"issue_s": issue_seconds(call, device)}
    try:
        once = repeated(call, 1, captured)
    except Exception as error:
        entry["not_captured"] = f"{type(error).__name__}: {error}"
        captured, once = False, repeated(call, 1, False)
    seconds(once, device)
    took = max(seconds(once, device), 1e-7)
    calls = max(1, min(MOST_CALLS, math.ceil(SAMPLE / took)))
    many = repeated(call, calls, captured) if calls > 1 else once
    seconds(many, device)
    samples = max(5, min(50, int(BUDGET / (took * calls))))
    entry |= spread([seconds(many, device) / calls for _ in range(samples)])
    entry |= {"calls_per_sample": calls, "by": "graph" if captured else "calls from Python"}
    if captured:  # the flush gives the host time to issue what follows
        flushed = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
        cold = []
        for _ in range(10):
            flushed.zero_()
            cold.append(seconds(once, device))
        entry["cold_s"] = statistics.median(cold)
    return entry


def measured(contender: Contender, device: torch.device) -> dict[str, Any]:
    """Times, error and peak memory (of a GPU); why it failed, where it does."""
    entry: dict[str, Any] = {}
    try:
        result = contender.call()
        if contender.error is not None:
            error = float(contender.error(result))
            entry |= {"error": error, "error_kind": contender.error_kind}
            if contender.promise is not None:
                entry |= {"promise": contender.promise, "error_over_promise": error / contender.promise}
        del result
        if device.type == "cuda":
            entry["peak_bytes"] = peak_bytes(contender.call, device)
        entry |= timed(contender, device)
        if contender.step is not None:
            entry |= {"step": contender.step, "pair_elements": contender.elements}
    except Exception as error:
        entry["failed"] = f"{type(error).__name__}: {error}"
    return entry


def roofs(
    kernels: Any, device: torch.device, steps: int = 20_000, bytes_: int = 1 << 30
) -> Iterator[tuple[str, float]]:
    """Pair-elements, or multiply-adds, a second by inner step, and bytes a second of a copy (read and written): best of
    20."""
    sink = torch.zeros(1, device=device)
    stream, multiprocessors = 0, 1
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device).cuda_stream
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    for index, name in enumerate(kernels.roofs()):

        def loop(steps: int, index: int = index) -> int:
            return int(kernels.start_roof(index, steps, 2 * multiprocessors, sink.data_ptr(), stream))

        elements = loop(1) * steps
        yield name, elements / min(seconds(lambda loop=loop: loop(steps), device) for _ in range(20))
    source = torch.zeros(bytes_, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    yield "copy_bytes", 2 * bytes_ / min(seconds(lambda: target.copy_(source), device) for _ in range(20))
