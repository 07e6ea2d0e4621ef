"""Centring and comparing pairwise matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dds_ext import _cpu
from dds_ext._arrays import Array, to_float
from dds_ext.pairwise import CENTERINGS, choose, isa, upper_triangle

COMPARISONS = ("cosine", "pearson", "spearman", "kendall")
"""Names of the comparisons g."""


def _square(K: Array, name: str, dimensions: tuple[int, ...]) -> torch.Tensor:
    """`K` as a contiguous float32 or float64 tensor of square matrices, possibly sharing its memory."""
    array, _ = to_float(K, name)
    tensor = array if isinstance(array, torch.Tensor) else torch.tensor(array) if array.dtype.name != "bfloat16" else None
    if tensor is None:
        raise TypeError(f"{name} has dtype bfloat16 in NumPy, which is not served for matrices; convert it to float32")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    if tensor.ndim not in dimensions or tensor.shape[-1] != tensor.shape[-2]:
        wanted = " or ".join("(n, n)" if d == 2 else "(s, n, n)" for d in dimensions)
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {wanted}")
    return tensor.contiguous()


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
    ValueError : K is not square or not symmetric (beyond 1e-4 of its largest entry), holds NaN or infinity, or n < 4 with
        "unbiased".

    Equivalent to, for "unbiased"::

        A = K * (1 - np.eye(n)); r = A.sum(1); T = r.sum()
        (A - (r[:, None] + r[None]) / (n - 2) + T / ((n - 1) * (n - 2))) * (1 - np.eye(n))
    """
    index = choose("mode", mode, CENTERINGS)
    _, like = to_float(K, "K")
    matrix = _square(K, "K", (2,))
    n = matrix.shape[0]
    if not torch.isfinite(matrix).all():
        raise ValueError("K has NaN or infinity")
    if n and (matrix - matrix.T).abs().max() > 1e-4 * matrix.abs().max():
        raise ValueError("K is not symmetric; a centring is for the pairwise matrix of one set of images")
    if mode == "unbiased" and n < 4:
        raise ValueError(f"mode='unbiased' needs at least 4 images, K has {n}")
    # the mean of both halves: a matrix that is symmetric only up to rounding becomes exactly so
    result = (matrix + matrix.T) / 2
    if index:
        _cpu.center(
            result.data_ptr(), 1, n, 3 if result.dtype == torch.float64 else 2, index, torch.get_num_threads(), isa()
        )
    return result if isinstance(K, torch.Tensor) else like(result if hasattr(K, "__array_namespace__") and not hasattr(K, "ctypes") else result.numpy())


def vectors(K: torch.Tensor, g: str, names: Sequence[str]) -> torch.Tensor:
    """What of each of the matrices (s, n, n) enters g, as float64 rows (s, length): of unit length, so that their product is
    g, or for "kendall" as ranks.

    Raises ValueError, naming the matrix, where g is undefined for it.
    """
    s, n, _ = K.shape
    if g != "cosine" and n < 3:
        raise ValueError(f"{names[0]} has {n} images, fewer than 3 pairs; a correlation needs at least 3 images")
    values = K.reshape(s, n * n) if g == "cosine" else upper_triangle(K)
    low, high = torch.aminmax(values, dim=1)
    for i, name in enumerate(names):
        if not (torch.isfinite(low[i]) and torch.isfinite(high[i])):
            raise ValueError(f"{name} has NaN or infinity")
        if g == "cosine" and low[i] == 0 == high[i]:
            raise ValueError(f"{name} has zero norm, so that g='cosine' is undefined")
        if g != "cosine" and low[i] == high[i]:
            raise ValueError(f"{name} is constant above the diagonal, so that g='{g}' is undefined")
    if g in ("spearman", "kendall"):
        ranks = torch.empty(values.shape, dtype=torch.float64)
        dtype = 3 if values.dtype == torch.float64 else 2
        _cpu.rank(values.data_ptr(), s, values.shape[1], dtype, ranks.data_ptr(), torch.get_num_threads())
        if g == "kendall":
            return ranks
        values = ranks
    values = values.to(torch.float64)
    if g != "cosine":
        values = values - values.mean(1, keepdim=True)
    else:
        # far from 1 the squares would leave float64's range
        values = values / torch.maximum(low.abs(), high.abs()).to(torch.float64)[:, None]
    return values / torch.linalg.vector_norm(values, dim=1, keepdim=True)


def product(a: torch.Tensor, b: torch.Tensor, g: str) -> torch.Tensor:
    """(s, length) x (t, length) of `vectors` -> (s, t) scores."""
    if g != "kendall":
        return (a @ b.T).clamp(-1, 1)
    out = torch.empty((a.shape[0], b.shape[0]), dtype=torch.float64)
    _cpu.kendall(
        a.data_ptr(), a.shape[0], b.data_ptr(), b.shape[0], a.shape[1], out.data_ptr(), torch.get_num_threads()
    )
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
    stacks = []
    for K, name in ((K1, "K1"), (K2, "K2")):
        stack = _square(K, name, (2, 3))
        names = [name] if stack.ndim == 2 else [f"{name}[{i}]" for i in range(len(stack))]
        stacks.append((stack.reshape(-1, *stack.shape[-2:]), names, stack.ndim))
    (a, a_names, a_dim), (b, b_names, b_dim) = stacks
    if a_dim != b_dim:
        raise ValueError("K1 and K2 must both be matrices (n, n) or both stacks (s, n, n)")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"different numbers of images: K1 has {a.shape[1]}, K2 has {b.shape[1]}")
    scores = product(vectors(a, g, a_names), vectors(b, g, b_names), g)
    if a_dim == 2:
        return scores.item()
    return scores if isinstance(K1, torch.Tensor) else scores.numpy()
