"""Measures the roofs and cases in a process of their own, which `run_gpu.py` starts, and starts again where one of them
breaks the device or never ends. Every line of its output is a message in JSON.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from typing import Any

import gpu_cases
import torch
from gpu_measure import measured, roofs, synchronize

import dds_ext
from dds_ext import _cuda_backend

ROOFS = "roofs"


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def machine(device: torch.device) -> dict[str, Any]:
    about: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "dds_ext": dds_ext.info()}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        about |= {
            "gpu": found.name,
            "multiprocessors": found.multi_processor_count,
            "memory_bytes": found.total_memory,
            "l2_bytes": found.L2_cache_size,
        }
    return about


def broken(device: torch.device) -> bool:
    """Whether an error of the device is left, which every later call would report."""
    try:
        synchronize(device)
    except Exception:
        return True
    return False


def work(chosen: list[str], cases: dict[str, gpu_cases.Case], device: torch.device) -> int:
    say(machine=machine(device))
    for name in chosen:
        say(begins=name)
        if name == ROOFS:
            for roof, rate in roofs(_cuda_backend.module(), device):
                say(roof=roof, rate=rate)
        else:
            case = cases[name]
            say(case=name, about=case.about, **case.facts)
            try:
                contenders = case.prepare(device)
            except Exception as error:
                say(case=name, failed=f"{type(error).__name__}: {error}")
                contenders = []
            for contender in contenders:
                say(case=name, contender=contender.name, **measured(contender, device))
                if broken(device):
                    break
            del contenders
        if broken(device):
            return 3
        say(ends=name)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="cases, or patterns of names")
    parser.add_argument("--list", action="store_true", help="print the names only")
    arguments = parser.parse_args()
    cases = gpu_cases.cases()
    chosen = [name for name in (ROOFS, *cases) if any(fnmatch.fnmatch(name, p) for p in arguments.names)]
    say(names=chosen)
    return 0 if arguments.list else work(chosen, cases, torch.device("cuda"))


if __name__ == "__main__":
    sys.exit(main())
