"""Pairwise matrices of one or two sets of images."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch

from dds_ext import _cpu
from dds_ext._arrays import DTYPES, Array, Features, address, features, rows_text

_METRICS = {name: (index, uses_gamma, family) for index, (name, uses_gamma, family) in enumerate(_cpu.metrics())}
_NORMS = {name: (index, needs_channels) for index, (name, needs_channels) in enumerate(_cpu.norms())}

METRICS = tuple(_METRICS)
"""Names of the pairwise functions f."""
NORMALIZATIONS = tuple(_NORMS)
"""Names of the normalisations (Q, D)."""
CENTERINGS = ("none", "double", "unbiased")
"""Names of the centrings of a pairwise matrix."""
PRECISIONS = ("default", "fast")


def isa() -> str | None:
    """The instruction set that DDS_EXT_ISA asks for."""
    name = os.environ.get("DDS_EXT_ISA")
    if not name:
        return None
    if name not in _cpu.available_isas():
        raise ValueError(f"DDS_EXT_ISA={name} is not available here; choose from {', '.join(_cpu.available_isas())}")
    return name


def choose(argument: str, value: object, among: Sequence[str]) -> int:
    """Index of a name; an error that lists the names where it is not one of them."""
    if not isinstance(value, str) or value not in among:
        raise ValueError(f"unknown {argument} {value!r}; choose from {', '.join(among)}")
    return among.index(value)


@dataclass(slots=True, frozen=True)
class Options:
    """How a pairwise matrix is computed: the arguments of `rdm`."""

    f: str = "laplacian"
    gamma: float | None = None
    normalize: str = "none"
    center: str = "none"
    channels: int | None = None
    channels_last: bool = False
    groups: int = 2
    precision: str = "default"
    check_finite: bool = True

    def __post_init__(self) -> None:
        choose("f", self.f, METRICS)
        choose("normalize", self.normalize, NORMALIZATIONS)
        choose("center", self.center, CENTERINGS)
        choose("precision", self.precision, PRECISIONS)
        for argument, value in (("channels", self.channels), ("groups", self.groups)):
            if value is None and argument == "channels":
                continue
            if isinstance(value, bool) or not isinstance(value, SupportsIndex):
                raise TypeError(f"{argument} must be an integer, got {value!r}")
            if operator.index(value) < 1:
                raise ValueError(f"{argument} must be positive, got {value}")
        if self.gamma is not None:
            if isinstance(self.gamma, bool) or not isinstance(self.gamma, SupportsFloat):
                raise TypeError(f"gamma must be a number, got {self.gamma!r}")
            if not _METRICS[self.f][1]:
                raise ValueError(f"f='{self.f}' has no gamma")
            if not (self.gamma > 0 and math.isfinite(self.gamma)):
                raise ValueError(f"gamma must be positive and finite, got {self.gamma}")

    @property
    def family(self) -> int:
        """Two f of one family are formed of the same sums."""
        return _METRICS[self.f][2]

    def channels_of(self, x: Features) -> int:
        """The C that the normalisation unflattens `x`'s features by; 0 where it needs none."""
        channels = x.channels if self.channels is None else self.channels
        if not _NORMS[self.normalize][1]:
            return 0
        if channels is None:
            raise ValueError(f"normalize='{self.normalize}' needs channels= for 2-D {x.name}")
        if channels < 1 or x.d % channels:
            raise ValueError(f"the {x.d} features of {x.name} are not divisible by channels={channels}")
        if self.normalize == "group" and (self.groups < 1 or channels % self.groups):
            raise ValueError(f"channels={channels} is not divisible by groups={self.groups}")
        return channels


@dataclass(slots=True)
class Request:
    """One matrix to compute."""

    x: Features
    y: Features | None
    options: Options
    condensed: bool = False
    wide: bool = False
    """Compute in float64, with a float64 result, whatever the features' type."""
    out: torch.Tensor | np.ndarray[Any, Any] | None = None

    def __post_init__(self) -> None:
        x, y, o = self.x, self.y, self.options
        if y is None:
            if x.n < 2:
                raise ValueError(f"{x.name} has {x.n} image{'s' * (x.n != 1)}; a pairwise matrix needs at least 2")
            if o.center == "unbiased" and x.n < 4:
                raise ValueError(f"center='unbiased' needs at least 4 images, {x.name} has {x.n}")
            return
        if o.center != "none":
            raise ValueError(f"center='{o.center}' is for the matrix of one set; it does not go with Y")
        if self.condensed:
            raise ValueError("condensed=True is for the matrix of one set; it does not go with Y")
        if x.n == 0 or y.n == 0:
            raise ValueError(f"{x.name if x.n == 0 else y.name} has 0 images")
        if y.d != x.d:
            raise ValueError(f"{x.name} has {x.d} features, {y.name} has {y.d}; they must have the same")
        if x.channels is not None and y.channels is not None and x.channels != y.channels:
            raise ValueError(f"{x.name} has {x.channels} channels, {y.name} has {y.channels}; they must have the same")
        if x.wide or y.wide:
            self.x, self.y = x.widened(), y.widened()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        n = self.x.n
        if self.y is not None:
            return (n, self.y.n)
        return (n * (n - 1) // 2,) if self.condensed else (n, n)

    def product(self, out: torch.Tensor | np.ndarray[Any, Any]) -> _cpu.Product:
        """What the kernels make of the sums."""
        o = self.options
        return _cpu.Product(_METRICS[o.f][0], CENTERINGS.index(o.center), o.gamma or 0.0, address(out))

    def parameters(self, products: list[_cpu.Product]) -> _cpu.RdmParams:
        """What the kernels are told."""
        o = self.options
        return _cpu.RdmParams(
            x=self.x.describe(),
            y=None if self.y is None else self.y.describe(),
            norm=_NORMS[o.normalize][0],
            products=products,
            channels=o.channels_of(self.x),
            channels_last=o.channels_last,
            groups=o.groups,
            fast=o.precision == "fast",
            wide=self.wide,
            condensed=self.condensed and not self._through_full,
            check=o.check_finite,
        )

    @property
    def sums(self) -> tuple[object, ...]:
        """What two requests have in common that are formed of the same sums."""
        options = replace(self.options, f=METRICS[0], gamma=None, center="none")
        return id(self.x), id(self.y), self.options.family, options, self.condensed, self._through_full, self.wide

    @property
    def _through_full(self) -> bool:  # a centring needs the whole matrix
        return self.condensed and self.options.center != "none"

    def target(self) -> torch.Tensor | np.ndarray[Any, Any]:
        """Where the kernels write."""
        if self._through_full:
            return self.x.empty((self.x.n, self.x.n), self.wide)
        return self.x.empty(self.shape, self.wide) if self.out is None else self.out

    def result(self, target: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor | np.ndarray[Any, Any]:
        """The result, once the kernels have written."""
        if not self._through_full:
            return target
        triangle = upper_triangle(np.asarray(target)[None])[0]
        condensed = torch.from_numpy(triangle) if isinstance(target, torch.Tensor) else triangle
        if self.out is None:
            return condensed
        self.out[...] = condensed
        return self.out

    def compute(self) -> Any:
        """This matrix alone."""
        return compute([self])[0]

    def raise_for(self, status: _cpu.RdmStatus) -> None:
        """Says what the kernels found wrong, in the user's terms."""
        if status.code == _cpu.Code.ok:
            return
        name = self.y.name if status.in_y and self.y is not None else self.x.name
        rows = rows_text(status.rows)
        if status.code == _cpu.Code.nonfinite_input:
            raise ValueError(f"{name} has NaN or infinity in {rows}; remove or repair those images")
        if status.code == _cpu.Code.constant_row:
            raise ValueError(
                "f='pearson' is undefined for an image whose features are all equal after normalization: "
                f"{rows} of {name}; remove those images or choose another f"
            )
        if status.code == _cpu.Code.overflow:
            dtype = "float64" if self.x.wide else "float32"
            raise ValueError(f"f='{self.options.f}' overflows {dtype} for {rows} of {name}; scale the features down")
        raise ValueError(f"the median squared distance of {name} is 0, so that f='rbf' has no default gamma; give one")


def _checked_out(request: Request, out: object) -> torch.Tensor | np.ndarray[Any, Any]:
    shape, wide = request.shape, request.x.wide
    dtype = "float64" if wide else "float32"
    if not isinstance(out, torch.Tensor | np.ndarray) or isinstance(out, torch.Tensor) != isinstance(
        request.x.array, torch.Tensor
    ):
        raise TypeError(f"out must be of the kind of X, got {type(out).__name__}")
    if isinstance(out, torch.Tensor) and (
        out.device.type != "cpu" or out.layout is not torch.strided or out.is_neg() or out.requires_grad
    ):
        raise TypeError("out must be a plain, dense tensor on the CPU that does not require grad")
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


def compute(requests: Sequence[Request]) -> list[torch.Tensor | np.ndarray[Any, Any]]:
    """All the matrices, sharing the threads between them; those of the same features and the same sums in one go."""
    outs = [r.target() for r in requests]
    together: dict[tuple[object, ...], list[int]] = {}
    for i, r in enumerate(requests):
        together.setdefault(r.sums, []).append(i)
    groups = list(together.values())
    parameters = [requests[g[0]].parameters([requests[i].product(outs[i]) for i in g]) for g in groups]
    for g, status in zip(groups, _cpu.rdm(parameters, torch.get_num_threads(), isa()), strict=True):
        requests[g[status.product]].raise_for(status)
    return [r.result(out) for r, out in zip(requests, outs, strict=True)]


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
    before centring the diagonal is exactly 1 for the exponentials and 0 for the distances.

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
    options = Options(f, gamma, normalize, center, channels, channels_last, groups, precision, check_finite)
    x = features(X, "X", channels, channels_last)
    y = None if Y is None else features(Y, "Y", channels, channels_last)
    request = Request(x, y, options, condensed)
    if out is not None:
        request.out = _checked_out(request, out)
    result = request.compute()
    return out if out is not None else x.like(result)


def upper_triangle(K: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Strict upper triangles of contiguous matrices, (s, n, n) -> (s, n (n - 1) / 2), row by row."""
    s, n, _ = K.shape
    out = np.empty((s, n * (n - 1) // 2), K.dtype)
    _cpu.condense(address(K), s, n, DTYPES[K.dtype.name], address(out), torch.get_num_threads())
    return out


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
