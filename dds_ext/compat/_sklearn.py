"""Drop-ins for sklearn.metrics.pairwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs  # type: ignore[import-untyped]
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.metrics import pairwise
from sklearn.preprocessing import normalize

from dds_ext.compat._drop_in import DropIn, NotServed
from dds_ext.pairwise import rdm

Matrix = npt.NDArray[Any]


def _checked(X: Any, Y: Any, **options: Any) -> tuple[Matrix, Matrix]:
    """scikit-learn's own checks and conversions: two dense arrays of float32 or float64, one twice without Y."""
    if issparse(X) or issparse(Y) or get_config().get("array_api_dispatch"):
        raise NotServed("sparse input or array API dispatch")
    checked: tuple[Matrix, Matrix] = pairwise.check_pairwise_arrays(X, Y, **options)
    if any(a.dtype not in (np.float32, np.float64) for a in checked):
        raise NotServed("not float32 or float64")
    return checked


def _matrix(f: str, X: Matrix, Y: Matrix, gamma: float | None = None) -> Matrix:
    # the engine's matrix of one set needs two images
    result: Matrix = rdm(X, f, Y=None if X is Y and len(X) > 1 else Y, gamma=gamma)
    return result


def _in_float64(f: str, X: Matrix, Y: Matrix, gamma: float | None = None) -> Matrix:
    wide = X.astype(np.float64, copy=False)
    return _matrix(f, wide, wide if Y is X else Y.astype(np.float64, copy=False), gamma)


def _check_gamma(gamma: Any) -> None:
    if gamma is None:
        return
    if isinstance(gamma, bool) or not isinstance(gamma, int | float | np.integer | np.floating):
        raise NotServed("gamma is not a number")
    if not 0 < gamma <= sys.float_info.max:
        raise NotServed("gamma is not above 0, or beyond float64")


def _check_flag(flag: Any) -> None:
    if not isinstance(flag, bool | np.bool_):
        raise NotServed("a flag that is not a bool")


def laplacian_kernel(X: Any, Y: Any = None, gamma: Any = None) -> Matrix:
    """sklearn.metrics.pairwise.laplacian_kernel: exp(-gamma |x - y|_1), gamma 1/d by default.

    Returns (n, m) float64, float32 input included, as the original's. Sparse input and gamma <= 0 are passed on.
    """
    _check_gamma(gamma)
    return _in_float64("laplacian", *_checked(X, Y), gamma)


def rbf_kernel(X: Any, Y: Any = None, gamma: Any = None) -> Matrix:
    """sklearn.metrics.pairwise.rbf_kernel: exp(-gamma |x - y|^2), gamma 1/d by default (not `rdm`'s median).

    Returns (n, m) of the input's type, float32 or float64; the distances are formed in float64 either way. Sparse input
    and gamma <= 0 are passed on.
    """
    _check_gamma(gamma)
    X, Y = _checked(X, Y)
    K = _in_float64("rbf", X, Y, 1 / X.shape[1] if gamma is None else gamma)
    return K.astype(np.result_type(X, Y), copy=False)


def linear_kernel(X: Any, Y: Any = None, dense_output: Any = True) -> Matrix:
    """sklearn.metrics.pairwise.linear_kernel: x.y, in the input's type. Sparse input is passed on."""
    _check_flag(dense_output)
    return _matrix("linear", *_checked(X, Y))


def cosine_similarity(X: Any, Y: Any = None, dense_output: Any = True) -> Matrix:
    """sklearn.metrics.pairwise.cosine_similarity: x.y / (|x| |y|), in the input's type; 0 for zero rows, also with
    themselves. Sparse input is passed on.
    """
    _check_flag(dense_output)
    X, Y = _checked(X, Y)
    unit = normalize(X)
    return _matrix("linear", unit, unit if Y is X else normalize(Y))


def cosine_distances(X: Any, Y: Any = None) -> Matrix:
    """sklearn.metrics.pairwise.cosine_distances: 1 - cos in [0, 2], in the input's type; a zero row is at 1 from all
    others and at 0 from itself. Sparse input is passed on.
    """
    X, Y = _checked(X, Y)
    D = _matrix("cosine", X, Y)
    if X is Y:  # one row that is 0 is compared as two sets
        np.fill_diagonal(D, 0)
    return D


def manhattan_distances(X: Any, Y: Any = None) -> Matrix:
    """sklearn.metrics.pairwise.manhattan_distances: |x - y|_1 in float64, whatever the input's type. Sparse input is
    passed on.
    """
    return _in_float64("manhattan", *_checked(X, Y))


def euclidean_distances(
    X: Any, Y: Any = None, *, Y_norm_squared: Any = None, squared: Any = False, X_norm_squared: Any = None
) -> Matrix:
    """sklearn.metrics.pairwise.euclidean_distances: |x - y|, or its square with `squared`.

    Returns (n, m) of the input's type, float32 or float64; the sums are formed in float64 either way. Sparse input and
    given norms are passed on.
    """
    if X_norm_squared is not None or Y_norm_squared is not None:
        raise NotServed("given norms")
    _check_flag(squared)
    X, Y = _checked(X, Y)
    return _in_float64("sqeuclidean" if squared else "euclidean", X, Y).astype(np.result_type(X, Y), copy=False)


def pairwise_distances(
    X: Any, Y: Any = None, metric: Any = "euclidean", *, n_jobs: Any = None, ensure_all_finite: Any = True, **kwds: Any
) -> Matrix:
    """sklearn.metrics.pairwise.pairwise_distances, served for eight names of metrics.

    "manhattan", "cityblock" and "l1" are `manhattan_distances`, "euclidean" and "l2" `euclidean_distances`, "cosine"
    `cosine_distances`; "sqeuclidean" and "correlation" (1 - r) are SciPy's, in float64. Other metrics, sparse input,
    further arguments of a metric, NaN and constant rows under "correlation" are passed on.

    The engine has threads of its own, whatever `n_jobs`. Where it asks for more than one job all metrics return float32
    of float32 input, and a zero row is at cosine distance 1 from itself, as the original's slices are.
    """
    if kwds or ensure_all_finite is not True or not isinstance(metric, str):
        raise NotServed("arguments of a metric, NaN, or a metric that is not a name")
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0):
        raise NotServed("n_jobs")
    if metric not in _DISTANCES:
        raise NotServed(f"metric {metric!r}")
    D = _DISTANCES[metric](X, Y)
    if effective_n_jobs(n_jobs) != 1:
        X, Y = _checked(X, Y)
        D = D.astype(np.result_type(X, Y), copy=False)
        if metric == "cosine" and X is Y:
            np.fill_diagonal(D, np.where(X.any(axis=1), 0, 1))
    return D


_DISTANCES: dict[str, Callable[[Any, Any], Matrix]] = {
    **dict.fromkeys(("manhattan", "cityblock", "l1"), manhattan_distances),
    **dict.fromkeys(("euclidean", "l2"), euclidean_distances),
    "cosine": cosine_distances,
    "sqeuclidean": lambda X, Y: _in_float64("sqeuclidean", *_checked(X, Y)),
    "correlation": lambda X, Y: _in_float64("pearson", *_checked(X, Y)),
}

DROP_INS = tuple(
    DropIn(f"sklearn.metrics.pairwise.{fast.__name__}", getattr(pairwise, fast.__name__), fast)
    for fast in (
        laplacian_kernel,
        rbf_kernel,
        linear_kernel,
        cosine_similarity,
        cosine_distances,
        manhattan_distances,
        euclidean_distances,
        pairwise_distances,
    )
)
