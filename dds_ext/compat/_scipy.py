"""Drop-ins for scipy.spatial.distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import distance

from dds_ext.compat._drop_in import DropIn, NotServed
from dds_ext.pairwise import rdm

Matrix = npt.NDArray[np.float64]

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


def _features(X: Any) -> Matrix:
    """SciPy's own conversion: everything becomes float64."""
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        raise NotServed("array of another library")  # the answer is an array of that kind
    X = np.asarray(X)
    # a type that float64 cannot hold is SciPy's to convert or refuse
    if X.ndim != 2 or X.dtype.kind not in "biuf" or X.dtype.itemsize > 8 or isinstance(X, np.ma.MaskedArray):
        raise NotServed("not a plain matrix of numbers")
    wide: Matrix = X.astype(np.float64, copy=False)
    return wide


def _weighted(sets: list[Matrix], f: str, w: Any) -> tuple[list[Matrix], str]:
    """Sets and an f that give what `sets` give by f with weights w of the columns, as SciPy defines them."""
    if (
        type(w) is not np.ndarray
        or w.dtype.kind not in "biuf"
        or any(w.shape != S.shape[1:] for S in sets)
        or not (w >= 0).all()
    ):
        raise NotServed("weights that are negative or not an array of the rows' length")
    if not all(len(S) for S in sets):
        raise NotServed("no rows")
    w = w.astype(np.float64)
    if f == "pearson":
        if any((S[:, w > 0] == S[:, w > 0][:, :1]).all(axis=1).any() for S in sets):
            raise NotServed("constant row")
        sets, f = [S - (S @ (w / w.sum()))[:, None] for S in sets], "cosine"
    elif f != "cosine":  # products would lose the digits that the rows have in common
        sets = [S - sets[0][0] for S in sets]
    return [S * (w if f == "manhattan" else np.sqrt(w)) for S in sets], f


def _distances(sets: list[Matrix], metric: Any, out: Any, w: Any = None, **others: Any) -> Matrix:
    if others:
        raise NotServed("arguments of a metric")
    if out is not None and not (isinstance(out, np.ndarray) and out.dtype == np.float64):
        raise NotServed("out is not an array of float64")
    f = _f(metric)
    if w is not None:
        sets, f = _weighted(sets, f, w)
    if f == "cosine" and not all(S.any(axis=1).all() for S in sets):
        raise NotServed("zero row")  # at distance NaN there
    result: Matrix = rdm(sets[0], f, Y=sets[1] if len(sets) > 1 else None, condensed=len(sets) == 1, out=out)
    return result


def pdist(X: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> Matrix:
    """scipy.spatial.distance.pdist, served for five metrics.

    Parameters
    ----------
    X : (n, d) array-like; all arithmetic is in float64.
    metric : served are "cityblock", "euclidean", "sqeuclidean", "cosine", 1 - cos, and "correlation", 1 - r, under all
        of SciPy's names for them. Others, callables, NaN, and rows that SciPy has NaN for (zero rows under "cosine",
        constant ones under "correlation") are passed on.
    out : float64 array of the result's shape to write to.
    kwargs : w, (d,) array: weights of the columns, 1 each by default. Other arguments of a metric are passed on.

    Returns
    -------
    (n (n - 1) / 2,) float64, in the order of `squareform`.
    """
    return _distances([_features(X)], metric, out, **kwargs)


def cdist(XA: Any, XB: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> Matrix:
    """scipy.spatial.distance.cdist, served for the metrics and weights of `pdist`.

    Parameters
    ----------
    XA, XB : (n, d) and (m, d) array-like; all arithmetic is in float64.
    metric, kwargs : as in `pdist`.

    Returns
    -------
    (n, m) float64.
    """
    return _distances([_features(XA), _features(XB)], metric, out, **kwargs)


DROP_INS = (
    DropIn("scipy.spatial.distance.pdist", distance.pdist, pdist),
    DropIn("scipy.spatial.distance.cdist", distance.cdist, cdist),
)
