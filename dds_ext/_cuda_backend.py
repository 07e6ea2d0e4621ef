"""Pairwise matrices on a CUDA device: the same requests as on the CPU, on the caller's current stream."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from dds_ext import _cpu
from dds_ext._arrays import DTYPES, dtype_name, rows_text
from dds_ext._requests import Request, parameters, sums_in_common


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


def describe() -> dict[str, Any] | None:
    """Architectures of the CUDA part and the devices it can use, as names and compute capabilities; None without it.

    The driver is asked, and wakes up for it; no context is created, so that no device's memory is taken.
    """
    try:
        kernels = importlib.import_module("dds_ext._cuda")
    except ImportError:
        return None
    built: dict[str, Any] = {"architectures": kernels.architectures().split()}
    try:
        found = kernels.devices()
    except RuntimeError as error:
        return {**built, "error": str(error)}
    return {**built, "devices": [{"name": name, "capability": (major, minor)} for name, major, minor, _, _ in found]}


def fill(kernels: ModuleType, requests: Sequence[Request], outs: Sequence[Any], device: torch.device) -> None:
    """Computes every request into its `out`. Waits for the results only to see what was wrong with the features, or for
    a gamma that the median between other features decides."""
    requests = [_with_gamma(kernels, r, device) for r in requests]
    groups = sums_in_common(requests)
    checked = any(r.options.check_finite for r in requests)
    statuses, in_float64 = launch(kernels, parameters(requests, outs, groups), device, report=checked)
    for g, status, wide in zip(groups, statuses, in_float64, strict=False):
        first = requests[g[0]]
        if status.code == _cpu.Code.overflow:
            raise _overflow(first, outs[g[0]])
        requests[g[status.product]].raise_for(status)
        for i, gamma in zip(g, status.gammas, strict=True):
            requests[i].gamma = gamma
        if not wide:
            continue
        again = [replace(requests[i], wide=True, out=None) for i in g]
        for i, r, result in zip(g, again, [r.target() for r in again], strict=True):
            fill(kernels, [r], [result], device)
            outs[i].copy_(result)
            requests[i].gamma = r.gamma
            if not bool(torch.isfinite(outs[i]).all()):
                raise _overflow(requests[i], outs[i])


def center(kernels: ModuleType, K: torch.Tensor, mode: int) -> None:
    """Centres a contiguous stack of symmetric matrices, (s, n, n), in place."""
    s, n, _ = K.shape
    with _current(K.device) as stream:
        for plan in kernels.plan_centering(K.data_ptr(), s, n, DTYPES[dtype_name(K)], mode):
            _run(plan, K.device, stream, cooperative=True)


def signed_sums(kernels: ModuleType, w: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """sum_j w_ij sign(x_i - y_j), of contiguous (n, m), (n, d), (m, d)."""
    by_y, out = w.mT.contiguous(), torch.empty_like(x)
    addresses = [t.data_ptr() for t in (x, y, by_y, out)]
    with _current(x.device) as stream:
        kernels.signed_sums(*addresses, *w.shape, x.shape[1], DTYPES[dtype_name(x)], stream)
    return out


def launch(
    kernels: ModuleType, params: Sequence[_cpu.RdmParams], device: torch.device, report: bool, cooperative: bool = True
) -> tuple[list[_cpu.RdmStatus], list[bool]]:
    """Launches what computes `params`; where `report` is set, waits for it and says what was wrong with each of them,
    and which are to be computed again in float64.

    Temporary memory is torch's, and is free for others' work on the stream as soon as the launches are queued.
    """
    with _current(device) as stream:
        plans = kernels.plan(list(params))
        reports = []
        for plan in plans:
            workspace = _run(plan, device, stream, cooperative)
            if report:  # a copy, so that the rest of the workspace is free
                reports.append(workspace[: plan.reported].clone())
            del workspace
    if not report:
        return [], []
    copies = [copy.cpu() for copy in reports]
    statuses, in_float64 = kernels.report(plans, [copy.data_ptr() for copy in copies], len(params))
    return statuses, in_float64


@contextmanager
def _current(device: torch.device) -> Iterator[int]:
    """The device made the current one; its stream, which is the caller's."""
    if device.type != "cuda":  # the kernels on their emulation
        yield 0
        return
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream


def _run(plan: Any, device: torch.device, stream: int, cooperative: bool) -> torch.Tensor:
    """Queues a launch; its workspace."""
    workspace = torch.empty(plan.bytes, dtype=torch.uint8, device=device)
    plan.run(workspace.data_ptr(), stream, cooperative)
    return workspace


def _with_gamma(kernels: ModuleType, r: Request, device: torch.device) -> Request:
    """The kernel between two sets is X's own: its gamma, as any other statistic, is taken over X's images."""
    if r.y is None or not r.options.median_gamma:
        return r
    for wide in (r.wide, True):
        own = Request(r.x, None, r.options, condensed=True, wide=wide)
        triangle = own.target()
        statuses, in_float64 = launch(kernels, parameters([own], [triangle], [[0]]), device, report=True)
        own.raise_for(statuses[0])
        if not in_float64[0]:
            break
    r.gamma = statuses[0].gammas[0]
    return replace(r, options=replace(r.options, gamma=r.gamma))


def _overflow(request: Request, out: torch.Tensor) -> ValueError:
    """Names the images most of whose pairs are not finite: of a pair that overflows one image is the culprit."""
    bad = ~torch.isfinite(out)
    if bad.ndim == 1:
        i, j = torch.triu_indices(request.x.n, request.x.n, 1, device=out.device)
        of_x = torch.bincount(torch.cat([i[bad], j[bad]]), minlength=request.x.n)
        of_y = of_x
    else:
        of_x, of_y = bad.sum(1), bad.sum(0)
    in_y = request.y is not None and int(of_y.max()) * len(of_y) > int(of_x.max()) * len(of_x)
    counts = of_y if in_y else of_x
    rows = torch.nonzero(counts == counts.max()).flatten().tolist()
    name = request.y.name if in_y and request.y is not None else request.x.name
    return request.overflow(name, rows_text(rows))
