"""What is asked of the kernels: options, and requests for one matrix each."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

import numpy as np
import torch

from dds_ext import _cpu
from dds_ext._arrays import Features, Matrices, address, rows_text, upper_triangle


@dataclass(slots=True, frozen=True)
class Metric:
    """What is known of a pairwise function f, as in dds::MetricInfo."""

    index: int
    gamma: int
    family: int
    step: int
    rows: int


@dataclass(slots=True, frozen=True)
class Norm:
    """What is known of a normalisation, as in dds::NormInfo."""

    index: int
    needs_channels: bool
    over: int
    scaled: bool
    epsilon: float
    groups: Callable[[int, int], int]


METRIC = {traits[0]: Metric(index, *traits[1:]) for index, traits in enumerate(_cpu.metrics())}
NORM = {traits[0]: Norm(index, *traits[1:]) for index, traits in enumerate(_cpu.norms())}

METRICS = tuple(METRIC)
"""Names of the pairwise functions f."""
NORMALIZATIONS = tuple(NORM)
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


def refuse_gamma_gradient(gamma: object) -> None:
    """There is none."""
    if isinstance(gamma, torch.Tensor) and gamma.requires_grad:
        raise TypeError("gamma requires grad, and there is no gradient by it: pass gamma.item()")


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
            refuse_gamma_gradient(self.gamma)
            if isinstance(self.gamma, bool) or not isinstance(self.gamma, SupportsFloat) or np.ndim(self.gamma) > 0:
                raise TypeError(f"gamma must be a number, got {self.gamma!r}")
            if not METRIC[self.f].gamma:
                raise ValueError(f"f='{self.f}' has no gamma")
            if not (self.gamma > 0 and math.isfinite(self.gamma)):
                raise ValueError(f"gamma must be positive and finite, got {self.gamma}")

    @property
    def median_gamma(self) -> bool:
        """Whether the median of X's squared distances decides gamma."""
        return self.gamma is None and METRIC[self.f].gamma == 2

    @property
    def family(self) -> int:
        """Two f of one family are formed of the same sums."""
        return METRIC[self.f].family

    def channels_of(self, x: Features) -> int:
        """The C that the normalisation unflattens `x`'s features by; 0 where it needs none."""
        channels = x.channels if self.channels is None else self.channels
        if not NORM[self.normalize].needs_channels:
            return 0
        if channels is None:
            raise ValueError(f"normalize='{self.normalize}' needs channels= for 2-D {x.name}")
        if channels < 1 or x.d % channels:
            raise ValueError(f"the {x.d} features of {x.name} are not divisible by channels={channels}")
        if self.normalize == "group" and (self.groups < 1 or channels % self.groups):
            raise ValueError(f"channels={channels} is not divisible by groups={self.groups}")
        return channels


def check_one_set(center: str, condensed: bool) -> None:
    """Refuses what is for the matrix of one set of images: to be called where there is a Y."""
    if center != "none":
        raise ValueError(f"center='{center}' is for the matrix of one set; it does not go with Y")
    if condensed:
        raise ValueError("condensed=True is for the matrix of one set; it does not go with Y")


@dataclass(slots=True)
class Request:
    """One matrix to compute."""

    x: Features
    y: Features | None
    options: Options
    condensed: bool = False
    wide: bool = False
    """Compute in float64, with a float64 result, whatever the features' type."""
    out: Matrices | None = None
    gamma: float = 0.0
    """That was used; known after a call that waited for its checks."""

    def __post_init__(self) -> None:
        x, y, o = self.x, self.y, self.options
        if y is None:
            if x.n < 2:
                raise ValueError(f"{x.name} has {x.n} image{'s' * (x.n != 1)}; a pairwise matrix needs at least 2")
            if o.center == "unbiased" and x.n < 4:
                raise ValueError(f"center='unbiased' needs at least 4 images, {x.name} has {x.n}")
            return
        check_one_set(o.center, self.condensed)
        if x.n == 0 or y.n == 0:
            raise ValueError(f"{x.name if x.n == 0 else y.name} has 0 images")
        if y.device != x.device:
            raise ValueError(f"{x.name} is on device '{x.device}', {y.name} on '{y.device}'; they must be on the same")
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

    def product(self, out: Matrices) -> _cpu.Product:
        """What the kernels make of the sums."""
        o = self.options
        return _cpu.Product(METRIC[o.f].index, CENTERINGS.index(o.center), o.gamma or 0.0, address(out))

    def parameters(self, products: list[_cpu.Product]) -> _cpu.RdmParams:
        """What the kernels are told."""
        o = self.options
        return _cpu.RdmParams(
            x=self.x.describe(),
            y=None if self.y is None else self.y.describe(),
            norm=NORM[o.normalize].index,
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
        o = self.options
        how = (o.normalize, o.channels, o.channels_last, o.groups, o.precision, o.check_finite)
        return id(self.x), id(self.y), o.family, how, self.condensed, self._through_full, self.wide

    @property
    def _through_full(self) -> bool:  # a centring needs the whole matrix
        return self.condensed and self.options.center != "none"

    def target(self) -> Matrices:
        """Where the kernels write."""
        if self._through_full:
            return self.x.empty((self.x.n, self.x.n), self.wide)
        return self.x.empty(self.shape, self.wide) if self.out is None else self.out

    def result(self, target: Matrices) -> Matrices:
        """The result, once the kernels have written."""
        if not self._through_full:
            return target
        condensed = upper_triangle(target[None])[0]
        if self.out is None:
            return condensed
        self.out[...] = condensed
        return self.out

    def raise_for(self, status: _cpu.RdmStatus) -> None:
        """Says what the kernels found wrong with the request, in the user's terms."""
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
            raise self.overflow(name, rows)
        raise ValueError(f"the median squared distance of {name} is 0, so that f='rbf' has no default gamma; give one")

    def overflow(self, name: str, rows: str) -> ValueError:
        """What to raise where the features leave the range of the numbers."""
        dtype = "float64" if self.x.wide else "float32"
        normalize = self.options.normalize
        each = f", of every one, for normalize='{normalize}' takes variances" if NORM[normalize].scaled else ""
        return ValueError(
            f"f='{self.options.f}' exceeds the range of {dtype} for {rows} of {name}; "
            f"bring the scale of the features nearer to 1{each}"
        )


def sums_in_common(requests: Sequence[Request]) -> list[list[int]]:
    """Groups of requests that are formed of the same sums, by their indices."""
    if len(requests) == 1:
        return [[0]]
    together: dict[tuple[object, ...], list[int]] = {}
    for i, r in enumerate(requests):
        together.setdefault(r.sums, []).append(i)
    return list(together.values())


def parameters(
    requests: Sequence[Request], outs: Sequence[Matrices], groups: Sequence[Sequence[int]]
) -> list[_cpu.RdmParams]:
    """What the kernels are told of each group."""
    return [requests[g[0]].parameters([requests[i].product(outs[i]) for i in g]) for g in groups]
