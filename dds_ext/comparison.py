"""Centring and comparing pairwise matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dds_ext import _cpu
from dds_ext._arrays import DTYPES, Array, Features, address, rows_text, to_float, upper_triangle
from dds_ext._compute import compute
from dds_ext._requests import CENTERINGS, Options, Request, choose, isa

COMPARISONS = ("cosine", "pearson", "spearman", "kendall")
"""Names of the comparisons g."""

Matrices = np.ndarray[Any, Any]


def _as_numpy(K: Array, name: str) -> tuple[Matrices, Callable[[Any], Any]]:
    """`K` as a contiguous float32 or float64 array, possibly sharing its memory, and what restores its kind."""
    array, like = to_float(K, name)
    if isinstance(array, torch.Tensor):
        narrow = array.dtype in (torch.float16, torch.bfloat16)
        return np.ascontiguousarray((array.float() if narrow else array).numpy()), lambda k: like(torch.from_numpy(k))
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32), like


def _check_square(K: Matrices, name: str, dimensions: tuple[int, ...]) -> None:
    if K.ndim not in dimensions or K.shape[-1] != K.shape[-2]:
        wanted = " or ".join("(n, n)" if d == 2 else "(s, n, n)" for d in dimensions)
        raise ValueError(f"{name} has shape {K.shape}; it must be {wanted}")


def _check_finite(K: Matrices, name: str) -> None:
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(K).all(-1))
    if finite.all():
        return
    if K.ndim == 3:
        worst = int(np.argmin(finite.all(-1)))
        name, finite = f"{name}[{worst}]", finite[worst]
    raise ValueError(f"{name} has NaN or infinity in {rows_text(np.flatnonzero(~finite).tolist())}")


def center(K: Array, mode: str) -> Array:
    """Centred copy of a symmetric matrix.

    Parameters
    ----------
    K : (n, n) symmetric matrix.
    mode : "double" for H K H, H = I - 11'/n; "unbiased" for U-centring (Szekely & Rizzo 2014), n >= 4, which zeroes the
        diagonal and makes every row sum to 0; "none".

    Returns
    -------
    (n, n) array of K's kind, exactly symmetric; float64 for float64 input, else float32.

    Raises
    ------
    ValueError : K is not square, not symmetric (beyond 1e-4 of its largest entry), holds NaN or infinity, or n < 4 with
        "unbiased".

    Equivalent to, for "unbiased"::

        A = K * (1 - np.eye(n)); r = A.sum(1); T = r.sum()
        (A - (r[:, None] + r[None]) / (n - 2) + T / ((n - 1) * (n - 2))) * (1 - np.eye(n))
    """
    choose("mode", mode, CENTERINGS)
    matrix, like = _as_numpy(K, "K")
    _check_square(matrix, "K", (2,))
    n = matrix.shape[0]
    _check_finite(matrix, "K")
    if n and np.abs(matrix - matrix.T).max() > 1e-4 * np.abs(matrix).max():
        raise ValueError("K is not symmetric; a centring is for the pairwise matrix of one set of images")
    if mode == "unbiased" and n < 4:
        raise ValueError(f"mode='unbiased' needs at least 4 images, K has {n}")
    # the mean of both halves: a matrix that is symmetric only up to rounding becomes exactly so
    result: Matrices = centered((matrix + matrix.T)[None] / 2, mode)[0]
    return like(result)


def centered(K: Matrices, mode: str) -> Matrices:
    """Centred copy of a stack of symmetric matrices, (s, n, n); `K` itself for "none"."""
    if mode == "none":
        return K
    result: Matrices = K.copy()
    s, n, _ = result.shape
    index = CENTERINGS.index(mode)
    _cpu.center(address(result), s, n, DTYPES[result.dtype.name], index, torch.get_num_threads(), isa())
    return result


def condenses(g: str) -> bool:
    """Whether g compares the entries above the diagonal rather than whole matrices."""
    return g != "cosine"


def compared(K: Matrices, g: str) -> Matrices:
    """What g compares of a stack of matrices, (s, n, n) or already condensed, as rows (s, length)."""
    return upper_triangle(K) if condenses(g) and K.ndim == 3 else K.reshape(len(K), -1)


def scores(
    a: Matrices, b: Matrices | None, g: str, a_names: Sequence[str], b_names: Sequence[str] = ()
) -> npt.NDArray[np.float64]:
    """Compares every row of `a` (s, length) with every row of `b` (t, length), or with every other of `a`, by g.

    Rows are matrices: flattened for "cosine", else their entries above the diagonal. This is itself a pairwise matrix,
    of the rows' cosines or correlations, in float64.
    """
    sets = [(a, a_names)] if b is None else [(a, a_names), (b, b_names)]
    for rows, names in sets:
        if condenses(g) and rows.shape[1] < 3:
            raise ValueError(f"{names[0]} has fewer than 3 pairs of images; g='{g}' needs at least 3 images")
        for row, name in zip(rows, names, strict=True):
            if not np.isfinite(row.sum(dtype=np.float64)) and not np.isfinite(row).all():
                raise ValueError(f"{name} has NaN or infinity")
            if g == "cosine" and not row.any():
                raise ValueError(f"{name} has zero norm, so that g='cosine' is undefined")
            if g != "cosine" and row.min() == row.max():
                raise ValueError(f"{name} is constant above the diagonal, so that g='{g}' is undefined")
    if g in ("spearman", "kendall"):
        ranked = [_ranks(rows) for rows, _ in sets]
        if g == "kendall":
            return _kendall(ranked[0], ranked[-1])
        a, b = ranked[0], None if b is None else ranked[1]
    if b is None and len(a) == 1:
        return np.ones((1, 1))
    a, b = _scaled(a), None if b is None else _scaled(b)
    x, y = (None if m is None else Features(name, m, lambda k: k, None) for m, name in ((a, "K1"), (b, "K2")))
    assert x is not None
    request = Request(x, y, Options(f="cosine" if g == "cosine" else "pearson"), wide=True)
    distances = compute([request])[0]
    return np.asarray(1 - distances, np.float64)


def _scaled(rows: Matrices) -> Matrices:
    """Rows whose largest entry is 1: a comparison does not see the scale, and squares stay in float64's range."""
    if rows.dtype != np.float64:
        return rows
    scaled: Matrices = rows / np.abs(rows).max(axis=1, keepdims=True)
    return scaled


def _ranks(rows: Matrices) -> npt.NDArray[np.float64]:
    ranks = np.empty(rows.shape)
    s, length = rows.shape
    _cpu.rank(address(rows), s, length, DTYPES[rows.dtype.name], address(ranks), torch.get_num_threads())
    return ranks


def _kendall(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    out = np.empty((len(a), len(b)))
    _cpu.kendall(address(a), len(a), address(b), len(b), a.shape[1], address(out), torch.get_num_threads())
    return out


def compare(K1: Array, K2: Array, g: str = "pearson") -> Array:
    """How alike two pairwise matrices are, in [-1, 1].

    Parameters
    ----------
    K1, K2 : (n, n) matrices, or stacks (S, n, n) and (T, n, n).
    g : "cosine" of the flattened matrices (of centred ones this is CKA, and DDS's choice); "pearson", "spearman" and
        "kendall" (tau-b) over the entries above the diagonal. Ties take average ranks, as in scipy.stats.

    Returns
    -------
    float, or for stacks the (S, T) float64 scores, of K1's kind.

    Raises
    ------
    ValueError : different n, fewer than 3 pairs in a correlation, a constant or zero matrix, NaN or infinity.

    Equivalent to, for "spearman"::

        i, j = np.triu_indices(n, 1)
        scipy.stats.spearmanr(K1[i, j], K2[i, j]).statistic
    """
    choose("g", g, COMPARISONS)
    (a, like), (b, _) = _as_numpy(K1, "K1"), _as_numpy(K2, "K2")
    for K, name in ((a, "K1"), (b, "K2")):
        _check_square(K, name, (2, 3))
        if K.size == 0:
            raise ValueError(f"{name} of shape {K.shape} is empty")
        _check_finite(K, name)
    if a.ndim != b.ndim:
        raise ValueError("K1 and K2 must both be matrices (n, n) or both stacks (s, n, n)")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"different numbers of images: K1 has {a.shape[-1]}, K2 has {b.shape[-1]}")
    rows, names = [], []
    for K, name in ((a, "K1"), (b, "K2")):
        stack = K.reshape(-1, *K.shape[-2:])
        rows.append(compared(stack, g))
        names.append([name] if K.ndim == 2 else [f"{name}[{i}]" for i in range(len(stack))])
    result = scores(rows[0], rows[1], g, names[0], names[1])
    return float(result[0, 0]) if a.ndim == 2 else like(result)
