"""Threads of all sorts: results do not depend on them, calls may overlap, the interpreter goes on, forks work."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from support import CENTERINGS, COMPARISONS, METRICS, NORMALIZATIONS, Array, features, layout

import dds_ext


def under_every_count(threads: list[int], call: Callable[[], Array]) -> None:
    """Fail unless the call gives the same bits whatever the number of threads, and twice in a row."""
    results = []
    for count in threads:
        torch.set_num_threads(count)
        results += [np.asarray(call()), np.asarray(call())]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("f", METRICS)
def test_rdm_does_not_depend_on_threads(f: str, isa: str, threads: list[int]) -> None:
    """Many tiles, and few tiles with many features (where the sum over features itself may be split)."""
    for n, d in ((190, 300), (7, 30001)):
        for dtype in ("float32", "float64"):
            X = features(n, d, dtype)
            for normalize in NORMALIZATIONS:
                options = {"normalize": normalize, **layout(d)}
                for center in CENTERINGS if normalize == "zscore" else ("none",):
                    under_every_count(threads, functools.partial(dds_ext.rdm, X, f, center=center, **options))
            under_every_count(threads, lambda X=X: dds_ext.rdm(X, f, Y=X[::3]))
            under_every_count(threads, lambda X=X: dds_ext.rdm(X, f, condensed=True))


def test_close_pairs_do_not_depend_on_threads(isa: str, threads: list[int]) -> None:
    """Pairs that are computed a second time, by differences."""
    X = features(100, 500)
    X[50:] = X[:50] * (1 + 1e-5)
    for f in METRICS:
        under_every_count(threads, functools.partial(dds_ext.rdm, X, f))


def test_scores_do_not_depend_on_threads(threads: list[int]) -> None:
    models = [features(200, 40 + i) for i in range(9)]
    matrices = np.stack([dds_ext.rdm(X).numpy() for X in models[:4]])
    for g in COMPARISONS:
        under_every_count(threads, lambda g=g: dds_ext.affinity(models, g=g, center="none"))
        under_every_count(threads, lambda g=g: dds_ext.compare(matrices, matrices[:2], g=g))
    under_every_count(threads, lambda: dds_ext.affinity(models))
    for mode in ("double", "unbiased"):
        under_every_count(threads, lambda mode=mode: dds_ext.center(matrices[0], mode))


def test_threads_follow_torch(threads: list[int]) -> None:
    for count in threads:
        torch.set_num_threads(count)
        assert dds_ext.info()["threads"] == count


def test_concurrent_calls(isa: str) -> None:
    """Eight Python threads at once, of different sizes, metrics and types, give what they give one after the other."""
    calls = [
        functools.partial(dds_ext.rdm, features(n, d, dtype, seed=n), f, normalize=normalize, **layout(d))
        for (n, d), dtype, f, normalize in itertools.product(
            ((60, 300), (130, 90), (5, 9000)), ("float32", "float64"), METRICS, ("none", "zscore", "group")
        )
    ]
    expected = [call() for call in calls]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for result, once in zip(pool.map(lambda call: call(), calls), expected, strict=True):
                assert torch.equal(result, once)


def test_concurrent_affinities_and_errors() -> None:
    """A call that fails does not disturb the others."""
    good = [features(40, 60, seed=i) for i in range(4)]
    bad = [*good, torch.full((40, 60), torch.nan)]
    expected = dds_ext.affinity(good)

    def work(i: int) -> bool:
        if i % 3 == 0:
            with pytest.raises(ValueError, match="source 4 has NaN"):
                dds_ext.affinity(bad)
            return True
        return np.array_equal(dds_ext.affinity(good), expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(48)))


def test_the_interpreter_goes_on(isa: str) -> None:
    """The GIL is released: during one long call this thread wakes up many times."""
    X = features(1200, 4096, "float64")
    dds_ext.rdm(X[:50])
    running, done = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        dds_ext.rdm(X, "laplacian", normalize="zscore", center="unbiased")
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    running.wait()
    started, wakes = time.perf_counter(), 0
    while not done.is_set():
        time.sleep(0.001)
        wakes += 1
    elapsed = time.perf_counter() - started
    worker.join()
    # Were the lock held, this thread would sleep through the whole call. Half of the processor is the worker's.
    assert elapsed > 0.02, "the call is too short to tell"
    assert wakes >= max(5, 20 * elapsed), f"{wakes} wake-ups in {elapsed:.3f} s"


def in_a_fork(work: Callable[[], bool]) -> int:
    """The exit status of a forked child: 0 when work() is true; negative when it was killed, for taking 30 seconds.

    work() must not call torch on much data: its own threads do not survive a fork.
    """
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # whatever hangs is killed
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork(threads: list[int]) -> None:
    """A child has none of its parent's threads; a pool that waits for them would wait forever."""
    inputs = (features(150, 700), features(150, 700, "float16").numpy())
    models = [features(40, 60, seed=i) for i in range(3)]

    def results() -> list[Array]:
        matrices = [np.asarray(dds_ext.rdm(X, normalize="zscore", center="unbiased")) for X in inputs]
        return [*matrices, *(dds_ext.affinity(models, g=g) for g in COMPARISONS)]

    expected = results()

    def same() -> bool:
        return all(itertools.starmap(np.array_equal, zip(results(), expected, strict=True)))

    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert same()  # the pool is running now
        assert in_a_fork(same) == 0
        assert in_a_fork(lambda: same() and in_a_fork(same) == 0) == 0, "a child of the child"
        assert same(), "the parent must not notice"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_during_a_call() -> None:
    """Another thread is in the middle of a call when the process forks."""
    X, long = features(150, 700).numpy(), features(800, 3000).numpy()
    expected = dds_ext.rdm(X)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            dds_ext.rdm(long)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            assert in_a_fork(lambda: np.array_equal(dds_ext.rdm(X), expected)) == 0
    finally:
        stop.set()
        worker.join()


def test_one_openmp_runtime() -> None:
    """Two of them in a process fight for the processors, and some abort."""
    code = """
import torch, dds_ext
torch.randn(500, 500) @ torch.randn(500, 500)
dds_ext.rdm(torch.randn(300, 300), normalize="zscore", center="unbiased")
dds_ext.affinity([torch.randn(20, 30)] * 3)
names = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "/" in line}
found = sorted(name for name in names if name.startswith(("libgomp", "libiomp", "libomp")))
assert len(found) <= 1, found
"""
    # not in the source folder, whose dds_ext has no compiled part
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=Path(__file__).parent)
