"""Properties that hold for any features: symmetry, permutations, and the invariances that each f promises."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import (
    ABSOLUTE_32,
    CENTERINGS,
    COMPARISONS,
    METRICS,
    NORMALIZATIONS,
    RELATIVE_32,
    SCORE_32,
    Array,
    centered_bound,
    complaint,
    error_bound,
    layout,
    symmetry_complaint,
    to64,
)

import dds_ext
from dds_ext import reference

settings.register_profile("suite", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("suite")

names = {
    "f": st.sampled_from(METRICS),
    "normalize": st.sampled_from(NORMALIZATIONS),
    "center": st.sampled_from(CENTERINGS),
}

seeds = st.integers(0, 2**32 - 1)


@st.composite
def features(draw: st.DrawFn, min_n: int = 4, min_d: int = 3) -> Array:
    """(n, d) float32 features: any numbers hypothesis likes, and noise, so that no row or distance is degenerate."""
    n, d = draw(st.integers(min_n, 24)), draw(st.integers(min_d, 40))
    numbers = st.floats(-100, 100, width=32)
    values = draw(arrays(np.float32, (n, d), elements=numbers, fill=st.just(np.float32(0))))
    noise = np.random.default_rng(draw(seeds)).normal(size=(n, d))
    return np.asarray(values + noise, dtype=np.float32)


@st.composite
def any_features(draw: st.DrawFn) -> Array:
    """(n, d) features without noise: duplicates, constant rows and zeros abound."""
    n, d = draw(st.integers(2, 12)), draw(st.integers(1, 20))
    # Multiples of 2^-23: what two of them differ by, and its square, are far from the smallest numbers of either type.
    special = [0.0, -0.0, 1.0, -1.0, 1 + 2**-23, 1 - 2**-23]
    elements = st.sampled_from(special) | st.integers(-(2**13), 2**13).map(lambda i: i / 64)
    return draw(arrays(np.float32, (n, d), elements=elements))


@given(X=features(), **names)
def test_against_the_reference(X: Array, f: str, normalize: str, center: str) -> None:
    options = layout(X.shape[1])
    Z, _ = reference.normalize(X, normalize, **options)
    bare = reference.METRICS[f](Z, Z, None)
    bound = centered_bound(error_bound(f, bare, Z, Z, double=False), bare, center, double=False)
    K = dds_ext.rdm(X, f, normalize=normalize, center=center, **options)
    message = complaint(K, reference.center(bare, center), bound) or symmetry_complaint(K, f, center)
    assert not message, message


@given(X=any_features(), f=names["f"], normalize=names["normalize"])
def test_degenerate_features_are_right_or_refused(X: Array, f: str, normalize: str) -> None:
    """Nothing comes out as NaN, and what comes out is what the reference says."""
    options: dict[str, Any] = {"normalize": normalize, **layout(X.shape[1])}
    try:
        K = dds_ext.rdm(X, f, **options)
    except ValueError as error:
        assert {"pearson": "pearson", "rbf": "median"}[f] in str(error)
        return
    assert np.isfinite(K).all()
    # The reference may find a row constant that rounding in its statistics left barely so, or the other way round.
    try:
        Z, _ = reference.normalize(X, **{"method": options.pop("normalize"), **options})
        expected = reference.METRICS[f](Z, Z, None)
    except ValueError:
        return
    scale = np.abs(Z).max()
    if f == "pearson":
        assume(np.ptp(Z, axis=1).min() > 1e-6 * scale)
    message = complaint(K, expected, error_bound(f, expected, Z, Z, double=False))
    assert not message, message


@given(X=features(), seed=seeds, **names)
def test_permuted_images_permute_the_matrix(X: Array, seed: int, f: str, normalize: str, center: str) -> None:
    options: dict[str, Any] = {"normalize": normalize, **layout(X.shape[1])}
    order = np.random.default_rng(seed).permutation(len(X))
    K = to64(dds_ext.rdm(X, f, center=center, **options))
    permuted = to64(dds_ext.rdm(X[order], f, center=center, **options))
    Z, _ = reference.normalize(X, normalize, **layout(X.shape[1]))
    bare = reference.METRICS[f](Z, Z, None)
    # Each of the two is within the bound.
    bound = 2 * centered_bound(error_bound(f, bare, Z, Z, double=False), bare, center, double=False)
    message = complaint(permuted, K[np.ix_(order, order)], bound[np.ix_(order, order)])
    assert not message, message


@given(X=features(), seed=seeds, f=names["f"], normalize=st.sampled_from(["none", "zscore", "layer"]))
def test_the_order_of_features_does_not_matter(X: Array, seed: int, f: str, normalize: str) -> None:
    order = np.random.default_rng(seed).permutation(X.shape[1])
    Z, _ = reference.normalize(X, normalize)
    bound = 2 * error_bound(f, reference.METRICS[f](Z, Z, None), Z, Z, double=False)
    K = to64(dds_ext.rdm(X, f, normalize=normalize))
    message = complaint(dds_ext.rdm(np.ascontiguousarray(X[:, order]), f, normalize=normalize), K, bound)
    assert not message, message


@given(X=features(), power=st.integers(-80, 80))
def test_scale_invariances(X: Array, power: int) -> None:
    """Powers of two scale float32 exactly, so what is invariant to scale only sees other exponents.

    Squares of these numbers are beyond float32 at both ends.
    """
    scaled = np.ldexp(X, power)
    invariant: list[tuple[str, dict[str, str]]] = [("cosine", {}), ("pearson", {})]
    if abs(power) <= 40:
        invariant.append(("rbf", {}))  # through its median
    for f, options in (*invariant, *((f, {"normalize": "zscore"}) for f in METRICS)):
        K, L = (to64(dds_ext.rdm(Z, f, **options)) for Z in (X, scaled))
        Z, _ = reference.normalize(X, **{"method": options.get("normalize", "none")})
        bound = 2 * error_bound(f, reference.METRICS[f](Z, Z, None), Z, Z, double=False)
        message = complaint(L, K, bound)
        assert not message, f"{f} {options}: {message}"


@given(X=features(), seed=seeds)
def test_cosine_ignores_the_scale_of_each_image(X: Array, seed: int) -> None:
    scales = np.exp2(np.random.default_rng(seed).integers(-20, 20, size=(len(X), 1))).astype(np.float32)
    D = dds_ext.rdm(X, "cosine")
    np.testing.assert_allclose(dds_ext.rdm(X * scales, "cosine"), D, rtol=0, atol=2 * ABSOLUTE_32)


@given(X=features(), seed=seeds)
def test_pearson_ignores_the_scale_and_offset_of_each_image(X: Array, seed: int) -> None:
    """float64, where adding an offset rounds off next to nothing."""
    random = np.random.default_rng(seed)
    moved = X * random.uniform(0.1, 10, size=(len(X), 1)) + random.normal(size=(len(X), 1))
    np.testing.assert_allclose(
        dds_ext.rdm(moved, "pearson"), dds_ext.rdm(X.astype(np.float64), "pearson"), rtol=0, atol=1e-10
    )


@given(X=features(), offset=st.integers(-1000, 1000))
def test_distances_ignore_a_common_offset(X: Array, offset: int) -> None:
    """Multiples of 1/64 below 2^11 keep all their bits when an integer is added."""
    X = np.round(X * 64) / 64
    for f in ("manhattan", "euclidean", "sqeuclidean"):
        D = dds_ext.rdm(X, f)
        np.testing.assert_allclose(dds_ext.rdm(X + np.float32(offset), f), D, rtol=2 * RELATIVE_32, atol=0, err_msg=f)
    for f in ("laplacian", "rbf"):
        K = dds_ext.rdm(X, f)
        np.testing.assert_allclose(dds_ext.rdm(X + np.float32(offset), f), K, rtol=0, atol=2 * ABSOLUTE_32, err_msg=f)


@given(X=features(), seed=seeds)
def test_euclidean_ignores_rotations(X: Array, seed: int) -> None:
    d = X.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    Z = X.astype(np.float64)
    for f in ("euclidean", "sqeuclidean", "rbf", "linear", "cosine"):
        K = dds_ext.rdm(Z, f)
        np.testing.assert_allclose(dds_ext.rdm(Z @ rotation, f), K, rtol=1e-9, atol=1e-9 * np.abs(K).max(), err_msg=f)


@given(X=features(), **{"f": names["f"]})
def test_ranges_and_the_triangle_inequality(X: Array, f: str) -> None:
    K = to64(dds_ext.rdm(X, f))
    if f in ("laplacian", "rbf"):
        assert (K >= 0).all() and (K <= 1).all()
    elif f != "linear":
        assert (K >= 0).all()
        if f in ("pearson", "cosine"):
            assert (K <= 2).all()
    if f in ("euclidean", "manhattan"):
        detour = (K[:, :, None] + K[None, :, :]).min(axis=1)
        assert (detour * (1 + 3 * RELATIVE_32) >= K).all()


@given(X=features(), Y=features(), **{"f": names["f"]})
def test_a_second_set_is_a_block_of_the_matrix_of_both(X: Array, Y: Array, f: str) -> None:
    d = min(X.shape[1], Y.shape[1])
    X, Y = X[:, :d], Y[:, :d]
    gamma = 0.01 if f == "rbf" else None
    both = to64(dds_ext.rdm(np.concatenate([X, Y]), f, gamma=gamma))[: len(X), len(X) :]
    bound = 2 * error_bound(f, both, X, Y, double=False)
    message = complaint(dds_ext.rdm(X, f, Y=Y, gamma=gamma), both, bound)
    assert not message, message


@given(X=features(min_n=5), seed=seeds, f=names["f"], g=st.sampled_from(COMPARISONS))
def test_scores(X: Array, seed: int, f: str, g: str) -> None:
    """Symmetric, at most 1, 1 with itself, and unchanged when the images of both models are reordered."""
    random = np.random.default_rng(seed)
    Y = (np.tanh(X[:, ::2]) + random.normal(size=X[:, ::2].shape)).astype(np.float32)
    if Y.shape[1] < 3:
        Y = np.concatenate([Y, X], axis=1)
    options = {"f": f, "g": g, "center": "none" if g == "cosine" else "double", "normalize": "center"}
    score = dds_ext.similarity(X, Y, **options)
    assert abs(score) <= 1
    assert abs(dds_ext.similarity(Y, X, **options) - score) <= SCORE_32
    assert abs(dds_ext.similarity(X, X, **options) - 1) <= SCORE_32
    if g in ("cosine", "pearson"):
        order = random.permutation(len(X))
        assert abs(dds_ext.similarity(X[order], Y[order], **options) - score) <= SCORE_32
