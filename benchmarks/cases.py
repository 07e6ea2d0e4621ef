"""What is measured, by name. A case makes its input, and lists the contenders that are timed side by side on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import authors
import numpy as np
import numpy.typing as npt
import peers
import torch
from measure import ERROR_KINDS, Contender, Roof, pair_elements
from scipy.spatial import distance
from sklearn.metrics import pairwise

import dds_ext
from dds_ext import reference

Matrix = npt.NDArray[Any]
Error = Callable[[Any], float]

OURS = "dds_ext"
FUSED = "dds_ext, zscore and unbiased"
FAST = "dds_ext, precision=fast"
MEDIAN = "dds_ext, median gamma"
AUTHORS = "the authors' way"

SIZES = ((200, 2048), (333, 1537), (1000, 2048), (5000, 2048), (200, 100352))
MODELS, MODEL_SIZE = 20, (200, 2048)
# Steps n * n * d beyond which only the headline, the laplacian, waits for the slow peers.
PATIENCE = 1e10
SAMPLED_ROWS = 8


@dataclass(frozen=True)
class Case:
    name: str
    about: str
    prepare: Callable[[], list[Contender]]
    facts: dict[str, Any] = field(default_factory=dict)
    small: bool = False
    """Part of a quick look."""


@lru_cache(maxsize=2)
def features(n: int, d: int, dtype: str = "float32") -> Matrix:
    """(n, d) numbers like a network's after a ReLU: one half zeros, columns of different scales."""
    rng = np.random.default_rng([n, d])
    X = rng.standard_normal((n, d), dtype=np.float32) * rng.gamma(2.0, 0.5, d).astype(np.float32)
    return np.asarray(np.maximum(X, 0, out=X), dtype=dtype)


def models() -> list[Matrix]:
    """Feature arrays of the same images that have more or less in common."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(MODEL_SIZE, dtype=np.float32)
    own = (rng.standard_normal(MODEL_SIZE, dtype=np.float32) for _ in range(MODELS))
    return [
        np.maximum(w * shared + (1 - w) * X, 0)
        for w, X in zip(np.linspace(0.1, 0.9, MODELS, dtype=np.float32), own, strict=True)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Errors against the float64 reference.


def _entries(result: Any, n: int, rows: Matrix) -> Matrix:
    """(len(rows), n) of a full matrix or of the condensed upper triangle."""
    values: Matrix = np.asarray(result)
    if values.ndim == 2:
        return np.asarray(values[rows])
    i, j = np.minimum(rows[:, None], np.arange(n)), np.maximum(rows[:, None], np.arange(n))
    condensed = i * n - i * (i + 1) // 2 + j - i - 1
    return np.asarray(values[np.minimum(condensed, len(values) - 1)])  # the diagonal is not looked at


def _bare_error(X: Matrix, f: str, gamma: float | None) -> Error:
    """Largest error of a sample of rows, the diagonal left out."""
    n = len(X)
    rows = np.unique(np.linspace(0, n - 1, SAMPLED_ROWS).astype(np.int64))
    Z = X.astype(np.float64)
    exact = reference.METRICS[f](Z[rows], Z, gamma)
    scale: Matrix = np.ones_like(exact)
    if f == "linear":
        scale = np.linalg.norm(Z[rows], axis=1)[:, None] * np.linalg.norm(Z, axis=1)
    elif f in ERROR_KINDS:
        scale = exact.copy()
    scale[np.arange(len(rows)), rows] = np.inf
    return lambda result: float((np.abs(_entries(result, n, rows) - exact) / scale).max())


@lru_cache(maxsize=1)
def _cityblock(n: int, d: int, dtype: str) -> Matrix:
    """(n, n) L1 distances of the z-scored features."""
    Z, _ = reference.normalize(features(n, d, dtype), "zscore")
    return np.asarray(distance.squareform(distance.pdist(Z, "cityblock")))


def _fused_error(X: Matrix, f: str, gamma: float | None) -> Error:
    """Largest error of the centred matrix of z-scored features, over the largest entry before centring.

    A centring needs every entry, and for those the reference's loops take too long: SciPy and a BLAS stand in.
    """
    n, d = X.shape
    Z, _ = reference.normalize(X, "zscore")
    if f in ("laplacian", "manhattan"):
        K = _cityblock(n, d, X.dtype.name)
    elif f in ("rbf", "euclidean", "sqeuclidean"):
        squares = (Z * Z).sum(axis=1)
        K = np.maximum(squares[:, None] + squares - 2 * Z @ Z.T, 0)
        np.fill_diagonal(K, 0)
    else:
        K = reference.METRICS[f](Z, Z, gamma)
    if f in ("laplacian", "rbf"):
        K = np.exp(-(1 / d if gamma is None else gamma) * K)
    elif f == "euclidean":
        K = np.sqrt(K)
    scale = np.abs(K).max()
    exact = reference.center_unbiased(K)
    return lambda result: float(np.abs(result - exact).max() / scale)


def _score_error(exact: Matrix | float) -> Error:
    return lambda result: float(np.abs(np.asarray(result) - exact).max())


# ---------------------------------------------------------------------------------------------------------------------
# One matrix.


def _matrix_contenders(f: str, n: int, d: int, dtype: str) -> list[Contender]:
    X = features(n, d, dtype)
    # 1 / the mean squared distance, about, of the features as they are and of z-scored ones
    gamma, z_gamma = (1 / (2 * float(X.var(axis=0).sum())), 1 / (2 * d)) if f == "rbf" else (None, None)
    kind = ERROR_KINDS.get(f, "absolute")
    error = _bare_error(X, f, gamma)
    roof = Roof(f, pair_elements(n, d), dtype)
    out = [
        Contender(OURS, lambda: dds_ext.rdm(X, f, gamma=gamma), error, kind, roof),
        Contender(
            FUSED,
            lambda: dds_ext.rdm(X, f, gamma=z_gamma, normalize="zscore", center="unbiased"),
            _fused_error(X, f, z_gamma),
            "relative to the largest entry before centring",
            roof,
        ),
    ]
    if f == "laplacian" and dtype == "float32":
        fast = Roof(f, pair_elements(n, d), fast=True)
        out.append(Contender(FAST, lambda: dds_ext.rdm(X, f, precision="fast"), error, kind, fast))
    if f == "rbf":
        out.append(Contender(MEDIAN, lambda: dds_ext.rdm(X, f), roof=roof))
    for peer in peers.PEERS.get(f, []):
        if peer.slow and f != "laplacian" and n * n * d > PATIENCE:
            continue
        call = partial(peer.call, X, 1 / d if gamma is None else gamma)
        out.append(Contender(peer.name, call, error if peer.whole else None, kind, slow=peer.slow))
    return out


def _matrix_case(f: str, n: int, d: int, dtype: str = "float32") -> Case:
    return Case(
        f"{f}-{n}x{d}" + (f"-{dtype}" if dtype != "float32" else ""),
        f"pairwise matrix of {n} images with {d} features, {dtype}",
        lambda: _matrix_contenders(f, n, d, dtype),
        {"f": f, "n": n, "d": d, "dtype": dtype},
        small=n * n * d < 2e8,
    )


def _under_isa(isa: str, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        before = os.environ.get("DDS_EXT_ISA")
        os.environ["DDS_EXT_ISA"] = isa
        try:
            return call()
        finally:
            if before is None:
                del os.environ["DDS_EXT_ISA"]
            else:
                os.environ["DDS_EXT_ISA"] = before

    return run


def _isa_case(f: str, n: int, d: int) -> Case:
    def prepare() -> list[Contender]:
        X = features(n, d)
        error, kind = _bare_error(X, f, None), ERROR_KINDS.get(f, "absolute")
        return [
            Contender(
                isa, _under_isa(isa, lambda: dds_ext.rdm(X, f)), error, kind, Roof(f, pair_elements(n, d), isa=isa)
            )
            for isa in dds_ext.info()["isas"]
        ]

    about = f"every instruction set of the machine, {n} images with {d} features, float32"
    return Case(f"isa-{f}-{n}x{d}", about, prepare, {"f": f, "n": n, "d": d, "dtype": "float32"})


# ---------------------------------------------------------------------------------------------------------------------
# Many models, comparisons, and what a call costs.


def _exact_matrices(X: Sequence[Matrix], f: str, **options: Any) -> Matrix:
    return np.stack([reference.rdm(x, f, **options) for x in X])


def _affinity_contenders() -> list[Contender]:
    X = models()
    K = _exact_matrices(X, "laplacian", normalize="zscore", center="unbiased")
    error = _score_error(reference.compare(K, K, "cosine"))
    roof = Roof("laplacian", MODELS * pair_elements(*MODEL_SIZE))
    return [
        Contender(OURS, lambda: dds_ext.affinity(X), error, roof=roof),
        Contender(
            FAST, lambda: dds_ext.affinity(X, precision="fast"), error, roof=Roof("laplacian", roof.elements, fast=True)
        ),
        Contender(AUTHORS, lambda: authors.affinity(X), error, slow=True),
        Contender(f"{AUTHORS}, each model once", lambda: authors.affinity_each_model_once(X), error, slow=True),
    ]


def _rsa_contenders() -> list[Contender]:
    X = models()
    K = _exact_matrices(X, "pearson", normalize="center")
    error = _score_error(reference.compare(K, K, "spearman"))
    return [
        Contender(OURS, lambda: dds_ext.affinity(X, **dds_ext.MEASURES["rsa"]), error),
        Contender("SciPy spearmanr, by pairs", lambda: peers.rsa_affinity_by_pairs(X), error),
        Contender("SciPy spearmanr, one stack", lambda: peers.rsa_affinity_by_stack(X), error),
    ]


def _grid_contenders() -> list[Contender]:
    """The authors' features are 16 x 16 x 8, channels last. The error looks at one pair of models, and at one score in
    three (all f and all normalisations are among them)."""
    X = models()
    channels: dict[str, Any] = {"channels": 8, "channels_last": True}
    sampled = [(q, f) for q in dds_ext.NORMALIZATIONS for f in dds_ext.METRICS][::3]
    exact = [reference.similarity(X[-2], X[-1], f=f, normalize=q, **channels) for q, f in sampled]
    return [
        Contender(
            OURS,
            lambda: dds_ext.grid(X, **channels),
            lambda result: float(np.abs([result[key][-2, -1] for key in sampled] - np.array(exact)).max()),
        )
    ]


def _compare_contenders(g: str, scipy_way: Callable[[Matrix, Matrix], float], n: int) -> list[Contender]:
    X, Y = features(n, 2048), np.roll(features(n, 2048), 1, axis=1)
    K1, K2 = dds_ext.rdm(X, "pearson"), dds_ext.rdm((X + Y) / 2, "pearson")
    error = _score_error(reference.compare(K1, K2, g))
    return [
        Contender(OURS, lambda: dds_ext.compare(K1, K2, g), error),
        Contender(f"SciPy {g}", lambda: scipy_way(K1, K2), error),
    ]


def _compare_case(g: str, scipy_way: Callable[[Matrix, Matrix], float], n: int) -> Case:
    return Case(
        f"compare-{g}-{n}",
        f"{g} of two {n} x {n} float32 matrices, condensing included",
        lambda: _compare_contenders(g, scipy_way, n),
        {"g": g, "n": n},
        small=n < 500,
    )


def _overhead_contenders() -> list[Contender]:
    X = features(8, 16)
    T = torch.from_numpy(X)
    error = _bare_error(X, "laplacian", None)
    return [
        Contender(f"{OURS}, NumPy array", lambda: dds_ext.rdm(X), error),
        Contender(f"{OURS}, torch tensor", lambda: dds_ext.rdm(T), error),
        Contender(f"{OURS}, dds of two models", lambda: dds_ext.dds(X, X)),
        Contender("scikit-learn laplacian_kernel", lambda: pairwise.laplacian_kernel(X), error),
        Contender("SciPy pdist", lambda: np.exp(distance.pdist(X, "cityblock") / -16), error),
        Contender("torch pdist", lambda: torch.exp(torch.nn.functional.pdist(T, 1) / -16), error),
    ]


_MANY = f"{MODELS} models, {MODEL_SIZE[0]} images with {MODEL_SIZE[1]} features each, float32"
AFFINITY, RSA, GRID = (f"{name}-{MODELS}x{MODEL_SIZE[0]}x{MODEL_SIZE[1]}" for name in ("affinity", "rsa", "grid"))

CASES = {
    case.name: case
    for case in [
        Case("overhead", "laplacian of 8 images with 16 features: what a call costs", _overhead_contenders, small=True),
        *(_matrix_case(f, n, d) for n, d in SIZES for f in dds_ext.METRICS),
        _matrix_case("laplacian", 1000, 2048, "float64"),
        *(_isa_case(f, 1000, 2048) for f in ("laplacian", "linear", "euclidean")),
        Case(AFFINITY, f"DDS of all pairs of {_MANY}", _affinity_contenders, small=True),
        Case(RSA, f"RSA (centred features, Pearson, Spearman) of all pairs of {_MANY}", _rsa_contenders, small=True),
        Case(GRID, f"DDS by every normalisation and every f, all pairs of {_MANY}", _grid_contenders, small=True),
        *(
            _compare_case(g, way, n)
            for n in (200, 1000)
            for g, way in (("spearman", peers.spearman), ("kendall", peers.kendall))
        ),
    ]
}
