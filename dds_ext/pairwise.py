"""Pairwise matrices of one or two sets of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dds_ext._arrays import Array, features, flatten, through_operators
from dds_ext._compute import compute
from dds_ext._requests import Options, Request, check_one_set, refuse_gamma_gradient


def _checked_out(request: Request, out: object) -> torch.Tensor | np.ndarray[Any, Any]:
    shape, wide = request.shape, request.x.wide
    dtype = "float64" if wide else "float32"
    if not isinstance(out, torch.Tensor | np.ndarray) or isinstance(out, torch.Tensor) != isinstance(
        request.x.array, torch.Tensor
    ):
        raise TypeError(f"out must be of the kind of X, got {type(out).__name__}")
    if isinstance(out, torch.Tensor) and (
        out.device != request.x.device or out.layout is not torch.strided or out.is_neg() or out.requires_grad
    ):
        raise TypeError("out must be a plain, dense tensor on X's device that does not require grad")
    if str(out.dtype).removeprefix("torch.") != dtype:
        raise TypeError(f"out must have the result's dtype {dtype}, got {out.dtype}")
    contiguous = (
        out.is_contiguous() if isinstance(out, torch.Tensor) else out.flags.c_contiguous and out.flags.writeable
    )
    if tuple(out.shape) != shape:
        raise ValueError(f"out must have shape {shape}, got {tuple(out.shape)}")
    if not contiguous:
        raise ValueError("out must be contiguous and writable")
    return out


def _by_operators(
    X: Any,
    Y: Any,
    f: str,
    gamma: float | None,
    normalize: str,
    center: str,
    layout: tuple[int | None, bool, int],
    precision: str,
    condensed: bool,
    check_finite: bool,
) -> torch.Tensor:
    """`rdm` of tensors that require grad, or that a compiler or a transform looks at."""
    refuse_gamma_gradient(gamma)
    channels, channels_last, groups = layout
    x, inferred = flatten(torch.as_tensor(X), "X", channels, channels_last)
    y = None
    if Y is not None:
        check_one_set(center, condensed)
        y, _ = flatten(torch.as_tensor(Y), "Y", channels if inferred is None else inferred, channels_last)
    channels = inferred if channels is None else channels
    K: torch.Tensor = torch.ops.dds_ext.pairwise(
        x, y, f, gamma, normalize, channels, channels_last, groups, precision, check_finite
    )
    if center != "none":
        K = torch.ops.dds_ext.center(K, center, False)
    return K[_above_diagonal(K)] if condensed else K


def _above_diagonal(K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the entries above the diagonal, row by row; torch.triu_indices would fix n under torch.export."""
    n = K.shape[0]
    # counted by K's own ones, so that they are tensors of K's kind, numbers or not
    rows, entries = (K.new_ones(count, dtype=torch.int64).cumsum(0) - 1 for count in (n, n * (n - 1) // 2))
    ends = (rows + 1) * (2 * n - rows - 2) // 2  # of each row among all entries
    i = torch.searchsorted(ends, entries, right=True)
    return i, entries - ends[i] + n


def rdm(
    X: Array,
    f: str = "laplacian",
    *,
    Y: Array | None = None,
    gamma: float | None = None,
    normalize: str = "none",
    center: str = "none",
    channels: int | None = None,
    channels_last: bool = False,
    groups: int = 2,
    precision: str = "default",
    condensed: bool = False,
    check_finite: bool = True,
    out: Array | None = None,
) -> Array:
    """Pairwise matrix of the rows of `X`, after a normalisation, before an optional centring: all in one pass.

    Parameters
    ----------
    X : (n, d) or (n, C, *spatial) features of n images; torch tensor, NumPy array or DLPack object. float16, bfloat16,
        float32 or float64, any strides; integers are converted to float32.
    f : "linear" x.y; "laplacian" exp(-gamma |x - y|_1); "rbf" exp(-gamma |x - y|_2^2); "pearson" 1 - r; "euclidean"
        |x - y|_2; "cosine" 1 - cos; "manhattan" |x - y|_1; "sqeuclidean" |x - y|_2^2.
    Y : (m, d) second set; the result is then (n, m). Statistics over images are X's, applied to both.
    gamma : default 1/d for the laplacian; for rbf 1 / (2 t^2 median), t = 0.5, the median over all n^2 squared
        distances of X, the zero diagonal included (Dwivedi et al., ECCV 2020, as their implementation does it).
    normalize : "none"; "center" and "zscore" per feature over the images; "batch" per channel over images and space;
        "instance", "group" and "layer" per image, over the space and one, some or all channels. Population statistics;
        1e-9 is added to the variance of the last four; a constant feature becomes 0 under "zscore".
    center : "none"; "double" H K H, H = I - 11'/n; "unbiased" U-centring (Szekely & Rizzo 2014), n >= 4.
    channels : C, how 2-D features unflatten: (C, *spatial), or (*spatial, C) with `channels_last`.
    groups : number of groups of channels for "group".
    precision : "fast" lets "laplacian" and "manhattan" use features rounded to a common int16 grid of step
        u = max |z| / 32767, z the normalised features less a typical value of each. With r the largest sum of
        |rounding| over an image's features, r <= d u / 2, a distance is off by at most 2 r and a laplacian kernel value
        by 2 gamma r; where that bound exceeds 1e-3 (manhattan: 1e-3 of the mean |z|_1) the call uses float32.
    condensed : return the n (n - 1) / 2 entries above the diagonal, as scipy.spatial.distance.squareform orders them.
    check_finite : look for NaN and infinity in the input and the sums. Without it such rows give NaN, and rows
        without variance are at pearson distance 1.
    out : array of the result's kind, shape and dtype to write to; returned.

    Returns
    -------
    (n, n), (n, m) or (n (n - 1) / 2,) array of X's kind; float64 for float64 input, else float32. Exactly symmetric;
    before centring the diagonal is exactly 1 for the exponentials and 0 for the distances. Differentiable by X and Y
    where they are tensors that require grad (docs/pytorch.md); a median gamma is a constant there.

    Raises
    ------
    ValueError : NaN or infinity in X or Y, n < 2 (n < 4 with "unbiased"), d = 0, a constant row under "pearson", a
        median distance of 0, results that overflow, channels missing or not divisible, gamma <= 0, an unknown name.
    TypeError : a dtype, device or kind of object that is not served.

    Equivalent to, for f="laplacian", normalize="zscore", center="double"::

        Z = (X - X.mean(0)) / X.std(0)
        K = np.exp(-np.abs(Z[:, None] - Z[None]).sum(-1) / X.shape[1])
        H = np.eye(n) - 1 / n
        H @ K @ H
    """
    if through_operators(X, Y):
        if out is not None:
            raise TypeError("out= does not go with gradients or torch.compile: leave it out, or pass X.detach()")
        layout = (channels, channels_last, groups)
        return _by_operators(X, Y, f, gamma, normalize, center, layout, precision, condensed, check_finite)
    options = Options(f, gamma, normalize, center, channels, channels_last, groups, precision, check_finite)
    x = features(X, "X", channels, channels_last)
    y = None if Y is None else features(Y, "Y", channels, channels_last)
    request = Request(x, y, options, condensed)
    if out is not None:
        request.out = _checked_out(request, out)
    result = compute([request])[0]
    return out if out is not None else x.like(result)


def laplacian_rdm(X: Array, gamma: float | None = None, **options: Any) -> Array:
    """Laplacian kernel matrix exp(-gamma |x - y|_1), gamma 1/d by default; options as for `rdm`.

    Equivalent to ``np.exp(-gamma * scipy.spatial.distance.cdist(X, X, "cityblock"))``.
    """
    return rdm(X, "laplacian", gamma=gamma, **options)


def rbf_rdm(X: Array, gamma: float | None = None, **options: Any) -> Array:
    """Gaussian kernel matrix exp(-gamma |x - y|_2^2); gamma is 2 / median squared distance by default.

    Options as for `rdm`.

    Equivalent to ``D = scipy.spatial.distance.cdist(X, X, "sqeuclidean"); np.exp(-(2 / np.median(D)) * D)``.
    """
    return rdm(X, "rbf", gamma=gamma, **options)


def linear_rdm(X: Array, **options: Any) -> Array:
    """Linear kernel matrix x.y; options as for `rdm`. Equivalent to ``X @ X.T``."""
    return rdm(X, "linear", **options)


def pearson_rdm(X: Array, **options: Any) -> Array:
    """Matrix of 1 - r between the images' features; options as for `rdm`. Equivalent to ``1 - np.corrcoef(X)``."""
    return rdm(X, "pearson", **options)


def euclidean_rdm(X: Array, **options: Any) -> Array:
    """Matrix of Euclidean distances; options as for `rdm`. Equivalent to ``scipy.spatial.distance.cdist(X, X)``."""
    return rdm(X, "euclidean", **options)


def cosine_rdm(X: Array, **options: Any) -> Array:
    """Matrix of 1 - cos; options as for `rdm`. A zero row is at distance 1 from every other row.

    Equivalent to ``scipy.spatial.distance.cdist(X, X, "cosine")`` where no row is zero.
    """
    return rdm(X, "cosine", **options)
