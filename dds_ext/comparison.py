"""Centring and comparing pairwise matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dds_ext import _cpu, _cuda_backend
from dds_ext._arrays import (
    DTYPES,
    Array,
    Features,
    Matrices,
    address,
    dtype_name,
    rows_text,
    through_operators,
    to_float,
    to_numpy,
    upper_triangle,
)
from dds_ext._compute import compute
from dds_ext._requests import CENTERINGS, Options, Request, choose, isa
from dds_ext._torch_ranks import average_ranks, kendall

COMPARISONS = ("cosine", "pearson", "spearman", "kendall")
"""Names of the comparisons g."""

# On the CPU matrices are NumPy arrays: torch's own threads do not survive a fork. On a GPU they are tensors.


def _as_matrices(K: Array, name: str) -> tuple[Matrices, Callable[[Any], Any]]:
    """`K` as a contiguous float32 or float64 array, possibly sharing its memory, and what restores its kind."""
    array, like = to_float(K, name)
    if isinstance(array, torch.Tensor):
        if array.dtype in (torch.float16, torch.bfloat16):
            array = array.float()
        if array.device.type == "cuda":
            return array.contiguous(), like
        return np.ascontiguousarray(array.numpy()), lambda k: like(torch.from_numpy(k))
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32), like


def _check_square(K: Matrices, name: str, dimensions: tuple[int, ...]) -> None:
    if K.ndim not in dimensions or K.shape[-1] != K.shape[-2]:
        wanted = " or ".join("(n, n)" if d == 2 else "(s, n, n)" for d in dimensions)
        raise ValueError(f"{name} has shape {tuple(K.shape)}; it must be {wanted}")


def _extremes(rows: Matrices) -> Matrices:
    """The smallest and the largest value of each row, (2, s), where the rows are; NaN where the row has any."""
    if isinstance(rows, torch.Tensor):
        return torch.stack(torch.aminmax(rows, dim=1))
    return np.stack([rows.min(axis=1), rows.max(axis=1)])


def _largest(K: Matrices) -> float:
    """The largest absolute value."""
    low, high = to_numpy(_extremes(K.reshape(1, -1)))
    return float(max(-low[0], high[0]))


def _check_finite(K: Matrices, name: str) -> None:
    n = K.shape[-1]
    if n == 0:
        return
    low, high = to_numpy(_extremes(K.reshape(-1, n)))
    bad = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if not len(bad):
        return
    if K.ndim == 3:
        worst = int(bad[0]) // n
        name, bad = f"{name}[{worst}]", bad[bad // n == worst] % n
    raise ValueError(f"{name} has NaN or infinity in {rows_text(bad.tolist())}")


def center(K: Array, mode: str) -> Array:
    """Centred copy of a symmetric matrix.

    Parameters
    ----------
    K : (n, n) symmetric matrix.
    mode : "double" for H K H, H = I - 11'/n; "unbiased" for U-centring (Szekely & Rizzo 2014), n >= 4, which zeroes the
        diagonal and makes every row sum to 0; "none".

    Returns
    -------
    (n, n) array of K's kind, exactly symmetric; float64 for float64 input, else float32. Differentiable by K.

    Raises
    ------
    ValueError : K is not square, not symmetric (beyond 1e-4 of its largest entry), holds NaN or infinity, or n < 4 with
        "unbiased".

    Equivalent to, for "unbiased"::

        A = K * (1 - np.eye(n)); r = A.sum(1); T = r.sum()
        (A - (r[:, None] + r[None]) / (n - 2) + T / ((n - 1) * (n - 2))) * (1 - np.eye(n))
    """
    if through_operators(K):
        return torch.ops.dds_ext.center(K, mode)
    matrix, like = _as_matrices(K, "K")
    _check_square(matrix, "K", (2,))
    return like(center_stack(matrix[None], mode)[0])


def center_arrays(K: Array, mode: str, check: bool) -> Array:
    """Centred copy of the symmetric part of matrices (..., n, n)."""
    matrices, like = _as_matrices(K, "K")
    check_centering(matrices, mode)
    stack = matrices.reshape(math.prod(matrices.shape[:-2]), *matrices.shape[-2:])
    return like(center_stack(stack, mode, check).reshape(matrices.shape))


def check_centering(K: Matrices, mode: str) -> None:
    """Of the shape (..., n, n)."""
    choose("mode", mode, CENTERINGS)
    _check_square(K, "K", tuple(range(2, max(K.ndim, 2) + 1)))
    n = K.shape[-1]
    if mode == "unbiased" and n < 4:
        raise ValueError(f"mode='unbiased' needs at least 4 images, K has {n}")


def center_stack(K: Matrices, mode: str, check: bool = True) -> Matrices:
    """Centred copies of a stack (s, n, n), of the symmetric parts where `check` does not ask for symmetric matrices."""
    check_centering(K, mode)
    n = K.shape[-1]
    for i in range(len(K) if check and n else 0):
        name = f"K[{i}]" if len(K) > 1 else "K"
        _check_finite(K[i], name)
        if _largest(K[i] - K[i].T) > 1e-4 * _largest(K[i]):
            raise ValueError(f"{name} is not symmetric; a centring is for the pairwise matrix of one set of images")
    # the mean of both halves: a matrix that is symmetric only up to rounding becomes exactly so
    return centered((K + K.swapaxes(1, 2)) / 2, mode)


def centered(K: Matrices, mode: str) -> Matrices:
    """Centred copy of a stack of symmetric matrices, (s, n, n); `K` itself for "none"."""
    if mode == "none":
        return K
    index = CENTERINGS.index(mode)
    if isinstance(K, torch.Tensor):
        copy = K.clone()
        _cuda_backend.center(_cuda_backend.module(), copy, index)
        return copy
    result: Matrices = K.copy()
    s, n, _ = result.shape
    _cpu.center(address(result), s, n, DTYPES[dtype_name(result)], index, torch.get_num_threads(), isa())
    return result


def condenses(g: str) -> bool:
    """Whether g compares the entries above the diagonal rather than whole matrices."""
    return g != "cosine"


def compared(K: Matrices, g: str) -> Matrices:
    """What g compares of a stack of matrices, (s, n, n) or already condensed, as rows (s, length)."""
    return upper_triangle(K) if condenses(g) and K.ndim == 3 else K.reshape(len(K), -1)


def scores(
    a: Matrices,
    b: Matrices | None,
    g: str,
    a_names: Sequence[str],
    b_names: Sequence[str] = (),
    check: bool = True,
) -> Matrices:
    """Compares every row of `a` (s, length) with every row of `b` (t, length), or with every other of `a`, by g.

    Rows are matrices: flattened for "cosine", else their entries above the diagonal. This is itself a pairwise matrix,
    of the rows' cosines or correlations: (s, t) float64, where the rows are. Of a GPU's rows the host sees the smallest
    and the largest value, to refuse constant ones; without `check` nothing, and their scores are NaN.
    """
    sets = [(a, a_names)] if b is None else [(a, a_names), (b, b_names)]
    ends = []
    for rows, names in sets:
        if condenses(g) and rows.shape[1] < 3:
            raise ValueError(f"{names[0]} has fewer than 3 pairs of images; g='{g}' needs at least 3 images")
        ends.append(_extremes(rows))
        if check:
            _check_defined(to_numpy(ends[-1]), g, names)
    result: Matrices
    if g == "kendall":
        result = _kendall(a, b)
    elif b is None and len(a) == 1:
        one = np.ones((1, 1))
        result = torch.from_numpy(one).to(a.device) if isinstance(a, torch.Tensor) else one
    else:
        compared = [
            _ranks(rows) if g == "spearman" else _scaled(rows, low_high)
            for (rows, _), low_high in zip(sets, ends, strict=True)
        ]
        x, *y = (Features(name, m, lambda k: k, None) for m, name in zip(compared, ("K1", "K2"), strict=False))
        options = Options(f="cosine" if g == "cosine" else "pearson", check_finite=False)
        result = 1 - compute([Request(x, y[0] if y else None, options, wide=True)])[0]
    if not check:
        result[_undefined(ends[0], g)[:, None] | _undefined(ends[-1], g)] = math.nan
    return result


def _check_defined(ends: npt.NDArray[Any], g: str, names: Sequence[str]) -> None:
    for name, (low, high), undefined in zip(names, ends.T, _undefined(ends, g), strict=True):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{name} has NaN or infinity")
        if undefined and g == "cosine":
            raise ValueError(f"{name} has zero norm, so that g='cosine' is undefined")
        if undefined:
            raise ValueError(f"{name} is constant above the diagonal, so that g='{g}' is undefined")


def _undefined(ends: Matrices, g: str) -> Matrices:
    """Which rows have no direction, or hold NaN or infinity, by their smallest and largest values."""
    low, high = ends
    same = (low == high) & ((low == 0) | condenses(g))
    undefined: Matrices = same | ~((low > -math.inf) & (high < math.inf))
    return undefined


def _scaled(rows: Matrices, ends: Matrices) -> Matrices:
    """Rows whose largest entry is 1: a comparison does not see the scale, and squares stay in float64's range."""
    if dtype_name(rows) != "float64":
        return rows
    low, high = ends
    largest = torch.maximum(-low, high) if isinstance(low, torch.Tensor) else np.maximum(-low, high)
    with np.errstate(invalid="ignore"):  # of a matrix of zeros, 0 / 0
        scaled: Matrices = rows / largest[:, None]
    return scaled


def _ranks(rows: Matrices) -> Matrices:
    if isinstance(rows, torch.Tensor):
        return average_ranks(rows)
    ranks = np.empty(rows.shape)
    s, length = rows.shape
    _cpu.rank(address(rows), s, length, DTYPES[rows.dtype.name], address(ranks), torch.get_num_threads())
    return ranks


def _kendall(a: Matrices, b: Matrices | None) -> Matrices:
    if isinstance(a, torch.Tensor):
        return kendall(a, b if isinstance(b, torch.Tensor) else None)
    x = np.asarray(_ranks(a))
    y = x if b is None else np.asarray(_ranks(b))
    out = np.empty((len(x), len(y)))
    _cpu.kendall(address(x), len(x), address(y), len(y), x.shape[1], address(out), torch.get_num_threads())
    return out


def compare(K1: Array, K2: Array, g: str = "pearson", check_finite: bool = True) -> Array:
    """How alike two pairwise matrices are, in [-1, 1].

    Parameters
    ----------
    K1, K2 : (n, n) matrices, or stacks (S, n, n) and (T, n, n).
    g : "cosine" of the flattened matrices (of centred ones this is CKA, and DDS's choice); "pearson", "spearman" and
        "kendall" (tau-b) over the entries above the diagonal. Ties take average ranks, as in scipy.stats.
    check_finite : refuse NaN, infinity, and constant or zero matrices, whose scores are NaN otherwise. On a GPU the
        host waits for the check.

    Returns
    -------
    For stacks the (S, T) float64 scores, of K1's kind. For matrices one number: if either is a tensor a float64 tensor
    of no dimensions, else a float. "cosine" and "pearson" are differentiable.

    Raises
    ------
    ValueError : different n, fewer than 3 pairs in a correlation, a constant or zero matrix, NaN or infinity.

    Equivalent to, for "spearman"::

        i, j = np.triu_indices(n, 1)
        scipy.stats.spearmanr(K1[i, j], K2[i, j]).statistic
    """
    choose("g", g, COMPARISONS)
    if through_operators(K1, K2):
        tensors = [torch.as_tensor(K) for K in (K1, K2)]
        if all(K.ndim == 2 for K in tensors):
            return torch.ops.dds_ext.compare(*(K[None] for K in tensors), g, check_finite)[0, 0]
        return torch.ops.dds_ext.compare(*tensors, g, check_finite)
    return compare_arrays(K1, K2, g, check_finite)


def check_comparison(a: Matrices, b: Matrices, g: str, dimensions: tuple[int, ...] = (2, 3)) -> None:
    """Of the shapes of K1 and K2."""
    choose("g", g, COMPARISONS)
    for K, name in ((a, "K1"), (b, "K2")):
        _check_square(K, name, dimensions)
        if 0 in K.shape[-3:]:
            raise ValueError(f"{name} of shape {tuple(K.shape)} is empty")
    if a.ndim != b.ndim:
        raise ValueError("K1 and K2 must both be matrices (n, n) or both stacks (s, n, n)")
    n, m = a.shape[-1], b.shape[-1]
    if n != m:
        raise ValueError(f"different numbers of images: K1 has {n}, K2 has {m}")
    if condenses(g) and n < 3:
        raise ValueError(f"K1 has fewer than 3 pairs of images; g='{g}' needs at least 3 images")


def compare_arrays(K1: Array, K2: Array, g: str, check: bool) -> Array:
    """`compare`, whatever else looks at the call."""
    choose("g", g, COMPARISONS)
    (a, like), (b, _) = _as_matrices(K1, "K1"), _as_matrices(K2, "K2")
    if isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor) or (
        isinstance(a, torch.Tensor) and a.device != b.device
    ):
        raise ValueError("K1 and K2 must be on the same device")
    check_comparison(a, b, g)
    for K, name in ((a, "K1"), (b, "K2")) if check else ():
        _check_finite(K, name)
    rows, names = [], []
    for K, name in ((a, "K1"), (b, "K2")):
        stack = K.reshape(-1, *K.shape[-2:])
        rows.append(compared(stack, g))
        names.append([name] if K.ndim == 2 else [f"{name}[{i}]" for i in range(len(stack))])
    result = scores(rows[0], rows[1], g, names[0], names[1], check)
    if a.ndim == 3:
        return like(result)
    score = result[0, 0]
    return torch.as_tensor(score) if any(isinstance(K, torch.Tensor) for K in (K1, K2)) else float(score)
