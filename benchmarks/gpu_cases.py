"""What is measured on a GPU, by name, the most wanted first: time is short there.

dds_ext is timed with check_finite=False unless the row says "checked": the check waits for the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest import mock

import gpu_exact
import torch
from gpu_measure import Contender
from measure import pair_elements

import dds_ext
from dds_ext import _cuda_backend
from dds_ext._arrays import features as as_features
from dds_ext._compute import compute
from dds_ext._requests import METRIC, Options, Request

SIZES = ((4096, 2048), (200, 2048), (200, 100352), (1000, 2048), (5000, 2048))
MODELS = 20
MODEL_SIZES = ((200, 2048), (200, 100352))
OTHER_SIZE = (1000, 2048)
GRADIENT_SIZES = ((200, 2048), (1000, 2048))
COMPARED = (200, 1000)
CHANNELS = 8

ROOFS = ("dot", "squared_difference", "absolute_difference")
"""By the step of a metric."""
STEPS = {f: ROOFS[METRIC[f].step] for f in dds_ext.METRICS}
SCORE = 1e-5
"""Promised of scores that are no rank correlations."""

Device = torch.device


@dataclass(frozen=True)
class Case:
    name: str
    about: str
    prepare: Callable[[Device], list[Contender]]
    facts: dict[str, Any] = field(default_factory=dict)


def features(n: int, d: int, device: Device, dtype: str = "float32", seed: int = 0) -> torch.Tensor:
    """(n, d) numbers like a network's after a ReLU: one half zeros, columns of different scales."""
    random = torch.Generator(device).manual_seed(1000 * n + d + seed)
    X = torch.randn(n, d, device=device, generator=random).relu_()
    return X.mul_(torch.rand(d, device=device, generator=random).mul_(2)).to(getattr(torch, dtype))


def models(n: int, d: int, device: Device) -> list[torch.Tensor]:
    """Features of the same images that have more or less in common."""
    shared = features(n, d, device, seed=1)
    weights = torch.linspace(0.1, 0.9, MODELS).tolist()
    return [w * shared + (1 - w) * features(n, d, device, seed=2 + i) for i, w in enumerate(weights)]


# ---------------------------------------------------------------------------------------------------------------------
# One matrix.


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Matrix products in float32 ("highest") or TF32 ("high") on tensor cores."""
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def forming_products(tensor_cores: bool, call: Callable[[], Any]) -> Any:
    """The call, with dds_ext's products by tensor cores, or on the units of float32, whatever their size."""
    kernels = _cuda_backend.module()
    with mock.patch.object(kernels, "plan", partial(kernels.plan, tensor_cores=tensor_cores)):
        return call()


def by_gram(X: torch.Tensor, Y: torch.Tensor, f: str, gamma: float | None, precision: str) -> torch.Tensor:
    """The matrix as it is usually written in torch, by a product."""
    if f in ("cosine", "pearson"):
        if f == "pearson":
            X, Y = X - X.mean(1, keepdim=True), Y - Y.mean(1, keepdim=True)
        X, Y = torch.nn.functional.normalize(X), torch.nn.functional.normalize(Y)
    with products(precision):
        G = X @ Y.T
    if f in ("cosine", "pearson"):
        return 1 - G
    if f == "linear":
        return G
    D = (X.square().sum(1)[:, None] + Y.square().sum(1) - 2 * G).clamp_(min=0)
    return D if f == "sqeuclidean" else D.sqrt_() if f == "euclidean" else torch.exp(D.mul_(-(gamma or 0)))


def by_l1(X: torch.Tensor, Y: torch.Tensor, f: str) -> torch.Tensor:
    D = torch.cdist(X, Y, p=1)
    return D if f == "manhattan" else torch.exp(D / -X.shape[1])


def corrcoef(X: torch.Tensor, precision: str) -> torch.Tensor:
    with products(precision):
        return 1 - torch.corrcoef(X)


def peers(X: torch.Tensor, Y: torch.Tensor, f: str, gamma: float | None) -> dict[str, tuple[Callable[[], Any], bool]]:
    """Ways of others to the same matrix, root and exponential included, and whether a graph can hold them.

    KeOps is not among them: it makes no matrices.
    """
    A, B = (X, Y) if X.dtype in (torch.float32, torch.float64) else (X.float(), Y.float())
    ways: dict[str, tuple[Callable[[], Any], bool]] = {}
    if f in ("laplacian", "manhattan"):
        ways["torch.cdist p=1"] = partial(by_l1, A, B, f), True
    else:
        for precision, name in (("highest", "float32"), ("high", "TF32"))[: 1 if A.dtype == torch.float64 else 2]:
            ways[f"torch X @ X.T, {name}"] = partial(by_gram, A, B, f, gamma, precision), True
            if f == "pearson" and A is B:
                ways[f"torch.corrcoef, {name}"] = partial(corrcoef, A, precision), True
    if f == "euclidean":
        ways["torch.cdist"] = partial(torch.cdist, A, B), True
        exactly = "donot_use_mm_for_euclid_dist"
        ways["torch.cdist, differences"] = partial(torch.cdist, A, B, compute_mode=exactly), True
    metric = {"manhattan": "cityblock", "pearson": "correlation"}.get(f, f)
    if metric in ("cityblock", "sqeuclidean", "euclidean", "cosine", "correlation"):
        if find_spec("cuvs"):
            from cuvs.distance import pairwise_distance

            ways["cuVS"] = (lambda: torch.as_tensor(pairwise_distance(A, B, metric=metric), device=A.device)), False
        if find_spec("cupyx"):
            import cupy
            from cupyx.scipy.spatial.distance import cdist

            ways["CuPy"] = (lambda: torch.as_tensor(cdist(cupy.asarray(A), cupy.asarray(B), metric))), False
    return ways


def matrix_contenders(device: Device, f: str, n: int, d: int, dtype: str, m: int | None) -> list[Contender]:
    X = features(n, d, device, dtype)
    Y = None if m is None else features(m, d, device, dtype, seed=1)
    gamma = 1 / (2 * float(X.double().var(0).sum())) if f == "rbf" else None
    elements, step = (pair_elements(n, d) if m is None else n * m * d), STEPS[f]
    if dtype == "float64":
        step = None  # the roofs are those of float32
    bare = gpu_exact.Errors(X, f, Y=Y, gamma=gamma)

    def ours(name: str, errors: gpu_exact.Errors, capturable: bool = True, **options: Any) -> Contender:
        call = partial(dds_ext.rdm, X, f, Y=Y, **{"check_finite": False, **options})
        return Contender(name, call, errors, errors.kind, errors.promise, step, elements, capturable)

    out = [ours("dds_ext", bare, gamma=gamma), ours("dds_ext, checked", bare, False, gamma=gamma, check_finite=True)]
    if STEPS[f] == "dot" and dtype != "float64" and device.type == "cuda":
        for tensor, name in ((True, "dds_ext, tensor cores"), (False, "dds_ext, float32 units")):
            plain = ours(name, bare, gamma=gamma)
            out.append(replace(plain, call=partial(forming_products, tensor, plain.call)))
    if Y is None:
        fused: dict[str, Any] = {"normalize": "zscore", "center": "unbiased"}
        if f == "rbf":
            fused["gamma"] = 1 / (2 * d)
            out.append(ours("dds_ext, median gamma", gpu_exact.Errors(X, f)))
        out.append(ours("dds_ext, zscore and unbiased", gpu_exact.Errors(X, f, **fused), **fused))
    for name, (call, capturable) in peers(X, X if Y is None else Y, f, gamma).items():
        out.append(Contender(name, call, bare, bare.kind, bare.promise, capturable=capturable))
    return out


def matrix_case(f: str, n: int, d: int, dtype: str = "float32", m: int | None = None) -> Case:
    name = f"{f}-{n}x{d}" + (f"-{dtype}" if dtype != "float32" else "") + (f"-and-{m}" if m else "")
    about = f"pairwise matrix of {n} images{f' and {m} others' if m else ''} with {d} features, {dtype}"
    prepare = partial(matrix_contenders, f=f, n=n, d=d, dtype=dtype, m=m)
    return Case(name, about, prepare, {"f": f, "n": n, "d": d, "dtype": dtype})


def normalisation_contenders(device: Device, normalize: str, n: int, d: int) -> list[Contender]:
    X = features(n, d, device)
    out = []
    for f in ("laplacian", "pearson", "euclidean"):
        options: dict[str, Any] = {"normalize": normalize, "channels": CHANNELS}
        errors = gpu_exact.Errors(X, f, **options)
        call = partial(dds_ext.rdm, X, f, check_finite=False, **options)
        step, elements = STEPS[f], pair_elements(n, d)
        out.append(Contender(f"dds_ext, {f}", call, errors, errors.kind, errors.promise, step, elements))
    return out


def normalisation_case(normalize: str, n: int, d: int) -> Case:
    about = f"{normalize} normalisation, {n} images with {d} features in {CHANNELS} channels, float32"
    prepare = partial(normalisation_contenders, normalize=normalize, n=n, d=d)
    return Case(f"{normalize}-{n}x{d}", about, prepare, {"n": n, "d": d})


# ---------------------------------------------------------------------------------------------------------------------
# Gradients.


def gradient_contenders(device: Device, n: int, d: int) -> list[Contender]:
    """Forward and backward of the Laplacian matrix; dds_ext's backward pass by itself for its share of the roof."""
    X, G = features(n, d, device), features(n, n, device, seed=1)
    exact = gpu_exact.laplacian_gradient(X, G)
    K = dds_ext.rdm(X)

    def error(gradient: torch.Tensor) -> float:
        return float((gradient - exact).norm() / exact.norm())

    def both(matrix: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        x = X.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(matrix(x), x, G)
        return gradient

    def backward() -> torch.Tensor:
        operator = torch.ops.dds_ext.pairwise_backward
        gradient: torch.Tensor = operator(G, K, X, None, "laplacian", None, "none", None, False, 2, True, False)[0]
        return gradient

    ours = partial(dds_ext.rdm, check_finite=False)
    kind = "relative to the gradient's length"
    return [
        Contender("dds_ext", partial(both, ours), error, kind),
        Contender("dds_ext, backward", backward, error, kind, step="sign", elements=n * n * d),
        Contender("torch.cdist p=1", partial(both, lambda x: by_l1(x, x, "laplacian")), error, kind),
    ]


def gradient_case(n: int, d: int) -> Case:
    about = f"forward and backward of the Laplacian matrix of {n} images with {d} features, float32"
    return Case(f"gradient-{n}x{d}", about, partial(gradient_contenders, n=n, d=d), {"n": n, "d": d})


# ---------------------------------------------------------------------------------------------------------------------
# Many models, and comparisons.


def requests(X: Sequence[torch.Tensor], options: Options) -> list[Request]:
    return [Request(as_features(x, f"model {i}", None, False), None, options) for i, x in enumerate(X)]


def batch_contenders(device: Device, n: int, d: int) -> list[Contender]:
    """The z-scored Laplacian matrices of all models: one launch, and one after another."""
    X = models(n, d, device)
    asked = requests(X, Options("laplacian", normalize="zscore", center="unbiased", check_finite=False))
    last = gpu_exact.Errors(X[-1], "laplacian", normalize="zscore", center="unbiased")
    roof = (STEPS["laplacian"], MODELS * pair_elements(n, d))
    said = (last.kind, last.promise, *roof)
    return [
        Contender("dds_ext, one launch", lambda: compute(asked), lambda K: last(K[-1]), *said),
        Contender("dds_ext, one after another", lambda: [compute([r])[0] for r in asked], lambda K: last(K[-1]), *said),
    ]


def measure_contenders(device: Device, measure: str, n: int, d: int) -> list[Contender]:
    X, options = models(n, d, device), dds_ext.MEASURES[measure]
    exact = gpu_exact.scores(X, **options)
    promise = SCORE if options["g"] == "cosine" else None  # a rank moves where two entries agree to float32's rounding

    def error(scores: Any) -> float:
        return float((torch.as_tensor(scores).to(device) - exact).abs().max())

    roof = (STEPS[options["f"]], MODELS * pair_elements(n, d))

    def ours(name: str, **more: Any) -> Contender:
        call = partial(dds_ext.affinity, X, **options, **more)
        return Contender(name, call, error, "absolute", promise, *roof, capturable=False)

    return [ours("dds_ext"), ours("dds_ext, unchecked", check_finite=False)]


def grid_contenders(device: Device, n: int, d: int) -> list[Contender]:
    X = models(n, d, device)
    on_cpu = dds_ext.grid([x.cpu() for x in X], channels=CHANNELS)

    def error(found: dict[Any, Any]) -> float:
        return max(float(abs(found[key] - scores).max()) for key, scores in on_cpu.items())

    call = partial(dds_ext.grid, X, channels=CHANNELS)
    return [Contender("dds_ext", call, error, "difference from the CPU engine", 2 * SCORE, capturable=False)]


def compare_contenders(device: Device, n: int) -> list[Contender]:
    X = models(n, 256, device)[-2:]
    K = [dds_ext.rdm(x, "euclidean") for x in X]
    out = []
    for g in dds_ext.COMPARISONS:
        on_cpu = float(dds_ext.compare(*(k.cpu() for k in K), g))

        def error(score: Any, on_cpu: float = on_cpu) -> float:
            return abs(float(score) - on_cpu)

        # float64 sums of the same numbers in another order
        call = partial(dds_ext.compare, *K, g)
        out.append(Contender(f"dds_ext, {g}", call, error, "difference from the CPU engine", 1e-12, capturable=False))
    return out


def cases(
    sizes: Sequence[tuple[int, int]] = SIZES,
    model_sizes: Sequence[tuple[int, int]] = MODEL_SIZES,
    other: tuple[int, int] = OTHER_SIZE,
    gradient_sizes: Sequence[tuple[int, int]] = GRADIENT_SIZES,
    compared: Sequence[int] = COMPARED,
) -> dict[str, Case]:
    n, d = other
    first = model_sizes[0]
    at = [f"{MODELS}x{a}x{b}" for a, b in model_sizes]
    many = [f"{MODELS} models, {a} images with {b} features each" for a, b in model_sizes]
    rest = [f for f in dds_ext.METRICS if f not in ("laplacian", "linear", "euclidean")]

    def of_models(name: str, i: int, about: str, prepare: Callable[..., list[Contender]], **more: Any) -> Case:
        size = dict(zip("nd", model_sizes[i], strict=True))
        return Case(f"{name}-{at[i]}", f"{about} of {many[i]}", partial(prepare, **size, **more), size)

    every = range(len(model_sizes))
    batches = [of_models("batch", i, "z-scored Laplacian matrices", batch_contenders) for i in every]
    dds = [of_models("affinity", i, "DDS of all pairs", measure_contenders, measure="dds") for i in every]
    rsa = of_models("rsa", 0, "RSA of all pairs", measure_contenders, measure="rsa")
    grid = Case(
        f"grid-{at[0]}", f"every normalisation and f, {many[0]}", partial(grid_contenders, n=first[0], d=first[1])
    )
    listed = [
        Case("overhead", "8 images with 16 features: what a call costs", matrix_case("laplacian", 8, 16).prepare),
        *(matrix_case("laplacian", *size) for size in sizes),
        *batches,
        *dds,
        *(gradient_case(*size) for size in gradient_sizes),
        *(matrix_case(f, *size) for f in ("linear", "euclidean") for size in sizes),
        rsa,
        *(normalisation_case(q, n, d) for q in dds_ext.NORMALIZATIONS if q != "none"),
        *(matrix_case("laplacian", n, d, dtype) for dtype in ("float16", "bfloat16", "float64")),
        matrix_case("linear", n, d, "float64"),
        *(matrix_case(f, n, d, m=n // 2) for f in ("laplacian", "linear", "rbf")),
        grid,
        *(
            Case(f"compare-{k}", f"two {k} x {k} matrices", partial(compare_contenders, n=k), {"n": k})
            for k in compared
        ),
        *(matrix_case(f, *size) for f in rest for size in sizes),
    ]
    return {case.name: case for case in listed}
