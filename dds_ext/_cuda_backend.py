"""Pairwise matrices on a CUDA device: the same requests as on the CPU, on the caller's current stream."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType

import torch

from dds_ext import _cpu


@functools.cache
def module() -> ModuleType:
    """The compiled part, loaded on first use; a clear error where it was not built or the driver does not serve it."""
    try:
        kernels = importlib.import_module("dds_ext._cuda")
    except ImportError as error:
        raise RuntimeError(
            f"this installation of dds_ext has no CUDA part ({error}): build it where nvcc is found, "
            "or with DDS_EXT_CUDA=on; or pass tensors on the CPU"
        ) from error
    kernels.devices()  # says what is wrong with the driver
    return kernels


def rdm(
    kernels: ModuleType, params: Sequence[_cpu.RdmParams], device: torch.device, report: bool, cooperative: bool = True
) -> tuple[list[_cpu.RdmStatus], list[bool]]:
    """Launches what computes `params`; where `report` is set, waits for it and says what was wrong with each of them,
    and which are to be computed again in float64.

    Temporary memory is torch's, and is free for others' work on the stream as soon as the launches are queued.
    """
    plans = kernels.plan(list(params))
    reports = []
    with torch.cuda.device(device) if device.type == "cuda" else torch.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        for plan in plans:
            workspace = torch.empty(plan.bytes, dtype=torch.uint8, device=device)
            plan.run(workspace.data_ptr(), stream, cooperative)
            if report:
                reports.append(workspace[: plan.reported].clone())
    if not report:
        return [], []
    copies = [copy.cpu() for copy in reports]
    statuses, in_float64 = kernels.report(plans, [copy.data_ptr() for copy in copies], len(params))
    return statuses, in_float64
