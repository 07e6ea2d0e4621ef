"""Steps of work that are done side by side, in processes that end with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import torch


@dataclass(frozen=True)
class Step:
    """Something to do.

    Attributes:
        name: what to call it.
        output: the file that is there once it is done.
        cost: seconds that it takes on one core, roughly.
        work: a function of no arguments that writes the file; other processes run it.
    """

    name: str
    output: Path
    cost: float
    work: Callable[[], None]


def do_steps(waiting: list[list[Step]], workers: int) -> Iterator[tuple[Step, float]]:
    """Do the steps, phase by phase, and give each as it ends, with the seconds of processor time that it took."""
    if not any(waiting):
        return
    # Forking a process in which torch has started threads may hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(os.getpid(),))
    try:
        for phase in waiting:
            for step in phase:
                step.output.parent.mkdir(parents=True, exist_ok=True)
            # The longest first, so that at the end no worker waits for long.
            order = sorted(phase, key=lambda step: -step.cost)
            # Workers start here: Ctrl-C waits until they, and this process, are ready for it.
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = {pool.submit(_timed, step.work): step for step in order}
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            for future in as_completed(futures):
                yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(work: Callable[[], None]) -> float:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if _interrupted.is_set():
        sys.exit(130)
    start = time.process_time()
    work()
    return time.process_time() - start


def _prepare(parent: int) -> None:
    """What a worker does first. Ctrl-C reaches it too: it leaves its step, and the next ones, without a word."""
    signal.signal(signal.SIGINT, _interrupt)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it does not outlive what it works for
    if os.getppid() != parent:  # which had ended before
        os._exit(1)
    torch.set_num_threads(1)


_interrupted = Event()  # in a worker, to which the pool gives its next step even after it has left one


def _interrupt(*_: object) -> None:
    _interrupted.set()
    sys.exit(130)
