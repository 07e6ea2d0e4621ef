"""Degenerate input is refused with an error that names the culprit and the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import CENTERINGS, COMPARISONS, METRICS, NORMALIZATIONS, Array, features

import dds_ext
from dds_ext import reference


@pytest.fixture
def X() -> Array:
    return np.asarray(features(12, 30).numpy())


@pytest.fixture
def Y() -> Array:
    return np.asarray(features(7, 30, seed=1).numpy())


# ---------------------------------------------------------------------------------------------------------------------
# Values.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("f", METRICS)
def test_nan_and_infinity(f: str, bad: float, X: Array, Y: Array, isa: str) -> None:
    for dtype in ("float16", "float32", "float64"):
        Z, W = X.astype(dtype), Y.astype(dtype)
        Z[3, 7] = Z[7, 29] = bad
        for normalize in NORMALIZATIONS:
            options: dict[str, Any] = {"normalize": normalize, "channels": 6}
            with pytest.raises(ValueError, match=r"X has NaN or infinity in rows 3, 7\b"):
                dds_ext.rdm(Z, f, **options)
            with pytest.raises(ValueError, match=r"X has NaN or infinity in rows 3, 7\b"):
                dds_ext.rdm(Z, f, Y=W, **options)
            with pytest.raises(ValueError, match=r"Y has NaN or infinity in rows 3, 7\b"):
                dds_ext.rdm(X.astype(dtype), f, Y=Z, **options)
    Z = X.copy()
    Z[11, 0] = bad
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 11\b"):
        dds_ext.rdm(Z, f)
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 11\b"):
        dds_ext.rdm(torch.from_numpy(Z).bfloat16(), f)


def test_many_bad_rows(isa: str) -> None:
    X = features(40, 8)
    X[2:7] = torch.nan
    with pytest.raises(ValueError, match=r"in rows 2, 3, 4, 5, 6\b(?! and)"):
        dds_ext.rdm(X)
    X[:17] = torch.nan
    with pytest.raises(ValueError, match=r"in rows 0, 1, 2, 3, 4 and 12 more"):
        dds_ext.rdm(X)


def test_every_position_is_looked_at(isa: str) -> None:
    """Also the first and last element of a block, and what is left over behind the last vector."""
    for d in (1, 7, 33, 257, 2049, 4097):
        for column in {0, d // 2, d - 1}:
            X = features(9, d)
            X[8, column] = torch.nan
            with pytest.raises(ValueError, match=r"row 8\b"):
                dds_ext.rdm(X)
            with pytest.raises(ValueError, match=r"row 8\b"):
                dds_ext.rdm(X, precision="fast")


def test_check_finite_false(X: Array, isa: str) -> None:
    """Nothing is checked, and the NaN stays where it belongs."""
    X[3, 7] = np.nan
    for f, gamma in (("euclidean", None), ("laplacian", None), ("rbf", 0.1), ("linear", None), ("manhattan", None)):
        for Z in (X, X.astype(np.float64)):
            K = dds_ext.rdm(Z, f, gamma=gamma, check_finite=False)
            assert np.isnan(np.delete(K[3], 3)).all(), f
            assert np.isfinite(np.delete(np.delete(K, 3, axis=0), 3, axis=1)).all(), f
    assert np.isnan(dds_ext.dds(X, X[::-1].copy(), check_finite=False))


@pytest.mark.parametrize("f", METRICS)
def test_check_finite_false_survives_anything(f: str, isa: str) -> None:
    """No promise about the numbers, but a shape and no crash: medians, fixed point and indices see NaN too."""
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        for dtype in ("float32", "float64"):
            X = features(60, 530, dtype)
            X[[3, 50], 7] = bad
            for normalize in NORMALIZATIONS:
                options: dict[str, Any] = {"normalize": normalize, "channels": 10, "check_finite": False}
                for precision in ("default", "fast"):
                    assert dds_ext.rdm(X, f, precision=precision, **options).shape == (60, 60)
                assert dds_ext.rdm(X, f, Y=X[:4], **options).shape == (60, 4)
    X[:] = np.nan
    assert dds_ext.rdm(X, f, check_finite=False).shape == (60, 60)


@pytest.mark.parametrize("f", METRICS)
def test_overflow(f: str, X: Array, isa: str) -> None:
    """Finite numbers whose squares or sums float32 cannot hold: the row is named, or the result right, not infinite."""
    X[8] = 3e38 * np.sign(X[8])
    if f in ("linear", "sqeuclidean", "manhattan"):
        with pytest.raises(ValueError, match=r"exceeds the range of float32 .*\brow 8\b"):
            dds_ext.rdm(X, f)
        return
    try:
        K = dds_ext.rdm(X, f)
    except ValueError as error:
        assert "exceeds the range" in str(error) and "row 8" in str(error), error
    else:
        expected = dds_ext.rdm(X.astype(np.float64), f)
        np.testing.assert_allclose(K, expected, rtol=1e-5, atol=2e-6)


def test_overflow_in_float64(X: Array) -> None:
    X = X.astype(np.float64)
    X[5] = 1e200
    with pytest.raises(ValueError, match=r"exceeds the range of float64 .*\brow 5\b"):
        dds_ext.rdm(X, "sqeuclidean")


def test_overflow_in_a_second_set(X: Array, Y: Array, isa: str) -> None:
    Y[5] = 3e38 * np.sign(Y[5])
    with pytest.raises(ValueError, match=r"exceeds the range of float32 .*\brow 5 of Y\b"):
        dds_ext.rdm(X, "sqeuclidean", Y=Y)


@pytest.mark.parametrize("normalize", ["none", "center", "layer"])
def test_pearson_of_constant_rows(normalize: str, X: Array, Y: Array, isa: str) -> None:
    # A constant row stays constant under a centring of the features if all rows are: subtract the same everywhere.
    if normalize == "center":
        X[:] = X[:, :1]
        with pytest.raises(ValueError, match=r"'pearson' is undefined .* rows 0, 1, 2, 3, 4 and 7 more of X\b"):
            dds_ext.rdm(X, "pearson", normalize=normalize)
        return
    X[5] = 0.1
    with pytest.raises(ValueError, match=r"'pearson' is undefined .* row 5 of X\b"):
        dds_ext.rdm(X, "pearson", normalize=normalize)
    Y[[0, 3]] = 7.0
    with pytest.raises(ValueError, match=r"'pearson' is undefined .* rows 0, 3 of Y\b"):
        dds_ext.rdm(X[6:], "pearson", Y=Y, normalize=normalize)


def test_pearson_of_a_single_feature(X: Array) -> None:
    with pytest.raises(ValueError, match=r"'pearson' is undefined .* rows 0, 1, 2, 3, 4 and 7 more of X\b"):
        dds_ext.rdm(X[:, :1], "pearson")


def test_median_of_zero(isa: str) -> None:
    X = features(12, 30)
    X[1:] = X[:1]
    with pytest.raises(ValueError, match=r"the median squared distance of X is 0.*give one"):
        dds_ext.rdm(X, "rbf")
    with pytest.raises(ValueError, match=r"the median squared distance of X is 0.*give one"):
        dds_ext.rdm(X, "rbf", Y=features(3, 30, seed=1))
    dds_ext.rdm(X, "rbf", gamma=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes.


@pytest.mark.parametrize("kind", [lambda X: X, torch.from_numpy], ids=["numpy", "torch"])
def test_too_few_images(kind: Any, X: Array) -> None:
    with pytest.raises(ValueError, match=r"X has 1 image; a pairwise matrix needs at least 2"):
        dds_ext.rdm(kind(X[:1]))
    with pytest.raises(ValueError, match=r"X has 0 images; a pairwise matrix needs at least 2"):
        dds_ext.rdm(kind(X[:0]))
    with pytest.raises(ValueError, match=r"center='unbiased' needs at least 4 images, X has 3"):
        dds_ext.rdm(kind(X[:3]), center="unbiased")
    with pytest.raises(ValueError, match=r"Y has 0 images"):
        dds_ext.rdm(kind(X), Y=kind(X[:0]))
    with pytest.raises(ValueError, match=r"'unbiased' needs at least 4 images, K has 3"):
        dds_ext.center(kind(np.eye(3, dtype=np.float32)), "unbiased")


def test_no_features(X: Array) -> None:
    with pytest.raises(ValueError, match=r"X has 0 features"):
        dds_ext.rdm(X[:, :0])
    with pytest.raises(ValueError, match=r"X has 0 features"):
        dds_ext.rdm(X.reshape(12, 5, 6)[:, :, :0])


def test_wrong_numbers_of_axes(X: Array, Y: Array) -> None:
    with pytest.raises(ValueError, match=r"X .*\(30,\)"):
        dds_ext.rdm(X[0])
    with pytest.raises(ValueError, match=r"X .*\(\)"):
        dds_ext.rdm(X[0, 0, ...])
    with pytest.raises(ValueError, match=r"30.*29|29.*30"):
        dds_ext.rdm(X, Y=Y[:, :29])
    with pytest.raises(ValueError, match=r"Y"):
        dds_ext.rdm(X, Y=Y[0])


def test_channels_and_groups(X: Array) -> None:
    for normalize in ("batch", "instance", "group"):
        with pytest.raises(ValueError, match=rf"normalize='{normalize}' needs channels= for 2-D X"):
            dds_ext.rdm(X, normalize=normalize)
        with pytest.raises(ValueError, match=r"channels=7"):
            dds_ext.rdm(X, normalize=normalize, channels=7)
        for channels in (0, -6):
            with pytest.raises(ValueError, match=rf"channels.*{channels}"):
                dds_ext.rdm(X, normalize=normalize, channels=channels)
    with pytest.raises(ValueError, match=r"channels=10 is not divisible by groups=3"):
        dds_ext.rdm(X, normalize="group", channels=10, groups=3)
    with pytest.raises(ValueError, match=r"channels=5 is not divisible by groups=2"):
        dds_ext.rdm(X.reshape(12, 5, 6), normalize="group")
    for groups in (0, -2):
        with pytest.raises(ValueError, match=rf"groups.*{groups}"):
            dds_ext.rdm(X, normalize="group", channels=10, groups=groups)
    # What n-D input says about itself cannot be contradicted.
    with pytest.raises(ValueError, match=r"channels=6.*5|5.*channels=6"):
        dds_ext.rdm(X.reshape(12, 5, 6), normalize="batch", channels=6)


def test_centring_a_matrix_with_a_second_set(X: Array, Y: Array) -> None:
    for center in ("double", "unbiased"):
        with pytest.raises(ValueError, match=rf"center='{center}'.*Y"):
            dds_ext.rdm(X, Y=Y, center=center)
    with pytest.raises(ValueError, match=r"condensed.*Y"):
        dds_ext.rdm(X, Y=Y, condensed=True)


@pytest.mark.parametrize("kind", [lambda X: X, torch.from_numpy], ids=["numpy", "torch"])
def test_out_that_does_not_fit(kind: Any, X: Array) -> None:
    for shape in ((12, 11), (11, 11), (144,), (66,), (1, 12, 12)):
        with pytest.raises(ValueError, match=r"out .*\(12, 12\)"):
            dds_ext.rdm(kind(X), out=kind(np.zeros(shape, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"out .*\(66,\)"):
        dds_ext.rdm(kind(X), condensed=True, out=kind(np.zeros((12, 12), dtype=np.float32)))
    with pytest.raises(TypeError, match=r"out .*float32"):
        dds_ext.rdm(kind(X), out=kind(np.zeros((12, 12), dtype=np.float64)))
    with pytest.raises(TypeError, match=r"out .*float64"):
        dds_ext.rdm(kind(X.astype(np.float64)), out=kind(np.zeros((12, 12), dtype=np.float32)))


def test_out_of_another_kind(X: Array) -> None:
    with pytest.raises(TypeError, match=r"out"):
        dds_ext.rdm(X, out=torch.zeros(12, 12))
    with pytest.raises(TypeError, match=r"out"):
        dds_ext.rdm(torch.from_numpy(X), out=np.zeros((12, 12), dtype=np.float32))
    read_only = np.zeros((12, 12), dtype=np.float32)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"out .*(read-only|writeable|writable)"):
        dds_ext.rdm(X, out=read_only)


# ---------------------------------------------------------------------------------------------------------------------
# Names, numbers and types.


def test_unknown_names(X: Array) -> None:
    K = np.eye(12)
    with pytest.raises(ValueError, match=r"unknown f 'foo'; choose from .*laplacian"):
        dds_ext.rdm(X, "foo")
    with pytest.raises(ValueError, match=r"unknown normalize 'foo'; choose from .*zscore"):
        dds_ext.rdm(X, normalize="foo")
    with pytest.raises(ValueError, match=r"unknown center 'foo'; choose from .*unbiased"):
        dds_ext.rdm(X, center="foo")
    with pytest.raises(ValueError, match=r"unknown mode 'foo'; choose from .*unbiased|unknown center 'foo'"):
        dds_ext.center(K, "foo")
    with pytest.raises(ValueError, match=r"unknown g 'foo'; choose from .*kendall"):
        dds_ext.compare(K, K, g="foo")
    with pytest.raises(ValueError, match=r"unknown precision 'foo'; choose from .*fast"):
        dds_ext.rdm(X, precision="foo")
    with pytest.raises(ValueError, match=r"unknown kernel 'foo'; choose from .*rbf"):
        dds_ext.cka(X, X, kernel="foo")
    with pytest.raises(ValueError, match=r"unknown g 'foo'"):
        dds_ext.grid([X, X], g=["cosine", "foo"])
    with pytest.raises(ValueError, match=r"unknown f 'foo'"):
        dds_ext.grid([X, X], fs=["foo"])


def test_unknown_instruction_set(X: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDS_EXT_ISA", "foo")
    with pytest.raises(ValueError, match=r"DDS_EXT_ISA.*foo"):
        dds_ext.rdm(X)


def test_options_are_keywords(X: Array) -> None:
    with pytest.raises(TypeError):
        dds_ext.rdm(X, "rbf", X)


@pytest.mark.parametrize("f", ["laplacian", "rbf"])
def test_gamma(f: str, X: Array) -> None:
    for gamma, shown in ((-1, "-1"), (0, "0"), (-0.5, "-0.5"), (np.nan, "nan"), (np.inf, "inf")):
        with pytest.raises(ValueError, match=rf"gamma must be .*, got {shown}"):
            dds_ext.rdm(X, f, gamma=gamma)


def test_types(X: Array) -> None:
    for kind in (X.astype(np.complex64), torch.from_numpy(X.astype(np.complex64))):
        with pytest.raises(TypeError, match=r"dtype complex64, which is not served"):
            dds_ext.rdm(kind)
    with pytest.raises(TypeError, match=r"dtype str.*, which is not served"):
        dds_ext.rdm(np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(TypeError, match=r"dtype object, which is not served"):
        dds_ext.rdm(np.array([[1, None], [2, 3]]))
    for thing in (None, "features.npy", {"layer": X}, object()):
        with pytest.raises(TypeError, match=r"X "):
            dds_ext.rdm(thing)
    with pytest.raises(ValueError, match=r"X has shape \(\)"):
        dds_ext.rdm(3.0)


def test_devices_that_are_not_served() -> None:
    with pytest.raises(TypeError, match=r"holds no numbers"):
        dds_ext.affinity([torch.zeros(4, 4, device="meta")] * 2)


def test_sparse_tensors() -> None:
    with pytest.raises(TypeError, match=r"sparse|layout"):
        dds_ext.rdm(torch.eye(4).to_sparse())


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons.


@pytest.mark.parametrize("g", COMPARISONS)
def test_compare_degenerate_matrices(g: str) -> None:
    random = np.random.default_rng(0)
    K = random.normal(size=(9, 9))
    if g == "cosine":
        flat, culprit = np.zeros((9, 9)), "has zero norm"
    else:
        flat, culprit = np.full((9, 9), 0.1) + np.eye(9), "is constant"
    with pytest.raises(ValueError, match=rf"K1 {culprit}"):
        dds_ext.compare(flat, K, g=g)
    with pytest.raises(ValueError, match=rf"K2 {culprit}"):
        dds_ext.compare(K, flat, g=g)
    with pytest.raises(ValueError, match=rf"K2\[1\] {culprit}|matrix 1 of K2 {culprit}"):
        dds_ext.compare(np.stack([K, K]), np.stack([K, flat, K]), g=g)


@pytest.mark.parametrize("g", COMPARISONS)
def test_compare_nan(g: str) -> None:
    K = np.random.default_rng(0).normal(size=(9, 9))
    bad = K.copy()
    bad[2, 5] = np.nan
    with pytest.raises(ValueError, match=r"K1 has NaN or infinity in row 2\b"):
        dds_ext.compare(bad, K, g=g)
    bad[2, 5] = np.inf
    with pytest.raises(ValueError, match=r"K2 has NaN or infinity in row 2\b"):
        dds_ext.compare(K, bad, g=g)


def test_compare_shapes() -> None:
    K = np.random.default_rng(0).normal(size=(10, 10))
    for g in COMPARISONS:
        with pytest.raises(ValueError, match=r"different numbers of images: K1 has 9, K2 has 10"):
            dds_ext.compare(K[:9, :9], K, g=g)
        with pytest.raises(ValueError, match=r"K1 .*\(10, 9\)"):
            dds_ext.compare(K[:, :9], K, g=g)
        with pytest.raises(ValueError, match=r"K2 .*\(10,\)"):
            dds_ext.compare(K, K[0], g=g)
    for g in ("pearson", "spearman", "kendall"):
        with pytest.raises(ValueError, match=r"fewer than 3 pairs"):
            dds_ext.compare(K[:2, :2], K[2:4, 2:4], g=g)


def test_center_shapes() -> None:
    with pytest.raises(ValueError, match=r"K .*\(4, 5\)"):
        dds_ext.center(np.zeros((4, 5)), "double")
    with pytest.raises(TypeError, match=r"dtype complex64, which is not served"):
        dds_ext.center(np.zeros((4, 4), dtype=np.complex64), "double")


# ---------------------------------------------------------------------------------------------------------------------
# Several models: the culprit is a model.


def test_different_numbers_of_images(X: Array) -> None:
    with pytest.raises(ValueError, match=r"different numbers of images: X has 10, Y has 12"):
        dds_ext.similarity(X[:10], X)
    for function in (dds_ext.dds, dds_ext.rsa, dds_ext.cka):
        with pytest.raises(ValueError, match=r"different numbers of images: X has 10, Y has 12"):
            function(X[:10], X)
    with pytest.raises(ValueError, match=r"different numbers of images: source 'resnet' has 12, source 'vgg' has 10"):
        dds_ext.affinity({"resnet": X, "vgg": X[:10]})
    with pytest.raises(ValueError, match=r"different numbers of images: .*target 1 has 10"):
        dds_ext.affinity([X], [X, X[:10]])
    with pytest.raises(ValueError, match=r"different numbers of images: source 0 has 12, source 1 has 10"):
        dds_ext.grid([X, X[:10]])


def test_the_culprit_of_several_models(X: Array) -> None:
    bad = X.copy()
    bad[4, 4] = np.nan
    with pytest.raises(ValueError, match=r"^Y has NaN or infinity in row 4\b"):
        dds_ext.similarity(X, bad)
    with pytest.raises(ValueError, match=r"source 'resnet' has NaN or infinity in row 4\b"):
        dds_ext.affinity({"vgg": X, "resnet": bad})
    with pytest.raises(ValueError, match=r"target 2 has NaN or infinity in row 4\b"):
        dds_ext.affinity([X], [X, X, bad])
    with pytest.raises(ValueError, match=r"source 1 has NaN or infinity in row 4\b"):
        dds_ext.grid([X, bad], channels=6)
    bad[4] = 1.0
    with pytest.raises(ValueError, match=r"'pearson' is undefined .* row 4 of source 'resnet'"):
        dds_ext.affinity({"vgg": X, "resnet": bad}, f="pearson", normalize="none")
    with pytest.raises(ValueError, match=r"source 'resnet' has 0 features"):
        dds_ext.affinity({"resnet": X[:, :0]})
    with pytest.raises(ValueError, match=r"needs at least 4 images, source 'resnet' has 3"):
        dds_ext.affinity({"resnet": X[:3]})


def test_models_whose_matrix_says_nothing(X: Array) -> None:
    """All images alike: the matrix is constant, and its centred form has no norm."""
    same = np.repeat(X[:1], 12, axis=0)
    for g in COMPARISONS:
        for center in CENTERINGS:
            if g == "cosine" and center == "none":
                continue
            options = {"f": "euclidean", "normalize": "none", "center": center, "g": g}
            culprit = "zero norm" if g == "cosine" else "constant"
            with pytest.raises(ValueError, match=rf"Y\b.* {culprit}"):
                dds_ext.similarity(X, same, **options)
            with pytest.raises(ValueError, match=rf"source 'same'.* {culprit}"):
                dds_ext.affinity({"x": X, "same": same}, **options)


def test_no_models(X: Array) -> None:
    with pytest.raises(ValueError, match=r"no sources|sources .*empty"):
        dds_ext.affinity({})
    with pytest.raises(ValueError, match=r"no targets|targets .*empty"):
        dds_ext.affinity([X], [])


def test_one_array_is_not_several_models(X: Array) -> None:
    """Iterating over an array would silently take every image for a model."""
    for array in (X, torch.from_numpy(X)):
        with pytest.raises(TypeError, match=r"sources"):
            dds_ext.affinity(array)


def test_two_images_are_too_few_to_correlate(X: Array) -> None:
    with pytest.raises(ValueError, match=r"fewer than 3 pairs"):
        dds_ext.rsa(X[:2], X[:2])


@pytest.mark.parametrize("n", [4, 9, 20, 33, 60])
def test_models_that_say_nothing(n: int) -> None:
    """Equal images give a constant matrix: its centring is zero, not the rounding errors of sums."""
    constant, other = np.full((n, 3), 0.1), np.random.default_rng(n).normal(size=(n, 5))
    with pytest.raises(ValueError, match="matrix of X has zero norm"):
        dds_ext.dds(constant, other)
    with pytest.raises(ValueError, match="matrix of Y has zero norm"):
        dds_ext.cka(other, constant)
    with pytest.raises(ValueError, match="matrix of source 'flat' has zero norm"):
        dds_ext.affinity({"flat": constant.astype(np.float32)}, {"other": other})


def test_out_on_another_device(X: Array) -> None:
    n = len(X)
    with pytest.raises(TypeError, match="out must be a plain, dense tensor on X's device"):
        dds_ext.rdm(torch.from_numpy(X), out=torch.empty(n, n, device="meta"))
    with pytest.raises(TypeError, match="does not require grad"):
        dds_ext.rdm(torch.from_numpy(X), out=torch.empty(n, n, requires_grad=True))


def test_negative_bit() -> None:
    T = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    negated = torch.complex(T, T + 1).conj().imag
    assert negated.is_neg()
    expected = negated.resolve_neg() @ T.T
    torch.testing.assert_close(dds_ext.linear_rdm(negated, Y=T), expected, rtol=0, atol=1e-5)


def test_masked_array(X: Array) -> None:
    with pytest.raises(TypeError, match="X is a masked array"):
        dds_ext.rdm(np.ma.masked_array(X, X > 1))


def test_arguments_of_the_wrong_type(X: Array) -> None:
    for argument in ("channels", "groups"):
        for value in ("3", 2.0, True):
            with pytest.raises(TypeError, match=f"{argument} must be an integer"):
                dds_ext.rdm(X, normalize="group", **{argument: value})
    for gamma in ("a", [1], 1j, True):
        with pytest.raises(TypeError, match="gamma must be a number"):
            dds_ext.rdm(X, gamma=gamma)
    with pytest.raises(ValueError, match="channels must be positive, got -7"):
        dds_ext.rdm(X, channels=-7)
    with pytest.raises(TypeError, match="unknown option 'foo'"):
        dds_ext.affinity([X], foo=1)
    with pytest.raises(TypeError, match="unknown option 'f'"):
        dds_ext.grid([X, X], f="linear")
    with pytest.raises(TypeError, match="sources must be a mapping or a sequence"):
        dds_ext.affinity(3)


def test_channels_of_y() -> None:
    X, Y = np.ones((20, 3, 2, 2)), np.ones((20, 2, 6))
    with pytest.raises(ValueError, match="X has 3 channels, Y has 2"):
        dds_ext.rdm(X, normalize="batch", Y=Y)


# ---------------------------------------------------------------------------------------------------------------------
# Features at the ends of the range.


def test_the_f_that_exceeds_the_range_is_named() -> None:
    """Also among f that are made of the same sums, in any order."""
    X = np.random.default_rng(0).normal(size=(20, 30))
    for fs in (["linear", "cosine"], ["cosine", "linear"]):
        with pytest.raises(ValueError, match="f='cosine' exceeds the range of float64"):
            dds_ext.grid([X * 1e-152, X], normalizations=["none"], fs=fs, center="none")
    with pytest.raises(ValueError, match="f='euclidean' exceeds the range of float64"):
        dds_ext.grid([X * 1e160, X], normalizations=["none"], fs=["euclidean", "sqeuclidean"], center="none")


@pytest.mark.parametrize("normalize", [name for name in dds_ext.NORMALIZATIONS if name not in ("none", "center")])
def test_a_variance_beyond_the_range_is_no_constant_feature(normalize: str) -> None:
    """One that overflowed, or has lost its places to underflow, would make features 0 in silence."""
    X = np.random.default_rng(0).normal(size=(8, 16))
    options: dict[str, Any] = {"normalize": normalize, "channels": 4}
    for scale in (1e160, 1e200, 1e-160, 1e-200) if normalize == "zscore" else (1e160, 1e200):
        with pytest.raises(ValueError, match="f='laplacian' exceeds the range of float64"):
            dds_ext.rdm(X * scale, **options)
        with pytest.raises(ValueError, match=f"of every one, for normalize='{normalize}' takes variances"):
            dds_ext.rdm(X * scale, **options)
        assert np.isnan(dds_ext.rdm(X * scale, check_finite=False, **options)).any()
        z = torch.ops.dds_ext.normalize(torch.from_numpy(X * scale), normalize, channels=4)
        assert z.isnan().all()
    if normalize != "zscore":  # there epsilon is what is left of the variance, and next to it features are nothing
        np.testing.assert_allclose(dds_ext.rdm(X * 1e-200, "manhattan", **options), 0, atol=1e-190)
    with pytest.raises(ValueError, match="f='pearson' exceeds the range of float64"):
        dds_ext.rdm(X * 1e-160, "pearson", **options)


def test_a_median_too_small_for_a_gamma_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(8, 16))
    with pytest.raises(ValueError, match="the median squared distance of X is 0"):
        dds_ext.rdm(X * 1e-160, "rbf")


def test_float32_results_that_underflow_are_refused() -> None:
    X = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    for f in ("linear", "sqeuclidean"):
        with pytest.raises(ValueError, match=f"f='{f}' exceeds the range of float32"):
            dds_ext.rdm(X * np.float32(1e-23), f)
    scores = [dds_ext.cka(X * np.float32(s), X[:, ::-1] * np.float32(s)) for s in (1, 1e-14)]
    assert abs(scores[0] - scores[1]) < 1e-5


@pytest.mark.parametrize("scale", [1e-80, 1e80])
def test_scores_of_float64_matrices_of_any_scale(scale: float) -> None:
    X = np.random.default_rng(0).normal(size=(20, 30))
    assert abs(dds_ext.cka(X * scale, X[:, :9] * scale) - dds_ext.cka(X, X[:, :9])) < 1e-11


def test_a_row_that_normalisation_makes_constant_has_no_correlation() -> None:
    X = np.vstack([np.full(48, 3), np.random.default_rng(0).normal(size=(1, 48))])  # all z-scores are 1 or -1
    X[1] = np.minimum(X[1], 2)
    with pytest.raises(ValueError, match="rows 0, 1 of X"):
        dds_ext.rdm(X, "pearson", normalize="zscore")


def test_scales_below_the_normal_numbers(isa: str) -> None:
    """A deviation of 1e38 has a subnormal inverse, which a flush to zero would lose."""
    X = np.random.default_rng(0).normal(size=(20, 32)).astype(np.float32)
    X[:, 3] *= np.float32(1e38)
    expected = reference.rdm(X.astype(np.float64), "laplacian", normalize="zscore")
    assert torch.set_flush_denormal(True)
    try:
        K = dds_ext.rdm(X, "laplacian", normalize="zscore")
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_allclose(K, expected, rtol=0, atol=2e-6)


def test_a_grid_of_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(5, 4))
    for argument in ("center", "g", "normalizations", "fs"):
        with pytest.raises(ValueError, match=r"no .* is given; choose from"):
            dds_ext.grid([X, X], **{"normalizations": ["none"], argument: []})
