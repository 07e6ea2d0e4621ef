"""The matrices in float64 by torch on the features' own device, whole, where the reference's loops would take minutes.

tests/test_run_gpu.py compares them with dds_ext/reference.py.
"""

from __future__ import annotations

from typing import Any

import torch
from measure import ENTRY, ERROR_KINDS, NORMS

FUSED_TERMS = 4
"""Of an entry after a centring: the error of the entry, of the means of its row and column, and of the overall mean."""


def promise(f: str, dtype: torch.dtype) -> float:
    """The largest error that dds_ext promises of a bare matrix of features of this type."""
    if dtype == torch.float64:
        return 1e-12
    return 1e-5 if ERROR_KINDS.get(f) == ENTRY else 2e-6


def normalized(X: torch.Tensor, how: str, channels: int, groups: int = 2) -> torch.Tensor:
    """(n, d) float64; the features of a channel stand together."""
    Z = X.double()
    n, d = Z.shape
    if how in ("none", "center"):
        return Z - Z.mean(0) if how == "center" else Z
    if how == "zscore":
        Z = Z - Z.mean(0)
        scale = Z.square().mean(0).sqrt()
        return torch.where(X.amax(0) == X.amin(0), 0.0, Z / scale)
    if how == "batch":
        Z = Z.reshape(n, channels, -1)
        Z = Z - Z.mean((0, 2), keepdim=True)
        return (Z / (Z.square().mean((0, 2), keepdim=True) + 1e-9).sqrt()).reshape(n, d)
    Z = Z.reshape(n, {"layer": 1, "group": groups, "instance": channels}[how], -1)
    Z = Z - Z.mean(2, keepdim=True)
    return (Z / (Z.square().mean(2, keepdim=True) + 1e-9).sqrt()).reshape(n, d)


def pairwise(Z: torch.Tensor, W: torch.Tensor, f: str, gamma: float | None) -> torch.Tensor:
    """(n, m) float64. The default gamma of rbf is that of Z's own distances."""
    exactly = "donot_use_mm_for_euclid_dist"
    if f in ("manhattan", "laplacian"):
        D = torch.cdist(Z, W, p=1)
        return D if f == "manhattan" else torch.exp(-(1 / Z.shape[1] if gamma is None else gamma) * D)
    if f in ("euclidean", "sqeuclidean", "rbf"):
        D = torch.cdist(Z, W, compute_mode=exactly)
        if f == "rbf" and gamma is None:
            own = torch.cdist(Z, Z, compute_mode=exactly).flatten().sort().values.square()
            gamma = 2 / float((own[(len(own) - 1) // 2] + own[len(own) // 2]) / 2)
        return D if f == "euclidean" else D.square() if gamma is None else torch.exp(-gamma * D.square())
    if f == "pearson":
        Z, W = Z - Z.mean(1, keepdim=True), W - W.mean(1, keepdim=True)
    if f in ("pearson", "cosine"):
        return 1 - (Z / Z.norm(dim=1, keepdim=True)) @ (W / W.norm(dim=1, keepdim=True)).T
    return Z @ W.T


def centered(K: torch.Tensor, how: str) -> torch.Tensor:
    """(n, n)."""
    n = len(K)
    if how == "double":
        return K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()
    if how == "unbiased":
        K = K.clone().fill_diagonal_(0)
        rows = K.sum(1)
        K = K - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
        return K.fill_diagonal_(0)
    return K


def matrix(
    X: torch.Tensor,
    f: str,
    *,
    Y: torch.Tensor | None = None,
    gamma: float | None = None,
    normalize: str = "none",
    center: str = "none",
    channels: int = 1,
) -> torch.Tensor:
    """What rdm computes, in float64. Two sets are not normalised here."""
    Z = normalized(X, normalize, channels)
    return centered(pairwise(Z, Z if Y is None else Y.double(), f, gamma), center)


def laplacian_gradient(X: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """(n, d) float64: by X, from that by its Laplacian matrix, image by image so that no (n, n, d) array is made."""
    Z, W = X.double(), G.double() + G.T.double()
    out = torch.empty_like(Z)
    for i, z in enumerate(Z):
        D = z - Z
        slopes = torch.exp(D.abs().sum(1) / -len(z)) / -len(z)
        out[i] = (W[i] * slopes) @ D.sign()
    return out


class Errors:
    """How far results are from the matrix: largest error of an entry, relative to what the promise is relative
    to.

    After a centring, relative to the largest entry before it. The diagonal is left out.
    """

    def __init__(self, X: torch.Tensor, f: str, **options: Any) -> None:
        bare = matrix(X, f, **{**options, "center": "none"})
        center = options.get("center", "none")
        self.exact = centered(bare, center)
        self.kind = ERROR_KINDS.get(f, "absolute")
        self.promise = promise(f, X.dtype)
        scale = torch.ones_like(bare)
        if center != "none":
            self.kind = "relative to the largest entry before centring"
            self.promise *= FUSED_TERMS
            scale *= float(bare.abs().max())
        elif self.kind == NORMS:
            Z = normalized(X, options.get("normalize", "none"), options.get("channels", 1))
            W = Z if options.get("Y") is None else options["Y"].double()
            scale = torch.outer(Z.norm(dim=1), W.norm(dim=1))
        elif self.kind == ENTRY:
            scale = bare
        self.scale = scale
        self.own = options.get("Y") is None

    def __call__(self, K: torch.Tensor) -> float:
        off = (K.double() - self.exact).abs() / self.scale
        if self.own:
            off.fill_diagonal_(0)
        return float(off.max())


def scores(models: list[torch.Tensor], f: str, normalize: str, center: str, g: str) -> torch.Tensor:
    """(T, T) float64 cosine or Spearman scores; for the latter no two entries of a matrix may be equal."""
    K = torch.stack([matrix(X, f, normalize=normalize, center=center) for X in models])
    if g == "cosine":
        rows = K.flatten(1)
    else:
        i, j = torch.triu_indices(*K.shape[1:], 1, device=K.device)
        rows = K[:, i, j].argsort(1).argsort(1).double()
        rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    return rows @ rows.T
