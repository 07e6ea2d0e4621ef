"""g, affinity, grid and the named measures."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support import CENTERINGS, COMPARISONS, METRICS, NORMALIZATIONS, SCORE_32, SCORE_64, Array, features, to64

import dds_ext
from dds_ext import reference

# Rank-based g are functions of integers: whatever the type of the matrix, they equal SciPy's but for the last digits of
# float64.
SCORE_RANK = 1e-12


def matrices(n: int, count: int, step: float = 0.0, seed: int = 0) -> Array:
    """(count, n, n) symmetric matrices that correlate; with `step`, their values are multiples of it, so many tie."""
    random = np.random.default_rng((seed, n, count))
    common = random.normal(size=(n, n))
    stack = []
    for _ in range(count):
        K = common + random.normal(size=(n, n))
        K = K + K.T
        stack.append(np.round(K / step) * step if step else K)
    return np.stack(stack)


def tolerance(g: str, dtype: str) -> float:
    if g in ("spearman", "kendall"):
        return SCORE_RANK
    return SCORE_64 if dtype == "float64" else SCORE_32


@pytest.mark.parametrize("g", COMPARISONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [0.0, 0.5, 3.0])
def test_two_matrices(g: str, dtype: str, step: float) -> None:
    for n in (3, 4, 5, 9, 17, 40, 150):
        K1, K2 = matrices(n, 2, step).astype(dtype)
        expected = reference.compare(K1, K2, g)
        for a, b in ((K1, K2), (torch.from_numpy(K1), torch.from_numpy(K2))):
            score = dds_ext.compare(a, b, g=g)
            assert type(score) is (float if a is K1 else torch.Tensor)
            assert score == pytest.approx(expected, abs=tolerance(g, dtype)), n


def test_against_scipy_itself() -> None:
    """The reference calls SciPy only for ranks and tau-b; these are SciPy's own correlations."""
    K1, K2 = matrices(60, 2, step=1.0)
    i = np.triu_indices(60, 1)
    assert dds_ext.compare(K1, K2, g="pearson") == pytest.approx(stats.pearsonr(K1[i], K2[i]).statistic, abs=1e-12)
    assert dds_ext.compare(K1, K2, g="spearman") == pytest.approx(stats.spearmanr(K1[i], K2[i]).statistic, abs=1e-12)
    assert dds_ext.compare(K1, K2, g="kendall") == pytest.approx(stats.kendalltau(K1[i], K2[i]).statistic, abs=1e-12)


def test_pearson_is_the_default() -> None:
    K1, K2 = matrices(12, 2)
    assert dds_ext.compare(K1, K2) == dds_ext.compare(K1, K2, g="pearson")


@pytest.mark.parametrize("g", ["spearman", "kendall"])
def test_ties(g: str) -> None:
    """Two values only; all tied but one; zeros of both signs; neighbouring, subnormal and huge numbers."""
    n = 30
    random = np.random.default_rng(0)
    binary = np.triu(random.integers(0, 2, size=(n, n)), 1).astype(np.float32)
    lonely = np.zeros((n, n), dtype=np.float32)
    lonely[3, 20] = 1
    signed = np.where(random.random((n, n)) < 0.5, np.float32(-0.0), np.float32(0.0)) + lonely * 2
    neighbours = np.nextafter(np.float32(1), np.float32(2)) * random.integers(0, 2, size=(n, n)).astype(np.float32)
    neighbours[neighbours == 0] = 1
    subnormal = random.integers(0, 50, size=(n, n)).astype(np.float32) * np.float32(1e-44)
    huge = random.choice(np.float32([-3e38, -1e-38, 0, 1e-38, 3e38]), size=(n, n))
    stack = [np.triu(K, 1) + np.triu(K, 1).T for K in (binary, lonely, signed, neighbours, subnormal, huge)]
    for K1, K2 in itertools.combinations_with_replacement(stack, 2):
        assert dds_ext.compare(K1, K2, g=g) == pytest.approx(reference.compare(K1, K2, g), abs=SCORE_RANK)


def test_kendall_counts_beyond_32_bits() -> None:
    """n = 400 has 79800 pairs of images and 3.2e9 pairs of those."""
    for step in (0.0, 1.0, 5.0):
        K1, K2 = matrices(400, 2, step)
        expected = reference.compare(K1, K2, "kendall")
        assert dds_ext.compare(K1, K2, g="kendall") == pytest.approx(expected, abs=SCORE_RANK)


def test_spearman_of_many_pairs() -> None:
    """n = 4200 has 8.8 million pairs, with ranks that float32 cannot tell apart any more."""
    random = np.random.default_rng(0)
    K1 = random.random((4200, 4200), dtype=np.float32)
    K2 = K1 + random.random((4200, 4200), dtype=np.float32)
    score = dds_ext.compare(K1, K2, g="spearman")
    assert score == pytest.approx(reference.compare(K1, K2, "spearman"), abs=1e-9)


@pytest.mark.parametrize("g", COMPARISONS)
def test_stacks(g: str) -> None:
    for dtype in ("float32", "float64"):
        stack = matrices(20, 5, step=0.5).astype(dtype)
        K1, K2 = stack[:3], stack[3:]
        expected = reference.compare(K1, K2, g)
        table = dds_ext.compare(K1, K2, g=g)
        assert isinstance(table, np.ndarray) and table.dtype == np.float64 and table.shape == (3, 2)
        np.testing.assert_allclose(table, expected, rtol=0, atol=tolerance(g, dtype))
        tensor = dds_ext.compare(torch.from_numpy(K1), torch.from_numpy(K2), g=g)
        assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
        np.testing.assert_array_equal(tensor.numpy(), table)
        np.testing.assert_allclose(table[1, 1], dds_ext.compare(K1[1], K2[1], g=g), rtol=0, atol=tolerance(g, dtype))


@pytest.mark.parametrize("g", COMPARISONS)
def test_only_the_cosine_sees_diagonal_and_lower_triangle(g: str) -> None:
    K1, K2 = matrices(15, 2)
    changed = K1 + np.tril(np.full_like(K1, 3.0))
    assert (dds_ext.compare(changed, K2, g=g) == dds_ext.compare(K1, K2, g=g)) == (g != "cosine")


@pytest.mark.parametrize("g", COMPARISONS)
def test_strided_matrices(g: str) -> None:
    stack = matrices(15, 4)
    wide = np.full((4, 30, 33), np.nan)
    wide[:, ::2, 1:31:2] = stack
    views = wide[:, ::2, 1:31:2]
    np.testing.assert_array_equal(dds_ext.compare(views, views, g=g), dds_ext.compare(stack, stack, g=g))
    assert dds_ext.compare(views[0], views[1].T, g=g) == dds_ext.compare(stack[0], stack[1], g=g)


def test_correlations_near_one_and_with_offsets() -> None:
    """A mean far from 0 must not cost the correlation its digits; nothing exceeds 1."""
    K1, K2 = matrices(40, 2)
    for offset in (1e3, 1e6):
        a, b = K1 + offset, K2 + offset
        expected = reference.compare(a, b, "pearson")
        assert dds_ext.compare(a, b) == pytest.approx(expected, abs=SCORE_64 * offset)
    a, b = (K1 + 1e3).astype(np.float32), (K2 + 1e3).astype(np.float32)
    assert dds_ext.compare(a, b) == pytest.approx(reference.compare(a, b, "pearson"), abs=SCORE_32)
    for g in COMPARISONS:
        assert dds_ext.compare(K1, K1, g=g) == pytest.approx(1, abs=1e-12)
        assert dds_ext.compare(K1, K1, g=g) <= 1
        assert dds_ext.compare(K1, -K1, g=g) == pytest.approx(-1, abs=1e-12)


def test_cosine_of_extreme_magnitudes() -> None:
    """Squares of float32 numbers such as 1e30 or 1e-30 do not exist in float32."""
    K1, K2 = matrices(20, 2)
    expected = reference.compare(K1, K2, "cosine")
    for scale in (1e30, 1e-30):
        a, b = (K1 * scale).astype(np.float32), (K2 * scale).astype(np.float32)
        assert dds_ext.compare(a, b, g="cosine") == pytest.approx(expected, abs=SCORE_32)
        assert dds_ext.compare(a, b, g="pearson") == pytest.approx(reference.compare(K1, K2, "pearson"), abs=SCORE_32)


# ---------------------------------------------------------------------------------------------------------------------
# Models.


def models(count: int, n: int = 30, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """Related models with different numbers of features."""
    common = features(n, 50, "float64")
    return {
        f"model{i}": (torch.tanh(common[:, i:]) + features(n, 50 - i, "float64", seed=i)).to(getattr(torch, dtype))
        for i in range(count)
    }


@pytest.mark.parametrize("g", COMPARISONS)
@pytest.mark.parametrize("center", CENTERINGS)
def test_affinity(center: str, g: str) -> None:
    for f, normalize in (("laplacian", "zscore"), ("pearson", "center"), ("rbf", "layer"), ("linear", "none")):
        options: dict[str, Any] = {"f": f, "normalize": normalize, "center": center, "g": g}
        sources = models(4)
        table = dds_ext.affinity(sources, **options)
        assert isinstance(table, np.ndarray) and table.dtype == np.float64 and table.shape == (4, 4)
        np.testing.assert_array_equal(table, table.T)
        expected = reference.affinity({name: to64(X) for name, X in sources.items()}, **options)
        # A float32 matrix may order two nearly equal pairs differently, which moves a rank correlation a little.
        atol = SCORE_32 if g in ("cosine", "pearson") else 1e-4
        np.testing.assert_allclose(table, expected, rtol=0, atol=atol, err_msg=f"{f} {normalize}")
        # What each pair gives by itself.
        a, b = list(sources.values())[1:3]
        assert dds_ext.similarity(a, b, **options) == pytest.approx(table[1, 2], abs=1e-6)


def test_affinity_with_targets() -> None:
    sources = models(5)
    targets = {name: sources[name] for name in ("model4", "model0")}
    table = dds_ext.affinity(sources, targets)
    assert table.shape == (5, 2)
    full = dds_ext.affinity(sources)
    np.testing.assert_allclose(table, full[:, [4, 0]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.diag(full), 1, rtol=0, atol=1e-6)


def test_affinity_of_sequences_kinds_and_dtypes() -> None:
    """A mapping or a sequence, of tensors or arrays, of any dtype; the defaults are DDS."""
    named = models(3)
    expected = dds_ext.affinity(named)
    np.testing.assert_array_equal(dds_ext.affinity(list(named.values())), expected)
    np.testing.assert_array_equal(dds_ext.affinity(tuple(X.numpy() for X in named.values())), expected)
    mixed = [X.double() if i == 1 else X for i, X in enumerate(named.values())]
    np.testing.assert_allclose(dds_ext.affinity(mixed), expected, rtol=0, atol=SCORE_32)
    a, b, _ = named.values()
    assert dds_ext.dds(a, b) == pytest.approx(expected[0, 1], abs=1e-6)


def test_affinity_passes_every_option_on() -> None:
    sources = {name: X[:, :40].reshape(30, 4, 5, 2) for name, X in models(2).items()}
    options: dict[str, Any] = {"f": "rbf", "gamma": 0.01, "normalize": "group", "groups": 4, "center": "double"}
    flat = {name: X.movedim(1, -1).reshape(30, -1) for name, X in sources.items()}
    expected = reference.affinity({name: X.numpy() for name, X in sources.items()}, g="pearson", **options)
    np.testing.assert_allclose(dds_ext.affinity(sources, g="pearson", **options), expected, rtol=0, atol=SCORE_32)
    table = dds_ext.affinity(flat, g="pearson", channels=4, channels_last=True, **options)
    np.testing.assert_allclose(table, expected, rtol=0, atol=SCORE_32)


def test_grid() -> None:
    sources = models(3)
    options = {"channels": 1, "groups": 1}
    tables = dds_ext.grid(sources, **options)
    assert set(tables) == set(itertools.product(NORMALIZATIONS, METRICS))
    arrays = {name: to64(X) for name, X in sources.items()}
    for (normalize, f), table in tables.items():
        expected = reference.affinity(arrays, f=f, normalize=normalize, **options)
        np.testing.assert_allclose(table, expected, rtol=0, atol=SCORE_32, err_msg=f"{normalize} {f}")


def test_grid_of_centrings_and_comparisons() -> None:
    sources = models(3)
    targets = {"other": features(30, 20, seed=9)}
    axes = {
        "normalizations": ["none", "zscore"],
        "fs": ["laplacian", "pearson"],
        "center": CENTERINGS,
        "g": COMPARISONS,
    }
    tables = dds_ext.grid(sources, targets, **{name: list(values) for name, values in axes.items()})
    assert set(tables) == set(itertools.product(*axes.values()))
    for (normalize, f, center, g), table in tables.items():
        assert table.shape == (3, 1)
        expected = dds_ext.affinity(sources, targets, f=f, normalize=normalize, center=center, g=g)
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-6, err_msg=f"{normalize} {f} {center} {g}")
    # One list is enough to name both in the keys.
    tables = dds_ext.grid(sources, targets, normalizations=["none"], fs=["cosine"], g=["pearson", "spearman"])
    assert set(tables) == {("none", "cosine", "unbiased", g) for g in ("pearson", "spearman")}


# ---------------------------------------------------------------------------------------------------------------------
# Named measures.

MEASURES = {
    "dds": {"f": "laplacian", "normalize": "zscore", "center": "unbiased", "g": "cosine"},
    "rsa": {"f": "pearson", "normalize": "center", "center": "none", "g": "spearman"},
    "cka-linear": {"f": "linear", "normalize": "none", "center": "double", "g": "cosine"},
    "cka-rbf": {"f": "rbf", "normalize": "none", "center": "double", "g": "cosine"},
}


def test_named_measures() -> None:
    assert dds_ext.MEASURES == MEASURES
    X, Y = models(2).values()
    functions = {
        "dds": dds_ext.dds,
        "rsa": dds_ext.rsa,
        "cka-linear": dds_ext.cka,
        "cka-rbf": lambda X, Y: dds_ext.cka(X, Y, kernel="rbf"),
    }
    for name, options in MEASURES.items():
        score = functions[name](X, Y)
        assert type(functions[name](X.numpy(), Y.numpy())) is float
        expected = reference.similarity(to64(X), to64(Y), **options)
        assert score == pytest.approx(expected, abs=1e-4 if name == "rsa" else SCORE_32), name
    for kernel in ("linear", "rbf"):
        expected = reference.similarity(to64(X), to64(Y), **{**MEASURES[f"cka-{kernel}"], "center": "unbiased"})
        assert dds_ext.cka(X, Y, kernel=kernel, unbiased=True) == pytest.approx(expected, abs=SCORE_32)


def test_dds_takes_the_options_of_similarity() -> None:
    X, Y = models(2).values()
    assert dds_ext.dds(X, Y) == dds_ext.similarity(X, Y)
    X, Y = X[:, :48].reshape(30, 4, 12), Y[:, :48].reshape(30, 4, 12)
    expected = reference.similarity(X.numpy(), Y.numpy(), normalize="batch")
    assert dds_ext.dds(X, Y, normalize="batch") == pytest.approx(expected, abs=SCORE_32)


def test_linear_cka_equals_its_feature_space_form() -> None:
    X, Y = (X.double() for X in models(2).values())
    Xc, Yc = X - X.mean(0), Y - Y.mean(0)
    expected = (Yc.T @ Xc).norm() ** 2 / ((Xc.T @ Xc).norm() * (Yc.T @ Yc).norm())
    assert dds_ext.cka(X, Y) == pytest.approx(float(expected), abs=1e-10)
