"""Gradients of the pairwise matrices, of the normalisations and of the comparisons, in formulas.

A matrix is K_ij = finish(s_ij), s_ij a sum over the features of two images' z. With G the gradient by K:

    W_ij = G_ij finish'(s_ij)                      the gradient by the sums; W + W' for the matrix of one set
    dz_i = sum_j W_ij z_j                          products
    dz_i = 2 sum_j W_ij (z_i - z_j)                squared differences
    dz_i = sum_j W_ij sign(z_i - z_j)              absolute differences, 0 at ties: a kernel of its own

Then dz goes back through what was done to the rows (cosine, pearson) and through the normalisation. Temporaries are a
few arrays of the features' size and a few of the matrix's, never one of pairs times features.

Statistics and lengths, and what is multiplied by their inverses, are in float64: squares of float32 features, and
inverses of variances, leave float32's range long before the features and their gradients do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dds_ext import _cpu, _cuda_backend
from dds_ext._arrays import DTYPES, Features, dtype_name, features
from dds_ext._compute import compute
from dds_ext._requests import METRIC, NORM, Options, Request, isa

# W from G and K, less a factor gamma: the derivative of finish, by way of its value. Those in NEEDS_MATRIX look at K.
WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda G, K: G,
    "laplacian": lambda G, K: -G * K,
    "rbf": lambda G, K: -G * K,
    "pearson": lambda G, K: -G,
    "euclidean": lambda G, K: torch.where(K > 0, G / (2 * K), 0.0),
    "cosine": lambda G, K: -G,
    "manhattan": lambda G, K: G,
    "sqeuclidean": lambda G, K: G,
}
NEEDS_MATRIX = ("laplacian", "rbf", "euclidean")

_PRODUCTS, _SQUARES, _ABSOLUTE = range(3)  # Metric.step
_UNIT, _CENTERED_UNIT = 1, 2  # Metric.rows
_LEAST_VARIANCE = 1e-300  # as csrc/norms/common.h
_ROWS = 256  # of float64 at a time
_NOTHING, _IMAGES, _IMAGES_AND_SPACE, _GROUPS = range(4)  # Norm.over


def pairwise_gradients(
    grad: Tensor,
    K: Tensor | None,
    x: Tensor,
    y: Tensor | None,
    options: Options,
    wanted: Sequence[bool] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients by x (n, d) and y (m, d), of their dtypes, from that by the bare matrix K (n, m); those `wanted`.

    A median gamma is a constant: it is a bandwidth that the features are looked at with, not a part of what is learned.
    """
    metric, dtype = METRIC[options.f], grad.dtype
    X = features(x.detach(), "X", options.channels, options.channels_last)
    if y is not None and (x.dtype == torch.float64) != (y.dtype == torch.float64):
        X = X.widened()
    w = WEIGHTS[options.f](grad, grad if K is None else K)
    normalization = Normalization(options.normalize, options.channels_of(X), options.channels_last, options.groups)
    sets, scales = normalization.apply([x.to(dtype)] if y is None else [x.to(dtype), y.to(dtype)])
    units = [_unit_rows(z.reshape(-1, X.d), metric.rows) for z in sets]
    # what is done to x may move y's features, too
    needed = [wanted[0], wanted[1] or (wanted[0] and normalization.shared)]
    gamma = _gamma(X, options) if metric.gamma else 1.0
    of_units = _of_sums(metric.step, w, [u for u, _ in units], needed, gamma)
    of_sets = [
        None if g is None else _through_unit_rows(g, *unit, metric.rows)
        for g, unit in zip(of_units, units, strict=True)
    ]
    of_x, *of_y = normalization.gradients(of_sets, sets, scales, wanted)
    return (
        None if of_x is None else of_x.to(x.dtype),
        None if y is None or of_y[0] is None else of_y[0].to(y.dtype),
    )


def _gamma(X: Features, options: Options) -> float:
    if options.gamma is not None:
        return options.gamma
    if not options.median_gamma:
        return 1 / X.d
    own = Request(X, None, replace(options, check_finite=False), condensed=True)  # the forward pass has looked
    compute([own])
    return own.gamma


def _of_sums(step: int, w: Tensor, sets: Sequence[Tensor], needed: Sequence[bool], gamma: float) -> list[Tensor | None]:
    """Gradients of gamma times the sums, weighted by w, by the features of each set that is needed."""
    by_rows = {_PRODUCTS: _of_products, _SQUARES: _of_squares, _ABSOLUTE: _of_absolute}[step]
    if len(sets) == 1:
        return [by_rows(w + w.mT, sets[0], sets[0], gamma)]
    x, y = sets
    return [by_rows(w, x, y, gamma) if needed[0] else None, by_rows(w.mT, y, x, gamma) if needed[1] else None]


def _of_products(w: Tensor, x: Tensor, y: Tensor, gamma: float) -> Tensor:
    assert gamma == 1, "no metric of products has a gamma"
    return w @ y


def _of_squares(w: Tensor, x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """In float64, some rows at a time: what two images that are close to each other have in common cancels."""
    out = torch.empty_like(x)
    y_wide = y.double()
    for begin in range(0, len(x), _ROWS):
        rows = slice(begin, begin + _ROWS)
        weights = w[rows].double()
        out[rows] = (2 * gamma) * (weights.sum(1, keepdim=True) * x[rows].double() - weights @ y_wide)
    return out


def _of_absolute(w: Tensor, x: Tensor, y: Tensor, gamma: float) -> Tensor:
    w, x, y = w.contiguous(), x.contiguous(), y.contiguous()
    if x.device.type == "cuda":
        return _scaled(_cuda_backend.signed_sums(_cuda_backend.module(), w, x, y), gamma)
    out = torch.empty_like(x)
    (n, d), m, dtype = x.shape, len(y), DTYPES[dtype_name(x)]
    _cpu.signed_sums(
        x.data_ptr(), n, y.data_ptr(), m, d, w.data_ptr(), dtype, out.data_ptr(), torch.get_num_threads(), isa()
    )
    return _scaled(out, gamma)


def _scaled(grad: Tensor, gamma: float) -> Tensor:
    """grad times gamma, in place, in steps: gamma may leave float32's range where the product does not."""
    step = 2.0**100
    while 0 < gamma < math.inf and not 1 / step <= gamma <= step:
        by = step if gamma > 1 else 1 / step
        grad.mul_(by)
        gamma /= by
    return grad if gamma == 1 else grad.mul_(gamma)


def _unit_rows(z: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Rows of length 1, centred first where the metric does so, and the inverses of their lengths; a zero row stays."""
    if rows not in (_UNIT, _CENTERED_UNIT):
        return z, z
    wide = z.double()
    if rows == _CENTERED_UNIT:
        wide = wide - wide.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    return (wide * inverse).to(z.dtype), inverse


def _through_unit_rows(grad: Tensor, unit: Tensor, inverse: Tensor, rows: int) -> Tensor:
    if rows not in (_UNIT, _CENTERED_UNIT):
        return grad
    grad = (grad - (grad * unit).sum(1, keepdim=True) * unit) * inverse
    return grad - grad.mean(1, keepdim=True) if rows == _CENTERED_UNIT else grad


class Normalization:
    """z = (x - mean) scale, of features (..., n, d). The statistics are the first set's, applied to all, or by groups
    every image's own."""

    def __init__(self, method: str, channels: int, channels_last: bool, groups: int) -> None:
        self.norm = NORM[method]
        self.shape: tuple[int, ...]  # how the features unflatten
        self.dims: tuple[int, ...]  # that the statistics are taken over
        if self.norm.over == _IMAGES:
            self.shape, self.dims = (-1,), (-2,)
        elif self.norm.over == _IMAGES_AND_SPACE:
            self.shape, self.dims = ((-1, channels), (-3, -2)) if channels_last else ((channels, -1), (-3, -1))
        elif self.norm.over == _GROUPS:
            count = self.norm.groups(channels, groups)
            last = channels_last and count > 1
            self.shape, self.dims = ((-1, count, channels // count), (-3, -1)) if last else ((count, -1), (-1,))

    @property
    def shared(self) -> bool:
        """Whether the first set's statistics are applied to all."""
        return self.norm.over in (_IMAGES, _IMAGES_AND_SPACE)

    def apply(self, sets: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """z of each set, unflattened, and the scales, in float64."""
        if self.norm.over == _NOTHING:
            return list(sets), []
        views = [self._view(x) for x in sets]
        moments = [self._moments(x.double()) for x in (views[:1] if self.shared else views)]
        if self.shared:
            moments *= len(views)
        z = [((x - mean) * scale).to(x.dtype) for x, (mean, scale) in zip(views, moments, strict=True)]
        return z, [scale for _, scale in moments]

    def gradients(
        self,
        grads: Sequence[Tensor | None],
        sets: Sequence[Tensor],
        scales: Sequence[Tensor],
        wanted: Sequence[bool] = (True, True),
    ) -> list[Tensor | None]:
        """Gradients by the features `wanted`, (..., n, d), in float64, from those by z, of which None does not count;
        `sets` and `scales` are what `apply` returned."""
        if self.norm.over == _NOTHING:
            return list(grads)
        views = [None if g is None else self._view(g).double() for g in grads]
        # through the statistics: dx = scale (dz - mean(dz) - z mean(dz z)), the means over all that was normalised by
        # them, as shares of what they were taken over
        count = sets[0].numel() // max(scales[0].numel(), 1)
        out: list[Tensor | None] = []
        for i, (g, z, scale) in enumerate(zip(views, sets, scales, strict=True)):
            if g is None or not wanted[i]:
                out.append(None)
                continue
            if not self.shared or i == 0:
                by_them = (
                    [(h, v) for h, v in zip(views, sets, strict=True) if h is not None] if self.shared else [(g, z)]
                )
                g = g - sum(self._sum(h) for h, _ in by_them) / count
                if self.norm.scaled:
                    g = g - z * (sum(self._sum(h * v) for h, v in by_them) / count)
            out.append((g * scale).flatten(-len(self.shape)))
        return out

    def _view(self, x: Tensor) -> Tensor:
        view: Tensor = x.unflatten(-1, self.shape)  # type: ignore[no-untyped-call]
        return view

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.dims, keepdim=True)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(self.dims, keepdim=True)
        if not self.norm.scaled:
            return mean, torch.ones_like(mean)
        variance = (x - mean).square().mean(self.dims, keepdim=True)
        variance = torch.where(variance < math.inf, variance, math.nan)  # no scale at all is better than 0
        if self.norm.epsilon > 0:
            return mean, torch.rsqrt(variance + self.norm.epsilon)
        # by the extremes: the variance of equal numbers is not 0 where their mean is rounded
        constant = x.amax(self.dims, keepdim=True) == x.amin(self.dims, keepdim=True)
        variance = torch.where(variance >= _LEAST_VARIANCE, variance, math.nan)
        return mean, torch.where(constant, 0.0, torch.rsqrt(variance))


def compare_gradients(
    grad: Tensor, score: Tensor, A: Tensor, B: Tensor, g: str, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients by stacks A (..., S, n, n) and B (..., T, n, n), those `wanted`, from that by their cosines or
    correlations (..., S, T).

    Of a_s, a matrix less its mean under "pearson", over its length: (sum_t G_st (b_t - score_st a_s)) / |a_s|.
    """
    a, a_inverse = _directions(A, g)
    b, b_inverse = _directions(B, g)
    weighted = grad * score
    by_a = by_b = None
    if wanted[0]:
        by_a = (grad @ b - weighted.sum(-1, keepdim=True) * a) * a_inverse
        by_a = by_a.reshape(A.shape).to(A.dtype)
    if wanted[1]:
        by_b = (grad.mT @ a - weighted.mT.sum(-1, keepdim=True) * b) * b_inverse
        by_b = by_b.reshape(B.shape).to(B.dtype)
    return by_a, by_b


def _directions(K: Tensor, g: str) -> tuple[Tensor, Tensor]:
    """What is compared of each matrix, as rows (..., S, n n) of length 1 in float64; the inverses of their lengths."""
    n = K.shape[-1]
    rows = K.double()
    if g == "pearson":
        upper = torch.ones(n, n, dtype=rows.dtype, device=rows.device).triu(1)
        rows = rows * upper
    # the largest entry 1: squares stay in range
    largest = rows.detach().abs().amax((-2, -1), keepdim=True)
    rows = rows / largest
    if g == "pearson":
        rows = (rows - rows.sum((-2, -1), keepdim=True) / upper.sum()) * upper
    rows = rows.flatten(-2)
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / length, 1 / length / largest.flatten(-2)
