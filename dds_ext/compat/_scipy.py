"""Drop-ins for scipy.spatial.distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import distance

from dds_ext.compat._drop_in import DropIn, NotServed
from dds_ext.pairwise import rdm

# SciPy's names and short names of each metric
_METRICS = {
    **dict.fromkeys(("cityblock", "cblock", "cb", "c"), "manhattan"),
    **dict.fromkeys(("euclidean", "euclid", "eu", "e"), "euclidean"),
    **dict.fromkeys(("sqeuclidean", "sqe", "sqeuclid"), "sqeuclidean"),
    **dict.fromkeys(("cosine", "cos"), "cosine"),
    **dict.fromkeys(("correlation", "co"), "pearson"),
}


def _f(metric: Any) -> str:
    if not isinstance(metric, str) or metric.lower() not in _METRICS:
        raise NotServed(f"metric {metric!r}")
    return _METRICS[metric.lower()]


def _features(X: Any, f: str) -> npt.NDArray[np.float64]:
    """SciPy's own conversion: everything becomes float64."""
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        raise NotServed("array of another library")  # the answer is an array of that kind
    X = np.asarray(X)
    # a type that float64 cannot hold is SciPy's to convert or refuse
    if X.ndim != 2 or X.dtype.kind not in "biuf" or X.dtype.itemsize > 8 or isinstance(X, np.ma.MaskedArray):
        raise NotServed("not a plain matrix of numbers")
    wide: npt.NDArray[np.float64] = X.astype(np.float64, copy=False)
    if f == "cosine" and not wide.any(axis=1).all():
        raise NotServed("zero row")  # at distance NaN there
    return wide


def pdist(X: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> npt.NDArray[np.float64]:
    """scipy.spatial.distance.pdist, served for five metrics.

    Parameters
    ----------
    X : (n, d) array-like; all arithmetic is in float64.
    metric : served are "cityblock", "euclidean", "sqeuclidean", "cosine", 1 - cos, and "correlation", 1 - r, under all
        of SciPy's names for them. Others, callables, weights, NaN, and rows that SciPy has NaN for (zero rows under
        "cosine", constant ones under "correlation") are passed on.
    out : float64 array of the result's shape to write to.

    Returns
    -------
    (n (n - 1) / 2,) float64, in the order of `squareform`.
    """
    if kwargs:
        raise NotServed("weights or arguments of a metric")
    f = _f(metric)
    result: npt.NDArray[np.float64] = rdm(_features(X, f), f, condensed=True, out=out)
    return result


def cdist(XA: Any, XB: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> npt.NDArray[np.float64]:
    """scipy.spatial.distance.cdist, served for the metrics of `pdist`.

    Parameters
    ----------
    XA, XB : (n, d) and (m, d) array-like; all arithmetic is in float64.
    metric : as in `pdist`.

    Returns
    -------
    (n, m) float64.
    """
    if kwargs:
        raise NotServed("weights or arguments of a metric")
    f = _f(metric)
    result: npt.NDArray[np.float64] = rdm(_features(XA, f), f, Y=_features(XB, f), out=out)
    return result


DROP_INS = (
    DropIn("scipy.spatial.distance.pdist", distance.pdist, pdist),
    DropIn("scipy.spatial.distance.cdist", distance.cdist, cdist),
)
