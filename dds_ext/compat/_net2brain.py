"""Drop-in for net2brain.rdm.dist."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from net2brain.rdm import dist_utils

from dds_ext.compat._drop_in import DropIn, NotServed
from dds_ext.pairwise import rdm

_METRICS = {
    "euclidean": "euclidean",
    "l2": "euclidean",
    "manhattan": "manhattan",
    "l1": "manhattan",
    "cosine": "cosine",
    "correlation": "pearson",
    "pearson": "pearson",
}


def _features(x: Any, f: str, device: Any, dtype: Any) -> torch.Tensor:
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = torch.from_numpy(x)
    if not isinstance(x, torch.Tensor) or x.ndim != 2 or x.requires_grad:
        raise NotServed("not a plain matrix")
    features: torch.Tensor = x.to(device=device, dtype=dtype)
    if features.dtype not in (torch.float32, torch.float64) or (f == "cosine" and not features.any(dim=1).all()):
        raise NotServed("not float32 or float64, or a zero row")  # which is at distance NaN there
    return features


def dist(x: Any, y: Any = None, chunk_size: Any = None, metric: Any = "euclidean", **kwargs: Any) -> torch.Tensor:
    """net2brain.rdm.dist, which RDMCreator and LazyRDMCreator call.

    Parameters
    ----------
    x, y : (n, d) and (m, d) tensors or arrays, float32 or float64.
    metric : served are "euclidean" and "l2", "manhattan" and "l1", "cosine", "correlation", 1 - r, and "pearson": 1 - r
        after each feature has been brought to mean 0 and deviation 1 over the images; 1e-7 is added to the deviation.
    chunk_size : has no effect on the result; the engine needs no chunks.
    kwargs : `device`, `dtype` and `verbose`, as there.

    Returns
    -------
    (n, n) or (n, m) tensor of the input's type; its diagonal is exactly 0, where the original's may be off by rounding
    (and is 1e-15 for "euclidean"). Stacks, callables, other types, and rows that the original has NaN for are passed
    on.
    """
    if kwargs.keys() - {"device", "dtype", "verbose"} or not isinstance(metric, str) or metric not in _METRICS:
        raise NotServed("metric or option")
    f = _METRICS[metric]
    x, y = (None if a is None else _features(a, f, kwargs.get("device"), kwargs.get("dtype")) for a in (x, y))
    if metric == "pearson":
        if y is not None or chunk_size is not None:
            raise NotServed("pearson of two sets or in chunks")
        x = (x - x.mean(dim=0)) / (x.std(dim=0, unbiased=False) + 1e-7)
    result: torch.Tensor = rdm(x, f, Y=y)
    return result


DROP_INS = (DropIn("net2brain.rdm.dist", dist_utils.dist, dist),)
