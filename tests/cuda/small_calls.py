"""Small calls of every kind for `compute-sanitizer python tests/cuda/small_calls.py cuda` to watch."""

from __future__ import annotations

import sys
from functools import partial

import torch

import dds_ext
from dds_ext import _cuda_backend


def calls(device: str) -> None:
    random = torch.Generator().manual_seed(0)

    def features(n: int, d: int) -> torch.Tensor:
        return torch.randn(n, d, generator=random).to(device)

    # one image more than a thread's, a group's and a whole triangle's; features that fill no slab and no vector
    for n, d in ((37, 70), (249, 19)):
        X = features(n, d)
        for f in dds_ext.METRICS:
            dds_ext.rdm(X, f, normalize="zscore", center="unbiased")
        dds_ext.rdm(X, "laplacian", condensed=True)
    X, Y = features(37, 4200), features(130, 70)
    dds_ext.rdm(X, "pearson", normalize="center")  # rows of more than one segment
    X = X[:, :70]  # rows with something between them
    for normalize in ("layer", "group", "instance", "batch"):
        dds_ext.rdm(X, "rbf", normalize=normalize, center="double", channels=10, channels_last=normalize == "group")
    for f in ("laplacian", "cosine", "rbf"):
        dds_ext.rdm(X, f, Y=Y, normalize="zscore")
        for dtype in (torch.float16, torch.float64):
            dds_ext.rdm(X.to(dtype), f, normalize="zscore")
    dds_ext.rdm(features(30, 71)[:, 1:], "euclidean")  # misaligned
    dds_ext.rdm(features(70, 30).T, "linear")
    models = [features(33, 20 + 7 * i) for i in range(3)]
    for measure in dds_ext.MEASURES.values():
        dds_ext.affinity(models, **measure)
    dds_ext.compare(dds_ext.rdm(models[0]), dds_ext.rdm(models[1]), "kendall")
    for dtype in (torch.float32, torch.float64):
        X, Y = (z.to(dtype).requires_grad_() for z in (features(37, 70), features(19, 70)))
        dds_ext.rdm(X, "laplacian", Y=Y, normalize="zscore").sum().backward()
    if device != "cuda":
        return
    kernels = _cuda_backend.module()
    kernels.plan = partial(kernels.plan, tensor_cores=True)
    for n, d in ((37, 70), (249, 19)):
        for f in ("linear", "pearson", "cosine"):
            dds_ext.rdm(features(n, d), f, normalize="zscore")
            dds_ext.rdm(features(n, d).half(), f, Y=features(9, d).half())
    torch.cuda.synchronize()


if __name__ == "__main__":
    calls(sys.argv[1])
