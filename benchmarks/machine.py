"""The machine that figures come from, described so that they can be read elsewhere."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

import dds_ext

_SIMD = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "fphp", "i8mm", "bf16")
_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "numkong")


def _cpu() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def describe() -> dict[str, Any]:
    """What the figures depend on. Two runs with equal descriptions may share a file."""
    cpu, info = _cpu(), dds_ext.info()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    mkl = [line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel Library Version" in line]
    pools = threadpool_info()
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model_stepping": [cpu.get(key) for key in ("cpu family", "model", "stepping")],
        "cores": os.cpu_count(),
        "simd_flags": [flag for flag in flags if flag.startswith(_SIMD)],
        "cache": cpu.get("cache size"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES} | {"dds_ext": info["version"]},
        "blas": {
            "torch": mkl[0] if mkl else "not MKL",
            "others": sorted(
                {f"{pool['internal_api']} {pool['version']}" for pool in pools if pool["user_api"] == "blas"}
            ),
        },
        "isa": info["isa"],
        "isas": info["isas"],
        "threads": info["threads"],
    }


def busy_seconds() -> float | None:
    """Time that all processors together have been busy for anybody since the start, other guests of a virtual machine's
    host included; None where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, path.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
