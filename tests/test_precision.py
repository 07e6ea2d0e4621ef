"""Accuracy at the sizes that matter, and the fixed-point arithmetic of precision="fast"."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from support import (
    METRICS,
    NORMALIZATIONS,
    PRODUCTS,
    RELATIVE,
    SCORE_32,
    UNKIND,
    Array,
    check_rdm,
    complaint,
    error_bound,
    fail_with,
    features,
    layout,
    to64,
    unkind,
)

import dds_ext
from dds_ext import reference

# The promise of precision="fast": |K - K_reference| for d >= 512, and what its worst-case bound may reach before the
# call uses float32 instead.
FAST = 5e-5
FAST_WORST = 1e-3


def fast_bound(f: str, K: Array, d: int, limit: float) -> Array:
    """The same error of the sum of differences, seen through either f: dK = exp(-D/d) dD/d."""
    return np.full(K.shape, limit) if f == "laplacian" else limit * d * np.exp(K / d) + 1e-5 * K


@functools.cache
def fast_case(n: int, d: int, normalize: str, f: str, kind: str) -> tuple[torch.Tensor, Array]:
    X = torch.relu(features(n, d)) if kind == "activations" else features(n, d)
    return X, reference.rdm(to64(X), f, normalize=normalize, **layout(d))


@pytest.mark.parametrize("f", ["laplacian", "manhattan"])
def test_fast(f: str, isa: str) -> None:
    complaints = []
    for n, d in ((40, 512), (33, 513), (100, 1025), (50, 2048), (17, 4111), (5, 20000)):
        for normalize in NORMALIZATIONS:
            for kind in ("normal", "activations"):
                X, expected = fast_case(n, d, normalize, f, kind)
                for Z in (X, X.half().float()) if kind == "normal" and d == 513 else (X,):
                    if Z is not X:
                        expected = reference.rdm(to64(Z), f, normalize=normalize, **layout(d))
                    K = dds_ext.rdm(Z, f, normalize=normalize, precision="fast", **layout(d))
                    if message := complaint(K, expected, fast_bound(f, expected, d, FAST)):
                        complaints.append(f"n={n} d={d} {normalize} {kind}: {message}")
                    K = to64(K)
                    assert np.array_equal(K, K.T) and (np.diag(K) == (1 if f == "laplacian" else 0)).all()
    fail_with(complaints)


def test_fast_is_not_the_default_arithmetic() -> None:
    """Else nothing here would test anything; where the processor has no fixed-point step it may be the same."""
    isas = dds_ext.info()["isas"]
    X = features(50, 2048)
    if "avx2" in isas or "neon" in isas:
        assert not torch.equal(dds_ext.rdm(X, precision="fast"), dds_ext.rdm(X))


def test_fast_below_512_features(isa: str) -> None:
    """No promise of 5e-5, but the worst-case bound still holds."""
    for d in (1, 3, 17, 100, 511):
        X = features(20, d)
        expected = reference.rdm(to64(X))
        assert not complaint(dds_ext.rdm(X, precision="fast"), expected, np.full(expected.shape, FAST_WORST)), d


@pytest.mark.parametrize("f", ["laplacian", "manhattan"])
def test_fast_falls_back_on_heavy_tails(f: str, isa: str) -> None:
    """One common scale wastes the 16 bits on an outlier; then the call is as exact as float32."""
    random = np.random.default_rng(0)
    outlier = random.normal(size=(30, 600))
    outlier[4, 77] = 1e6
    for X in (random.standard_cauchy(size=(30, 600)), random.lognormal(sigma=4, size=(30, 600)), outlier):
        X = X.astype(np.float32)
        message = check_rdm(dds_ext.rdm(X, f, precision="fast"), X, f)
        assert not message, message


def test_fast_with_an_offset(isa: str) -> None:
    """Differences do not see a common offset, so it must not cost digits."""
    X = features(40, 1024) + 1000
    expected = reference.rdm(to64(X))
    assert not complaint(dds_ext.rdm(X, precision="fast"), expected, np.full(expected.shape, FAST))


def test_fast_on_duplicates(isa: str) -> None:
    X = features(20, 700)
    X[10:] = X[:10]
    K = dds_ext.rdm(X, precision="fast")
    assert (K.diagonal(10) == 1).all()
    assert (dds_ext.rdm(X, "manhattan", precision="fast").diagonal(10) == 0).all()


def test_fast_with_two_sets_a_gamma_and_a_centring(isa: str) -> None:
    X, Y = features(30, 900), features(21, 900, seed=1)
    for gamma in (None, 1e-3):
        expected = reference.rdm(to64(X), Y=to64(Y), gamma=gamma, normalize="zscore")
        K = dds_ext.rdm(X, Y=Y, gamma=gamma, normalize="zscore", precision="fast")
        assert not complaint(K, expected, np.full(expected.shape, FAST))
    for center in ("double", "unbiased"):
        expected = reference.rdm(to64(X), center=center)
        # Centring adds up at most four errors of the bare matrix.
        K = dds_ext.rdm(X, center=center, precision="fast")
        assert not complaint(K, expected, np.full(expected.shape, 4 * FAST))


def test_fast_large_gamma_falls_back(isa: str) -> None:
    """The error of the kernel is gamma times that of the distance: a large gamma leaves no room for fixed point."""
    X = 1e-3 * features(30, 600)
    expected = reference.rdm(to64(X), gamma=1.0)
    K = dds_ext.rdm(X, gamma=1.0, precision="fast")
    assert not complaint(K, expected, np.full(expected.shape, FAST_WORST))


def test_fast_means_nothing_to_other_metrics(isa: str) -> None:
    X = features(30, 600)
    for f in METRICS:
        if f not in ("laplacian", "manhattan"):
            torch.testing.assert_close(dds_ext.rdm(X, f, precision="fast"), dds_ext.rdm(X, f), rtol=0, atol=0)


def test_fast_in_float64_stays_float64(isa: str) -> None:
    X = features(30, 600, "float64")
    K = dds_ext.rdm(X, precision="fast")
    assert K.dtype == torch.float64
    expected = reference.rdm(to64(X))
    assert not complaint(K, expected, np.full(expected.shape, FAST))


def test_fast_does_not_depend_on_threads(isa: str, threads: list[int]) -> None:
    for n, d in ((150, 1300), (9, 40000)):
        X = features(n, d)
        for options in ({}, {"normalize": "zscore", "center": "unbiased"}, {"f": "manhattan"}):
            results = []
            for count in threads:
                torch.set_num_threads(count)
                results.append(dds_ext.rdm(X, precision="fast", **options))
            assert all(torch.equal(K, results[0]) for K in results), f"n={n} d={d} {options}"


# ---------------------------------------------------------------------------------------------------------------------
# float32 at the sizes of real use.


@functools.cache
def table_case(n: int, d: int, normalize: str, f: str) -> tuple[torch.Tensor, Array, Array]:
    X = torch.relu(features(n, d))
    Z, _ = reference.normalize(to64(X), normalize, **layout(d))
    K = reference.METRICS[f](Z, Z, None)
    return X, K, error_bound(f, K, Z, Z, double=False)


@pytest.mark.parametrize("f", METRICS)
@pytest.mark.parametrize(("n", "d"), [(200, 2048), (333, 1537), (9, 100352)])
def test_accuracy_table(n: int, d: int, f: str, isa: str) -> None:
    """One float32 sum over d = 100352 would lose 5e-6: sums run in blocks."""
    for normalize in ("none", "zscore", "layer"):
        X, K, bound = table_case(n, d, normalize, f)
        message = complaint(dds_ext.rdm(X, f, normalize=normalize), K, bound)
        assert not message, f"{normalize}: {message}"


@pytest.mark.parametrize("kind", UNKIND)
def test_products_of_unkind_features(kind: str, isa: str) -> None:
    X = unkind(kind, 400, 768)
    for f in PRODUCTS:
        Z = X[X.any(1)] if f == "pearson" else X  # a row of zeros has no correlation
        assert not (message := check_rdm(dds_ext.rdm(Z, f), Z, f)), f"{f}: {message}"


def test_scores() -> None:
    """similarity in float32 against the reference, for every combination of two related models."""
    X = features(40, 120)
    Y = torch.tanh(X[:, :60]) + 0.5 * features(40, 60, seed=1)
    complaints = []
    for normalize in NORMALIZATIONS:
        for f in METRICS:
            for center in ("none", "double", "unbiased"):
                for g in ("cosine", "pearson"):
                    options = {"f": f, "normalize": normalize, "center": center, "g": g, "channels": 20}
                    score = dds_ext.similarity(X, Y, **options)
                    expected = reference.similarity(to64(X), to64(Y), **options)
                    assert isinstance(score, torch.Tensor)
                    if not abs(score - expected) <= SCORE_32:
                        complaints.append(f"{options}: {score} is not {expected}")
    fail_with(complaints)


def test_relative_metrics_are_the_ones_promised() -> None:
    """The table of tolerances names metrics that exist."""
    assert set(RELATIVE) < set(METRICS)
