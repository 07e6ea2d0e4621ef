"""Where requests are computed: on the device that holds the features."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dds_ext import _cpu, _cuda_backend
from dds_ext._arrays import Matrices
from dds_ext._requests import Request, isa, parameters, sums_in_common


def compute(requests: Sequence[Request]) -> list[Matrices]:
    """All the matrices, sharing the threads between them; those of the same features and the same sums in one go."""
    device = requests[0].x.device
    for r in requests:
        if r.x.device != device:
            raise ValueError(f"{requests[0].x.name} is on device '{device}', {r.x.name} on '{r.x.device}'")
    outs = [r.target() for r in requests]
    if device.type == "cuda":
        _cuda_backend.fill(_cuda_backend.module(), requests, outs, device)
    else:
        groups = sums_in_common(requests)
        statuses = _cpu.rdm(parameters(requests, outs, groups), torch.get_num_threads(), isa())
        for g, status in zip(groups, statuses, strict=True):
            requests[g[status.product]].raise_for(status)
            for i, gamma in zip(g, status.gammas, strict=True):
                requests[i].gamma = gamma
    return [r.result(out) for r, out in zip(requests, outs, strict=True)]
