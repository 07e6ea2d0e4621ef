"""dds_ext.rdm against the float64 reference: values, kinds of input, layouts in memory, difficult numbers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    CENTERINGS,
    DTYPES,
    KERNELS,
    METRICS,
    NORMALIZATIONS,
    SIZES,
    Array,
    centered_bound,
    check_rdm,
    complaint,
    error_bound,
    fail_with,
    features,
    is_double,
    layout,
    symmetry_complaint,
    to64,
)

import dds_ext
from dds_ext import reference
from dds_ext._arrays import features as engine_features
from dds_ext._compute import compute
from dds_ext._requests import Options, Request

Case = tuple[str, torch.Tensor, str, dict[str, Any], Array, Array]


def defined(f: str, n: int, d: int) -> bool:
    """Whether f is sure to be defined after any normalisation of n images with d features.

    One feature is a constant row to pearson, and so are two rows of z-scores with equal signs; few small images may
    have a median distance of 0.
    """
    return not (f == "pearson" and (n < 3 or d < 3)) and not (f == "rbf" and d < 3)


@functools.cache
def cases(f: str) -> list[Case]:
    """For one f: every size x dtype x normalisation as (label, X, normalisation, options, reference, bound)."""
    found: list[Case] = []
    for n, d in SIZES:
        if not defined(f, n, d):
            continue
        options = layout(d)
        for dtype in DTYPES:
            X = features(n, d, dtype)
            for normalize in NORMALIZATIONS:
                Z, _ = reference.normalize(to64(X), normalize, **options)
                K = reference.METRICS[f](Z, Z, None)
                label = f"n={n} d={d} {dtype} normalize={normalize}"
                found.append((label, X, normalize, options, K, error_bound(f, K, Z, Z, is_double(X))))
    return found


@pytest.mark.parametrize("f", METRICS)
def test_every_combination(f: str, isa: str) -> None:
    """f x normalisation x centring x dtype x instruction set, over sizes that straddle vectors and tiles."""
    complaints = []
    for label, X, normalize, options, bare, bound in cases(f):
        for center in CENTERINGS:
            if center == "unbiased" and len(X) < 4:
                continue
            K = dds_ext.rdm(X, f, normalize=normalize, center=center, **options)
            assert K.dtype == (torch.float64 if is_double(X) else torch.float32), label
            expected = reference.CENTERINGS[center](bare)
            message = complaint(K, expected, centered_bound(bound, bare, center, is_double(X)))
            message = message or symmetry_complaint(K, f, center)
            if message:
                complaints.append(f"{label} center={center}: {message}")
    fail_with(complaints)


@pytest.mark.parametrize("f", METRICS)
def test_two_sets(f: str, isa: str) -> None:
    """(n, m) matrices, the statistics over images being X's."""
    complaints = []
    for n, m, d in ((4, 1, 5), (3, 17, 8), (17, 9, 33), (50, 23, 513), (5, 97, 1025), (9, 8, 4097)):
        for dtype in DTYPES:
            X, Y = features(n, d, dtype), features(m, d, dtype, seed=1)
            for normalize in NORMALIZATIONS:
                options = {"normalize": normalize, **layout(d)}
                message = check_rdm(dds_ext.rdm(X, f, Y=Y, **options), X, f, Y=Y, **options)
                if message:
                    complaints.append(f"n={n} m={m} d={d} {dtype} normalize={normalize}: {message}")
    fail_with(complaints)


def test_duplicates_are_at_no_distance(isa: str) -> None:
    """Equal rows are at distance exactly 0 and have kernel exactly 1, within one set and across two."""
    for d in (5, 70, 1030):
        for dtype in ("float32", "float64"):
            X = features(60, d, dtype)
            X[40:] = X[:20]
            for normalize in NORMALIZATIONS:
                for f in ("manhattan", "euclidean", "sqeuclidean", "laplacian", "rbf"):
                    options = {"normalize": normalize, **layout(d)}
                    known = 1 if f in KERNELS else 0
                    K = dds_ext.rdm(X, f, **options)
                    assert (K.diagonal(40) == known).all(), f"{f} {normalize} d={d} {dtype}"
                    K = dds_ext.rdm(X, f, Y=X[::3], **options)
                    assert (K[::3].diagonal() == known).all(), f"{f} {normalize} d={d} {dtype}, two sets"


def test_features_constant_in_x_alone_vanish_from_y(isa: str) -> None:
    X, Y = features(12, 20), features(7, 20, seed=1)
    X[:, 5] = 0.1  # its mean rounds, so its standard deviation is not 0 in floating point
    X[:, 6] = 3e7
    for f in METRICS:
        for other in (None, Y):
            message = check_rdm(dds_ext.rdm(X, f, Y=other, normalize="zscore"), X, f, Y=other, normalize="zscore")
            assert not message, f"{f}: {message}"


@pytest.mark.parametrize("f", ["laplacian", "rbf"])
def test_gamma(f: str, isa: str) -> None:
    for dtype in ("float32", "float64"):
        X = features(21, 65, dtype)
        for gamma in (1e-6, 0.003, 0.1, 1.0, 50.0):
            for options in ({}, {"normalize": "zscore"}, {"center": "unbiased"}):
                message = check_rdm(dds_ext.rdm(X, f, gamma=gamma, **options), X, f, gamma=gamma, **options)
                assert not message, f"{dtype} gamma={gamma} {options}: {message}"


def test_wrappers() -> None:
    """Each wrapper is rdm with its f."""
    X = features(12, 30).numpy()
    for f in ("laplacian", "rbf", "linear", "pearson", "euclidean", "cosine"):
        wrapper = getattr(dds_ext, f"{f}_rdm")
        np.testing.assert_array_equal(wrapper(X), dds_ext.rdm(X, f))
        np.testing.assert_array_equal(
            wrapper(X, normalize="zscore", center="double"), dds_ext.rdm(X, f, normalize="zscore", center="double")
        )
    np.testing.assert_array_equal(dds_ext.laplacian_rdm(X, 0.5), dds_ext.rdm(X, "laplacian", gamma=0.5))
    np.testing.assert_array_equal(dds_ext.rbf_rdm(X, gamma=0.5), dds_ext.rdm(X, "rbf", gamma=0.5))


def test_defaults() -> None:
    """rdm(X) is the bare Laplacian kernel with gamma 1/d."""
    X = features(12, 30)
    assert not check_rdm(dds_ext.rdm(X), X, "laplacian", gamma=1 / 30)


# ---------------------------------------------------------------------------------------------------------------------
# Images, channels, space.


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_unflattened_input(normalize: str, isa: str) -> None:
    """(n, C, *space) and (n, *space, C), contiguous or not, and the same flattened with `channels`."""
    n, C = 11, 6
    for space in ((4,), (3, 5), (2, 3, 2), (1, 1), (17, 16)):
        first = features(n, C * int(np.prod(space))).reshape(n, C, *space)
        last = first.movedim(1, -1)
        for X, channels_last in ((first, False), (last, True)):
            for view in (X, X.contiguous()):
                for f in ("laplacian", "cosine", "linear"):
                    options: dict[str, Any] = {"normalize": normalize, "channels_last": channels_last, "groups": 3}
                    message = check_rdm(dds_ext.rdm(view, f, **options), view, f, **options)
                    assert not message, f"space={space} channels_last={channels_last} {f}: {message}"
                    options["channels"] = C
                    flat = view.reshape(n, -1)
                    message = check_rdm(dds_ext.rdm(flat, f, **options), flat, f, **options)
                    assert not message, f"flat, space={space} channels_last={channels_last} {f}: {message}"


def test_memory_format_is_not_channel_order(isa: str) -> None:
    """torch's channels_last memory format changes strides, not the meaning of the axes."""
    X = features(9, 4 * 15).reshape(9, 4, 3, 5).to(memory_format=torch.channels_last)
    for normalize in ("batch", "instance", "group", "layer"):
        message = check_rdm(dds_ext.rdm(X, "laplacian", normalize=normalize), X, "laplacian", normalize=normalize)
        assert not message, f"{normalize}: {message}"


def test_unflattened_second_set(isa: str) -> None:
    X = features(9, 4 * 15).reshape(9, 4, 3, 5)
    Y = features(6, 4 * 15, seed=1).reshape(6, 4, 3, 5)
    for normalize in NORMALIZATIONS:
        K = dds_ext.rdm(X, "euclidean", Y=Y, normalize=normalize)
        message = check_rdm(K, X, "euclidean", Y=Y, normalize=normalize)
        assert not message, f"{normalize}: {message}"


def test_every_number_of_groups(isa: str) -> None:
    X = features(10, 12 * 5)
    for groups in (1, 2, 3, 4, 6, 12):
        options = {"normalize": "group", "channels": 12, "groups": groups}
        message = check_rdm(dds_ext.rdm(X, "laplacian", **options), X, "laplacian", **options)
        assert not message, f"groups={groups}: {message}"
    # The two names for the ends of that range.
    for name, groups in (("layer", 1), ("instance", 12)):
        same = dds_ext.rdm(X, "laplacian", normalize="group", channels=12, groups=groups)
        torch.testing.assert_close(dds_ext.rdm(X, "laplacian", normalize=name, channels=12), same, rtol=0, atol=2e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Layouts in memory.


def numpy_views(n: int, d: int, dtype: str) -> dict[str, Array]:
    """(n, d) arrays of every layout; what lies between their elements is NaN."""
    values = to64(features(n, d, dtype)).astype(dtype)

    def poisoned(*shape: int) -> Array:
        return np.full(shape, np.nan, dtype=dtype)

    views = {"contiguous": values, "fortran": np.asfortranarray(values)}

    padded = poisoned(n + 2, d + 9)
    views["interior"] = padded[1:-1, 3:-6]
    every_third = poisoned(n, 3 * d)
    views["column stride 3"] = every_third[:, 1::3]
    every_second = poisoned(2 * n, d + 1)
    views["row stride 2"] = every_second[1::2, :-1]
    views["both reversed"] = poisoned(n + 1, d + 1)[:0:-1, :0:-1]
    views["columns reversed"] = poisoned(n, 2 * d)[:, ::-2]
    views["transposed interior"] = poisoned(d + 3, n + 5)[2:-1, 1:-4].T
    views["three axes"] = poisoned(n, 2, d)[:, 1]
    # One byte off: no element is aligned.
    buffer = np.zeros(values.nbytes + 1, dtype=np.uint8)
    views["misaligned"] = buffer[1:].view(dtype).reshape(n, d)
    # One element off: no vector is aligned.
    views["off by one element"] = poisoned(n * d + 1)[1:].reshape(n, d)
    for view in views.values():
        view[...] = values
    views["read-only"] = values.copy()
    views["read-only"].flags.writeable = False
    return views


@pytest.mark.parametrize("f", METRICS)
def test_numpy_layouts(f: str, isa: str) -> None:
    complaints = []
    for n, d in ((19, 34), (5, 515)):
        for dtype in ("float16", "float32", "float64"):
            for name, X in numpy_views(n, d, dtype).items():
                for normalize in ("none", "zscore", "group"):
                    options: dict[str, Any] = {"normalize": normalize, **layout(d)}
                    before = X.tobytes()
                    with warnings.catch_warnings():
                        warnings.simplefilter("error")  # e.g. torch's about arrays that are not writeable
                        K = dds_ext.rdm(X, f, **options)
                    assert isinstance(K, np.ndarray)
                    assert X.tobytes() == before, f"{name}: the input was written to"
                    if message := check_rdm(K, X, f, **options):
                        complaints.append(f"{name} {dtype} n={n} d={d} {normalize}: {message}")
    fail_with(complaints)


@pytest.mark.parametrize("f", METRICS)
def test_torch_layouts(f: str, isa: str) -> None:
    complaints = []
    for n, d in ((19, 34), (5, 515)):
        for dtype in DTYPES:
            values = features(n, d, dtype)
            views = {
                "transposed": values.T.contiguous().T,
                "interior": torch.full((n + 2, d + 9), torch.nan, dtype=values.dtype)[1:-1, 3:-6],
                "column stride 3": torch.full((n, 3 * d), torch.nan, dtype=values.dtype)[:, 1::3],
                "storage offset": torch.full((n * d + 7,), torch.nan, dtype=values.dtype)[7:].view(n, d),
            }
            for view in views.values():
                view.copy_(values)
            # Overlapping rows, as of a sliding window; and one row seen n times but for the first.
            views["overlapping"] = values.flatten().as_strided((n, d - n), (1, 1))
            if f not in ("pearson", "rbf"):
                views["expanded"] = values[:1].expand(n, d)
            for name, X in views.items():
                for normalize in ("none", "zscore", "layer"):
                    if f == "pearson" and normalize == "zscore" and name == "expanded":
                        continue
                    if message := check_rdm(dds_ext.rdm(X, f, normalize=normalize), X, f, normalize=normalize):
                        complaints.append(f"{name} {dtype} n={n} d={d} {normalize}: {message}")
    fail_with(complaints)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of objects and their dtypes.


class Exporter:
    """An object of which nothing is known but that it speaks DLPack."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_kinds_of_input() -> None:
    """The result is of the kind of the input."""
    X = features(13, 40)
    expected = dds_ext.rdm(X, "euclidean")
    assert type(expected) is torch.Tensor and expected.device == X.device

    from_numpy = dds_ext.rdm(X.numpy(), "euclidean")
    assert type(from_numpy) is np.ndarray and from_numpy.dtype == np.float32
    np.testing.assert_array_equal(from_numpy, expected.numpy())

    for array in (X, X.numpy(), X.double()):
        exported = dds_ext.rdm(Exporter(array), "euclidean")
        assert hasattr(exported, "__dlpack__")
        np.testing.assert_allclose(np.from_dlpack(exported), expected.numpy(), rtol=1e-5)


def test_second_set_of_another_kind_or_type() -> None:
    """The result is of X's kind, in float64 if either set is."""
    X, Y = features(13, 40), features(5, 40, seed=1)
    expected = dds_ext.rdm(X, "euclidean", Y=Y)
    mixed = dds_ext.rdm(X.numpy(), "euclidean", Y=Y)
    assert type(mixed) is np.ndarray
    np.testing.assert_array_equal(mixed, expected.numpy())
    for A, B in ((X.double(), Y), (X, Y.double())):
        K = dds_ext.rdm(A, "euclidean", Y=B)
        assert K.dtype == torch.float64
        torch.testing.assert_close(K, dds_ext.rdm(X.double(), "euclidean", Y=Y.double()), rtol=0, atol=0)
    half = dds_ext.rdm(X, "euclidean", Y=Y.half())
    torch.testing.assert_close(half, dds_ext.rdm(X, "euclidean", Y=Y.half().float()), rtol=0, atol=0)


def test_half_precision_kinds() -> None:
    X = features(13, 40, "bfloat16")
    assert not check_rdm(dds_ext.rdm(Exporter(X), "euclidean"), X, "euclidean")
    Y = features(13, 40, "float16")
    np.testing.assert_array_equal(dds_ext.rdm(Y.numpy(), "euclidean"), dds_ext.rdm(Y, "euclidean").numpy())


def test_no_subclass_survives() -> None:
    """np.matrix multiplies and indexes differently; nn.Parameter asks for gradients."""
    X = features(6, 8)
    with torch.no_grad():
        assert type(dds_ext.rdm(torch.nn.Parameter(X))) is torch.Tensor


def test_integers_and_booleans() -> None:
    """They are converted to float32."""
    random = np.random.default_rng(0)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64"):
        X = random.integers(0, 2 if name == "bool" else 100, size=(9, 33)).astype(name)
        for kind in (X, torch.from_numpy(X)):
            for f in METRICS:
                K = dds_ext.rdm(kind, f)
                assert not is_double(K)
                message = check_rdm(K, X.astype(np.float32), f)
                assert not message, f"{name} {f}: {message}"


# ---------------------------------------------------------------------------------------------------------------------
# The result: condensed, into a given array.


def upper(K: Array) -> Array:
    return K[np.triu_indices(len(K), 1)]


def test_condensed(isa: str) -> None:
    """The strict upper triangle, row by row, as of scipy.spatial.distance.pdist; a centring comes first."""
    for n, d in ((2, 9), (4, 5), (17, 40), (50, 130), (97, 20)):
        for dtype in ("float32", "float64"):
            X = features(n, d, dtype).numpy()
            for f in METRICS:
                if not defined(f, n, d):
                    continue
                for center in CENTERINGS:
                    if center == "unbiased" and n < 4:
                        continue
                    options = {"normalize": "zscore" if n > 2 else "none", "center": center}
                    K = dds_ext.rdm(X, f, **options)
                    condensed = dds_ext.rdm(X, f, condensed=True, **options)
                    assert condensed.shape == (n * (n - 1) // 2,) and condensed.dtype == K.dtype
                    np.testing.assert_array_equal(condensed, upper(K), err_msg=f"{n} {d} {dtype} {f} {center}")


@pytest.mark.parametrize("to_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_out(to_kind: Callable[[Any], Any], isa: str) -> None:
    """The result lands in `out`, which is returned; what was in it does not matter."""
    for dtype in ("float32", "float64"):
        X, Y = features(20, 33, dtype).numpy(), features(7, 33, dtype, seed=1).numpy()
        for shape, options in (
            ((20, 20), {}),
            ((20, 20), {"center": "unbiased"}),
            ((20, 7), {"Y": to_kind(Y)}),
            ((190,), {"condensed": True}),
            ((190,), {"condensed": True, "center": "double"}),
        ):
            for f in METRICS:
                out = to_kind(np.full(shape, np.nan, dtype=dtype))
                result = dds_ext.rdm(to_kind(X), f, out=out, **options)
                assert result is out
                np.testing.assert_array_equal(out, dds_ext.rdm(to_kind(X), f, **options), err_msg=f"{f} {options}")


# ---------------------------------------------------------------------------------------------------------------------
# Difficult numbers. All of them in float32; the reference sees the same values.


def perturbed_pairs(relative: float) -> Callable[[np.random.Generator, int], Array]:
    """The second half of the rows repeats the first, each element changed by about `relative` of itself."""

    def make(random: np.random.Generator, d: int) -> Array:
        rows = random.normal(size=(12, d)).astype(np.float32)
        return np.concatenate([rows, rows * (1 + relative * random.normal(size=rows.shape))])

    return make


def ulps_apart(random: np.random.Generator, d: int) -> Array:
    """The second half of the rows repeats the first, some of the elements being a few representable numbers further."""
    rows = random.normal(size=(12, d)).astype(np.float32)
    bits = rows.view(np.int32) + random.integers(0, 4, size=rows.shape, dtype=np.int32)
    return np.concatenate([rows, bits.view(np.float32)])


def one_element_apart(random: np.random.Generator, d: int) -> Array:
    """All rows are equal but for one element each."""
    X = np.repeat(random.normal(size=(1, d)), 24, axis=0)
    X[np.arange(24), random.permutation(d)[:24]] += 1e-3 * random.normal(size=24)
    return X


def duplicates(random: np.random.Generator, d: int) -> Array:
    rows = random.normal(size=(16, d))
    return np.concatenate([rows, rows[:8]])


def row_offsets(random: np.random.Generator, d: int) -> Array:
    """Half of the rows around +1000, half around -1000: no column mean helps."""
    return random.normal(size=(24, d)) + np.repeat([1000.0, -1000.0], 12)[:, None]


def outlier(random: np.random.Generator, d: int) -> Array:
    """A single element is 1e7 times the rest."""
    X = random.normal(size=(24, d))
    X[3, d // 2] = 1e7
    return X


def magnitudes(random: np.random.Generator, d: int) -> Array:
    """Every image has another size, over 16 orders of magnitude."""
    return random.normal(size=(24, d)) * np.logspace(-8, 8, 24)[:, None]


def exploded(random: np.random.Generator, d: int) -> Array:
    """One image is a million times the rest."""
    X = random.normal(size=(24, d))
    X[5] *= 1e6
    return X


def nearly_constant(random: np.random.Generator, d: int) -> Array:
    """All features of an image are equal but for a few."""
    X = np.full((24, d), 1000 / 3)
    X[:, ::50] += 100 * random.normal(size=X[:, ::50].shape)
    return X


def activations(random: np.random.Generator, d: int) -> Array:
    """After a ReLU: three quarters are exactly 0, and so are some features for all images."""
    X = np.maximum(random.normal(size=(24, d)) - 0.7, 0.0)
    X[:, random.permutation(d)[: d // 10]] = 0.0
    return X


DIFFICULT: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "duplicates": duplicates,
    "ulps apart": ulps_apart,
    "one element apart": one_element_apart,
    **{f"pairs {relative:g} apart": perturbed_pairs(relative) for relative in (1e-3, 1e-4, 1e-5, 1e-6)},
    "mean 1000, deviation 1": lambda random, d: random.normal(size=(24, d)) + 1000,
    "rows at +-1000": row_offsets,
    "columns at +-1e5": lambda random, d: random.normal(size=(24, d)) + 1e5 * random.choice([-1.0, 1.0], size=d),
    "Cauchy": lambda random, d: random.standard_cauchy(size=(24, d)),
    "lognormal": lambda random, d: random.lognormal(sigma=3.0, size=(24, d)),
    "outlier": outlier,
    "magnitudes": magnitudes,
    "exploded image": exploded,
    "nearly constant": nearly_constant,
    "activations": activations,
    "equal sizes": lambda random, d: 0.3 * random.choice([-1.0, 1.0], size=(24, d)),  # every addend rounds alike
    "one-hot": lambda random, d: np.eye(d)[random.permutation(d)[:24]],
    "around 1e-19": lambda random, d: 1e-19 * random.normal(size=(24, d)),
    "around 1e-15": lambda random, d: 1e-15 * random.normal(size=(24, d)),
    "around 1e15": lambda random, d: 1e15 * random.normal(size=(24, d)),
}


@functools.cache
def difficult_cases(name: str, f: str) -> list[tuple[str, Array, dict[str, Any], Array, Array]]:
    """(label, X, options, reference, bound) for one of the difficult inputs under every normalisation."""
    found = []
    for d in (60, 2100):
        X = DIFFICULT[name](np.random.default_rng(d), d).astype(np.float32)
        for normalize in NORMALIZATIONS:
            options: dict[str, Any] = {"normalize": normalize, **layout(d)}
            # A unit of distance where there is no saying what the median would be.
            options["gamma"] = 1.0 if f == "rbf" and name in ("one element apart", "one-hot") else None
            gamma = options["gamma"]
            Z, _ = reference.normalize(to64(X), normalize, **layout(d))
            K = reference.METRICS[f](Z, Z, gamma)
            found.append((f"d={d} {normalize}", X, options, K, error_bound(f, K, Z, Z, double=False)))
    return found


@pytest.mark.parametrize("f", METRICS)
@pytest.mark.parametrize("name", DIFFICULT)
def test_difficult_numbers(name: str, f: str, isa: str) -> None:
    complaints = []
    for label, X, options, expected, bound in difficult_cases(name, f):
        K = dds_ext.rdm(X, f, **options)
        if message := complaint(K, expected, bound) or symmetry_complaint(K, f, "none"):
            complaints.append(f"{label}: {message}")
    fail_with(complaints)


def test_close_pairs_in_half_precision(isa: str) -> None:
    """Neighbouring numbers of float16 and bfloat16 are 1e-3 and 8e-3 apart, and converted without loss."""
    complaints = []
    for dtype in ("float16", "bfloat16"):
        rows = features(12, 300, dtype)
        X = torch.cat([rows, (rows.view(torch.int16) + (torch.arange(300) % 7 == 0)).view(rows.dtype)])
        for f in METRICS:
            for normalize in NORMALIZATIONS:
                options: dict[str, Any] = {"normalize": normalize, **layout(300)}
                if message := check_rdm(dds_ext.rdm(X, f, **options), X, f, **options):
                    complaints.append(f"{dtype} {f} {normalize}: {message}")
    fail_with(complaints)


def test_difficult_numbers_in_float64(isa: str) -> None:
    """Without a normalisation the differences of close or offset rows are exact: float64 keeps nearly all digits."""
    complaints = []
    for name, make in DIFFICULT.items():
        X = make(np.random.default_rng(0), 130).astype(np.float64)
        for f in ("manhattan", "euclidean", "sqeuclidean", "laplacian", "cosine", "linear"):
            if message := check_rdm(dds_ext.rdm(X, f), X, f):
                complaints.append(f"{name} {f}: {message}")
    fail_with(complaints)


def test_what_ignores_scale_ignores_any(isa: str) -> None:
    """Squares of these numbers are nothing or infinite in float32."""
    values = features(20, 70, "float64").numpy()
    complaints = []
    for dtype, powers in (("float32", (-110, -80, -60, 60, 80, 110)), ("float64", (-400, 400))):
        X = values.astype(dtype)
        for f, options in (("cosine", {}), ("pearson", {}), *((f, {"normalize": "zscore"}) for f in METRICS)):
            K = dds_ext.rdm(X, f, **options)
            Z, _ = reference.normalize(to64(X), options.get("normalize", "none"))
            bound = 2 * error_bound(f, to64(K), Z, Z, dtype == "float64")
            for power in powers:
                try:
                    message = complaint(dds_ext.rdm(np.ldexp(X, power), f, **options), to64(K), bound)
                except ValueError as error:
                    message = str(error)
                if message:
                    complaints.append(f"{dtype} 2^{power} {f} {options}: {message}")
    fail_with(complaints)


def test_zero_rows_under_cosine(isa: str) -> None:
    """At distance 1 from every other row, also from another zero row, and 0 from itself."""
    X = features(10, 20)
    X[[2, 7]] = 0
    for kind in (X, X.double()):
        D = dds_ext.rdm(kind, "cosine")
        assert not check_rdm(D, kind, "cosine")
        others = torch.arange(10) != 2
        assert (D[2][others] == 1).all() and D[2, 2] == 0 and D[2, 7] == 1
        assert (dds_ext.rdm(kind, "cosine", Y=kind)[2] == 1).all()


def test_negative_zero_is_zero(isa: str) -> None:
    X = torch.zeros(6, 20)
    X[::2] = -0.0
    for f in ("manhattan", "euclidean", "sqeuclidean"):
        assert (dds_ext.rdm(X, f) == 0).all()
    assert (dds_ext.rdm(X, "laplacian") == 1).all()


# ---------------------------------------------------------------------------------------------------------------------
# dds_ext.center


def test_center(isa: str) -> None:
    """Of one matrix, of either type and kind, as rdm's own centring."""
    for n in (4, 5, 8, 17, 50, 97):
        X = features(n, 30, "float64")
        for f in METRICS:
            bare = reference.rdm(to64(X), f)
            for dtype in ("float32", "float64"):
                K = bare.astype(dtype)
                for kind in (K, torch.from_numpy(K)):
                    for mode in ("double", "unbiased"):
                        before = to64(kind).copy()
                        centered = dds_ext.center(kind, mode)
                        assert type(centered) is type(kind) and centered.dtype == kind.dtype
                        np.testing.assert_array_equal(to64(kind), before, err_msg="the input was written to")
                        bound = centered_bound(np.zeros_like(bare), to64(K), mode, dtype == "float64")
                        # The rounding of the result scales with what was subtracted.
                        message = complaint(centered, reference.center(K, mode), 2 * bound)
                        assert not message, f"n={n} {f} {dtype} {mode}: {message}"
                        assert np.array_equal(to64(centered), to64(centered).T)


def test_center_strided_and_poisoned() -> None:
    """Strides are followed, and U-centring never looks at the diagonal."""
    K = reference.rdm(to64(features(12, 8)), "euclidean").astype(np.float32)
    wide = np.full((12, 40), np.nan, dtype=np.float32)
    wide[:, 2:38:3] = K
    for mode in ("double", "unbiased"):
        np.testing.assert_array_equal(dds_ext.center(wide[:, 2:38:3], mode), dds_ext.center(K, mode))
    other = K.copy()
    np.fill_diagonal(other, 7.0)
    np.testing.assert_array_equal(dds_ext.center(other, "unbiased"), dds_ext.center(K, "unbiased"))


def test_unbiased_rows_sum_to_zero(isa: str) -> None:
    """What U-centring is for; up to the rounding of n float32 entries."""
    for n in (4, 9, 64):
        for f in METRICS:
            K = to64(dds_ext.rdm(features(n, 40), f, center="unbiased"))
            assert np.abs(K.sum(axis=1)).max() <= 2.0**-23 * n * np.abs(K).max(), f


# ---------------------------------------------------------------------------------------------------------------------
# Several matrices of the same features.


@pytest.mark.parametrize("variant", ["float32", "float64", "two sets", "fast", "condensed", "tiny"])
def test_f_that_share_their_sums_are_the_same_as_alone(variant: str) -> None:
    """Also over several slabs of columns, whose sums the first matrix holds; tiny features are in float64."""
    X = features(61, 4500, "float64" if variant == "float64" else "float32", seed=3)
    if variant == "tiny":
        X = X * 1e-17
    x = engine_features(X, "X", None, False)
    y = engine_features(X[:17] + 1, "Y", None, False) if variant == "two sets" else None
    precision = "fast" if variant == "fast" else "default"
    centers = ("none", "unbiased") if y is None else ("none",)
    for normalize in ("none", "zscore"):
        requests = [
            Request(x, y, Options(f, None, normalize, center, precision=precision), variant == "condensed")
            for f in METRICS
            for center in centers
        ]
        for request, together in zip(requests, compute(requests), strict=True):
            alone = compute([request])[0]
            np.testing.assert_array_equal(together, alone, err_msg=f"{request.options}")


def test_what_is_wrong_with_one_of_several_names_its_f() -> None:
    x = engine_features(np.ones((5, 3), np.float32), "X", None, False)
    requests = [Request(x, None, Options(f)) for f in ("sqeuclidean", "euclidean", "rbf")]
    with pytest.raises(ValueError, match=r"median squared distance of X is 0.* f='rbf'"):
        compute(requests)
