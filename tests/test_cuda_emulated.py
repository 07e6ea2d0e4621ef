"""The CUDA kernels, compiled for the host and run by the emulation of tests/cuda, against the float64 reference."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pybind11
import pytest
import torch
from support import (
    CENTERINGS,
    METRICS,
    NORMALIZATIONS,
    PRODUCTS,
    UNKIND,
    Array,
    check_rdm,
    close_sets,
    fail_with,
    features,
    layout,
    to64,
    unkind,
    views,
)

import dds_ext
from dds_ext import _cuda_backend, reference
from dds_ext._arrays import features as engine_features
from dds_ext._requests import Options, Request, parameters, sums_in_common

ROOT = Path(__file__).parent.parent
HOST = torch.device("cpu")


def build_emulated(build: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["-DDDS_EXT_TESTS=ON", "-DDDS_EXT_CUDA=off", f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (
        ["cmake", "-G", "Ninja", *options, f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", str(ROOT)],
        ["cmake", "--build", ".", "--target", "_cuda_emulated"],
    ):
        result = subprocess.run(command, cwd=build, env=environment, text=True, capture_output=True)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """What dds_ext._cuda is on a machine with a GPU."""
    # of pytest-xdist's workers one builds, with all cores, and the others wait for it
    of_run = tmp_path_factory.getbasetemp()
    build = (of_run.parent if "PYTEST_XDIST_WORKER" in os.environ else of_run) / "emulated"
    done = build / "done"
    try:
        build.mkdir()
    except FileExistsError:
        end = time.monotonic() + 600
        while not done.exists():
            assert time.monotonic() < end, "the worker that builds the emulated kernels never ends"
            time.sleep(0.2)
    else:
        try:
            build_emulated(build)
        finally:
            done.touch()
    path = next(build.rglob(f"_cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"))
    spec = importlib.util.spec_from_file_location("_cuda_emulated", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels(request: pytest.FixtureRequest, compiled: ModuleType) -> ModuleType:
    """The same; with "tensor cores" as its parameter these form all products that they can, however small.

    What is not finite is computed again in float64, which would hide what is wrong with the first result: only tests
    marked by `may_take_float64` accept that.
    """
    module = ModuleType("kernels")
    vars(module).update(vars(compiled))
    if getattr(request, "param", "") == "tensor cores":
        vars(module).update(plan=partial(compiled.plan, tensor_cores=True))
    if "may_take_float64" not in request.fixturenames:
        vars(module).update(report=partial(in_float32, compiled.report))
    return module


def in_float32(report: Callable[..., Any], *arguments: Any) -> Any:
    """The report, which must not say that float32 did not do."""
    statuses, in_float64 = report(*arguments)
    assert not any(in_float64), "the result is to be computed again in float64"
    return statuses, in_float64


@pytest.fixture
def may_take_float64() -> None:
    """For tests of what float32 cannot represent."""


both_ways = pytest.mark.parametrize("kernels", ["", "tensor cores"], indirect=True)


def ways(*fs: str) -> pytest.MarkDecorator:
    """Every f, the products by tensor cores too."""
    return pytest.mark.parametrize(
        ("kernels", "f"),
        [pytest.param("", f, id=f) for f in fs]
        + [pytest.param("tensor cores", f, id=f"{f}, tensor cores") for f in fs if f in PRODUCTS],
        indirect=["kernels"],
    )


@pytest.fixture(params=["ascending", "descending", "1", "2"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """In which order threads and blocks run."""
    monkeypatch.setenv("DDS_EMULATED_ORDER", request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def dirty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary memory holds large numbers at first: what reads it before it is written goes wrong."""
    empty = torch.empty

    def dirty(*shape: Any, **options: Any) -> torch.Tensor:
        return empty(*shape, **options).fill_(0x7F) if options.get("dtype") is torch.uint8 else empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", dirty)


def blocks(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setenv("DDS_EMULATED_BLOCKS", str(count))


def rdm(kernels: ModuleType, X: Any, Y: Any = None, *, condensed: bool = False, **options: Any) -> Array:
    """dds_ext.rdm on the emulation."""
    last = options.get("channels_last", False)
    x = engine_features(X, "X", options.get("channels"), last)
    y = None if Y is None else engine_features(Y, "Y", options.get("channels"), last)
    request = Request(x, y, Options(**options), condensed)
    out = request.target()
    _cuda_backend.fill(kernels, [request], [out], HOST)
    return np.asarray(request.result(out))


# n straddles a thread's images (8, and 4 in float64), a group's (128, 64, 248), and d a slab's features (16)
SIZES = ((4, 3), (9, 17), (64, 31), (65, 16), (130, 5), (250, 33))


def defined(f: str, Z: Array) -> bool:
    """Whether f has a value: a constant row has no correlation, and few images may have a median distance of 0."""
    if f == "pearson":
        return bool((Z.std(axis=1) > 1e-6 * np.abs(Z).max(axis=1)).all())
    return f != "rbf" or bool(np.median(reference.METRICS["sqeuclidean"](Z, Z, None)) > 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@ways(*METRICS)
def test_every_f_normalisation_and_centring(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, f: str, dtype: str
) -> None:
    found = []
    for count, (n, d) in enumerate(SIZES):
        if dtype != "float32" and n > 65:
            continue
        blocks(monkeypatch, count + 1)
        X = features(n, d, dtype)
        options = layout(d)
        for normalize in NORMALIZATIONS:
            if not defined(f, reference.normalize(to64(X), normalize, **options)[0]):
                continue
            for center in CENTERINGS if n < 200 else ("unbiased",):
                K = rdm(kernels, X, f=f, normalize=normalize, center=center, **options)
                message = check_rdm(K, X, f, normalize=normalize, center=center, **options)
                found += [f"({n}, {d}) {normalize} {center}: {message}"] * bool(message)
    fail_with(found)


@ways(*METRICS)
def test_orders_of_threads_and_shares_of_blocks(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, order: str, f: str
) -> None:
    """Items that several blocks form parts of, several items of a block, sums longer than one float32 sum may be."""
    found = []
    for i, (count, n, d) in enumerate(((7, 40, 300), (2, 9, 4500), (5, 150, 40), (11, 270, 20))):
        blocks(monkeypatch, count)
        X = features(n, d, seed=1)
        for normalize in (("none", "layer"), ("zscore", "batch"))[i % 2]:
            options = {"channels": 5, "channels_last": True, "normalize": normalize, "center": "unbiased"}
            K = rdm(kernels, X, f=f, **options)
            message = check_rdm(K, X, f, **options)
            found += [f"({n}, {d}) {normalize}: {message}"] * bool(message)
    fail_with(found)


@ways(*METRICS)
def test_launches_of_single_phases_give_the_same(kernels: ModuleType, f: str) -> None:
    """On devices whose blocks cannot wait for each other."""
    X = features(140, 30)
    for center in CENTERINGS:
        x = engine_features(X, "X", None, False)
        requests = [Request(x, None, Options(f, normalize="zscore", center=center)) for _ in range(2)]
        outs = [r.target() for r in requests]
        for r, out, cooperative in zip(requests, outs, (True, False), strict=True):
            _cuda_backend.launch(kernels, parameters([r], [out], [[0]]), HOST, True, cooperative)
        assert torch.equal(outs[0], outs[1])


@ways(*METRICS)
def test_two_sets(kernels: ModuleType, f: str) -> None:
    found = []
    for n, m, d, dtype in ((20, 33, 50, "float32"), (150, 9, 20, "float32"), (9, 140, 40, "float64")):
        X, Y = features(n, d, dtype), features(m, d, dtype, seed=5) + 0.5
        for normalize in ("none", "zscore", "instance"):
            options = {"normalize": normalize, **layout(d)}
            K = rdm(kernels, X, Y, f=f, **options)
            message = check_rdm(K, X, f, Y=Y, **options)
            found += [f"({n}, {m}, {d}) {normalize}: {message}"] * bool(message)
    fail_with(found)


@ways(*METRICS)
def test_condensed_and_views(kernels: ModuleType, f: str) -> None:
    X = features(37, 41)
    K = rdm(kernels, X, f=f)
    np.testing.assert_array_equal(rdm(kernels, X, f=f, condensed=True), K[np.triu_indices(37, 1)])
    for name, view in views(X).items():
        np.testing.assert_array_equal(rdm(kernels, view, f=f), K, err_msg=name)
    aligned = views(X)["padded rows"]
    of_two = rdm(kernels, X, X[:9], f=f)
    for name, view in views(X[:9]).items():
        np.testing.assert_array_equal(rdm(kernels, aligned, view, f=f), of_two, err_msg=f"two sets, {name}")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_views_of_other_types(kernels: ModuleType, dtype: str) -> None:
    X = features(9, 22, dtype)
    for f in ("laplacian", "pearson"):
        K = rdm(kernels, X, f=f, normalize="zscore")
        for name, view in views(X).items():
            np.testing.assert_array_equal(rdm(kernels, view, f=f, normalize="zscore"), K, err_msg=f"{f} {name}")


@ways(*PRODUCTS)
def test_features_far_from_zero(kernels: ModuleType, f: str) -> None:
    """An offset that all images or all features share costs no places of what is left after a mean is taken away."""
    X = features(20, 30)
    shared_by_images, shared_by_features = X + 1e4 * X[:1].abs(), X + 1e6
    for Z, normalize in (
        (shared_by_images, "center"),
        (shared_by_images, "zscore"),
        (shared_by_features, "center"),
        *([(shared_by_features, "none"), (shared_by_images, "layer")] if f == "pearson" else []),
    ):
        message = check_rdm(rdm(kernels, Z, f=f, normalize=normalize), Z, f, normalize=normalize)
        assert not message, f"{normalize}: {message}"


@both_ways
def test_half_precision_subnormals(kernels: ModuleType) -> None:
    X = (features(12, 40) * 1e-5).half()
    assert (X.abs() < 2.0**-14).float().mean() > 0.9
    for f in ("manhattan", "linear", "cosine"):
        assert not (message := check_rdm(rdm(kernels, X, f=f), X, f)), f"{f}: {message}"


@ways("laplacian", "euclidean", "pearson")
def test_groups_of_channels_that_come_last(kernels: ModuleType, f: str) -> None:
    X, Y = features(11, 42), features(6, 42, seed=3)
    for normalize, groups in (("group", 2), ("group", 3), ("instance", 2)):
        options = {"normalize": normalize, "channels": 6, "channels_last": True, "groups": groups}
        for second in (None, Y):
            message = check_rdm(rdm(kernels, X, second, f=f, **options), X, f, Y=second, **options)
            assert not message, f"{normalize} {groups}: {message}"


@pytest.mark.parametrize("f", ["manhattan", "sqeuclidean"])
def test_close_rows_of_two_sets(kernels: ModuleType, f: str) -> None:
    X, Y = close_sets()
    for x, y in ((X, Y), (Y, X)):
        K = rdm(kernels, x, y, f=f, normalize="zscore")
        assert not (message := check_rdm(K, x, f, Y=y, normalize="zscore")), message


def test_close_rows(kernels: ModuleType) -> None:
    """Duplicate and nearly duplicate rows far from the origin keep their relative accuracy."""
    X = features(40, 130) + 1000
    X[1] = X[0]
    X[2] = X[0]
    X[2, 7] = torch.nextafter(X[2, 7], torch.tensor(2000.0))
    X[3] = X[0] + 1e-3
    for f in ("manhattan", "euclidean", "sqeuclidean", "laplacian", "rbf"):
        for normalize in ("none", "zscore", "layer"):
            K = rdm(kernels, X, f=f, normalize=normalize)
            assert not (message := check_rdm(K, X, f, normalize=normalize)), f"{f} {normalize}: {message}"


@ways(*METRICS)
def test_sums_of_equal_addends(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, f: str) -> None:
    """Constant and binary features: every addition to a sum rounds the same way."""
    blocks(monkeypatch, 1)
    d = 2048
    constant = torch.tensor([0.1, 0.43, 0.77, 1.1, 1.7])[:, None].expand(5, d).contiguous()
    binary = (features(12, d) > 0).float() * 0.99
    for X, normalize in ((constant, "none"), (binary, "none"), (binary, "layer"), (binary, "zscore")):
        if f == "pearson" and X is constant:
            continue
        assert not (message := check_rdm(rdm(kernels, X, f=f, normalize=normalize), X, f, normalize=normalize)), message


@both_ways
def test_several_models_of_one_launch(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of different d, more of them than one launch takes, each with all f of a family."""
    blocks(monkeypatch, 4)
    found = []
    arrays = [features(12, 3 + 5 * i, seed=i) for i in range(35)]
    xs = [engine_features(X, f"model {i}", None, False) for i, X in enumerate(arrays)]
    for fs in (("rbf", "euclidean", "sqeuclidean"), ("laplacian", "manhattan"), ("linear", "cosine")):
        requests = [Request(x, None, Options(f, normalize="zscore", center="unbiased")) for x in xs for f in fs]
        outs = [r.target() for r in requests]
        assert len(kernels.plan(parameters(requests, outs, sums_in_common(requests)))) == 2
        _cuda_backend.fill(kernels, requests, outs, HOST)
        for r, K in zip(requests, outs, strict=True):
            X = arrays[int(r.x.name.split()[1])]
            message = check_rdm(K, X, r.options.f, normalize="zscore", center="unbiased")
            found += [f"{r.x.name} {r.options.f}: {message}"] * bool(message)
    fail_with(found)


@ways("rbf", "pearson")
def test_models_follow_each_other_in_any_order(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, order: str, f: str
) -> None:
    """What a model leaves in shared memory, and in a block's records, is not in the way of the next."""
    blocks(monkeypatch, 2)
    arrays = [features(30, 7 + 20 * i, seed=i) for i in range(3)]
    for normalize in ("none", "zscore", "batch"):
        options = {"f": f, "normalize": normalize, "channels": 1, "center": "double"}
        requests = [Request(engine_features(X, "X", None, False), None, Options(**options)) for X in arrays]
        outs = [r.target() for r in requests]
        _cuda_backend.fill(kernels, requests, outs, HOST)
        for X, K in zip(arrays, outs, strict=True):
            assert not (message := check_rdm(K, X, **options)), f"{normalize}: {message}"


@pytest.mark.parametrize("mode", ["double", "unbiased"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centring_of_a_stack(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, mode: str
) -> None:
    """As many as take two launches, one of them constant."""
    blocks(monkeypatch, 5)
    for count, n in ((35, 5), (2, 140)):
        K = torch.stack([torch.cov(features(n, 7, seed=i)) for i in range(count)]).to(dtype)
        K = (K + K.mT) / 2
        K[1] = 0.1
        centered = K.clone()
        _cuda_backend.center(kernels, centered, dds_ext.CENTERINGS.index(mode))
        expected = np.stack([reference.CENTERINGS[mode](k) for k in K.double().numpy()])
        # the sums are taken in float64, which err by n / 2 units; the entry is rounded once
        unit = 2.0**-24 if dtype == torch.float32 else n * 2.0**-53
        np.testing.assert_allclose(centered.numpy(), expected, rtol=unit, atol=n * 2.0**-53 * float(K.abs().max()))
        assert not centered[1].any()
        assert torch.equal(centered, centered.mT)


@ways("rbf", "pearson")
def test_results_are_reproducible(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, f: str) -> None:
    """Bit for bit, whatever order the blocks finish in."""
    blocks(monkeypatch, 6)
    X = features(60, 200)
    results = []
    for order in ("ascending", "descending", "7"):
        monkeypatch.setenv("DDS_EMULATED_ORDER", order)
        results.append(rdm(kernels, X, f=f, normalize="zscore", center="double"))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.usefixtures("may_take_float64")
@both_ways
def test_what_is_wrong_is_named(kernels: ModuleType) -> None:
    X = features(30, 50)
    for f in METRICS:
        for normalize in ("none", "zscore", "layer"):
            bad = X.clone()
            bad[7, 3], bad[20, 2] = np.nan, np.inf
            with pytest.raises(ValueError, match=r"X has NaN or infinity in rows 7, 20"):
                rdm(kernels, bad, f=f, normalize=normalize)
            rdm(kernels, bad, f=f, normalize=normalize, check_finite=False)
    bad = X[:5].clone()
    bad[4, 49] = np.nan
    with pytest.raises(ValueError, match=r"Y has NaN or infinity in row 4"):
        rdm(kernels, X, bad, f="laplacian")
    constant = X.clone()
    constant[4] = 2
    with pytest.raises(ValueError, match=r"pearson.* row 4 of X"):
        rdm(kernels, constant, f="pearson")
    with pytest.raises(ValueError, match=r"median squared distance of X is 0"):
        rdm(kernels, torch.ones(8, 5), f="rbf")
    with pytest.raises(ValueError, match=r"f='sqeuclidean' exceeds the range of float32 for row 3 of X"):
        rdm(kernels, torch.cat([X[:3], X[3:4] * 1e30, X[4:]]), f="sqeuclidean")


@pytest.mark.usefixtures("may_take_float64")
@both_ways
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_what_float32_cannot_reach_is_computed_in_float64(kernels: ModuleType, scale: float) -> None:
    X = features(20, 30) * scale
    for f in ("cosine", "pearson", "euclidean", "rbf", "laplacian"):
        K = rdm(kernels, X, f=f)
        assert not (message := check_rdm(K, X, f)), f"{f}: {message}"
    K = rdm(kernels, X[:12], X[12:], f="rbf")
    assert not (message := check_rdm(K, X[:12], "rbf", Y=X[12:])), message


def test_variances_beyond_the_range_are_refused(kernels: ModuleType) -> None:
    X = features(8, 16, "float64")
    for normalize, scale in (("zscore", 1e160), ("zscore", 1e-160), ("zscore", 1e-200), ("layer", 1e160)):
        with pytest.raises(ValueError, match=r"f='laplacian' exceeds the range of float64"):
            rdm(kernels, X * scale, f="laplacian", normalize=normalize)
    with pytest.raises(ValueError, match=r"f='pearson' exceeds the range of float64"):
        rdm(kernels, X * 1e-160, f="pearson")
    with pytest.raises(ValueError, match=r"median squared distance of X is 0"):
        rdm(kernels, X * 1e-160, f="rbf")


def test_median_of_even_and_odd_counts_and_ties(kernels: ModuleType) -> None:
    for n in (4, 5, 8, 31):
        for X in (features(n, 6), features(n, 6).round()):
            for double in (False, True):
                Z = X.double() if double else X
                K = rdm(kernels, Z, f="rbf")
                assert not (message := check_rdm(K, Z, "rbf")), f"{n}: {message}"
                np.testing.assert_array_equal(rdm(kernels, Z, f="rbf", condensed=True), K[np.triu_indices(n, 1)])


def test_device_information(kernels: ModuleType) -> None:
    assert kernels.architectures() == "emulated"
    assert kernels.devices() == [("emulation", 0, 0, 1, True)]


@pytest.mark.parametrize(("d", "origin"), [(100_352, 0.0), (1 << 20, 1000.0)])
def test_long_sums_keep_their_places(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, d: int, origin: float
) -> None:
    """One block adds up all features, all addends alike, so that all roundings are too."""
    blocks(monkeypatch, 1)
    X = torch.full((1, d), origin)
    Y = X + 0.43
    exact = float(Y[0, 0].double() - origin) * d
    # 128 addends: each rounding is half of a unit of the sum so far at most, 64 of 2^-24 of the last; what adding the
    # parts rounds away is carried on: two units more in all (Kahan's bound), however many they are
    assert abs(rdm(kernels, X, Y, f="manhattan")[0, 0] - exact) <= 66 * 2.0**-24 * exact


@both_ways
@pytest.mark.parametrize("normalize", ["center", "zscore", "batch"])
def test_correlations_of_rows_that_the_columns_leave_off_centre(kernels: ModuleType, normalize: str) -> None:
    """In float32 while the mean that is left is small, from there on in float64."""
    found = []
    for brightness in (0.1, 1.0, 4.0, 100.0, 10_000.0):
        X = features(20, 64, seed=3)
        X += 1000 + brightness * torch.linspace(-1, 1, 20)[:, None]
        options = {"normalize": normalize, "channels": 4}
        message = check_rdm(rdm(kernels, X, f="pearson", **options), X, "pearson", **options)
        found += [f"{brightness}: {message}"] * bool(message)
    fail_with(found)


def test_requests_of_several_kinds_are_joined_by_kind(kernels: ModuleType) -> None:
    """Whatever order they come in."""
    xs = [engine_features(features(6, d), "X", None, False) for d in (5, 9, 7)]
    requests = [
        Request(x, None, Options(f, normalize=q)) for x in xs for f in ("linear", "rbf") for q in ("none", "center")
    ]
    outs = [r.target() for r in requests]
    assert len(kernels.plan(parameters(requests, outs, [[i] for i in range(len(requests))]))) == 4


# n straddles a block's rows (32), d its columns (128, 64 in float64), m a slab (16) and a fold (1024)
@pytest.mark.parametrize(("n", "m", "d"), [(3, 5, 2), (33, 17, 130), (20, 1030, 3), (65, 15, 257)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signed_sums(kernels: ModuleType, order: str, dtype: str, n: int, m: int, d: int) -> None:
    random = np.random.default_rng(n)
    x, y = (random.integers(-3, 4, (rows, d)).astype(dtype) * 1e-3 for rows in (n, m))  # many ties
    w = random.standard_normal((n, m)).astype(dtype)
    expected = np.einsum("nm,nmd->nd", to64(w), np.sign(to64(x)[:, None] - to64(y)))
    found = _cuda_backend.signed_sums(kernels, *(torch.from_numpy(a) for a in (w, x, y)))
    # m addends round m times at most, each by half a unit of the sum of their sizes; what ties counts for nothing.
    bound = m * np.finfo(dtype).eps / 2 * (np.abs(w) @ np.ones((m, d))) * (expected != 0)
    assert (np.abs(found.numpy() - expected) <= bound).all()


@both_ways
@pytest.mark.parametrize("kind", UNKIND)
def test_products_of_unkind_features(kernels: ModuleType, kind: str) -> None:
    X = unkind(kind, 11, 700)
    for f in PRODUCTS:
        if defined(f, to64(X)):
            assert not (message := check_rdm(rdm(kernels, X, f=f), X, f)), f"{f}: {message}"


@both_ways
def test_long_products_keep_their_places(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal addends, more of them than one float32 sum may take: 4.9e-6 of them at the very worst (docs/cuda.md)."""
    blocks(monkeypatch, 1)
    X = torch.full((1, 40_000), 0.43)
    exact = float(X[0, 0].double()) ** 2 * X.shape[1]
    assert abs(rdm(kernels, X, X, f="linear")[0, 0] - exact) <= 4.9e-6 * exact


@both_ways
def test_rows_of_one_feature(kernels: ModuleType) -> None:
    """It is as long as its row, just below a power of two: as a half it must not become infinite."""
    X = torch.zeros(6, 20)
    X[:, 3] = torch.tensor([1.0, 2.0, 4.0, 0.5, 1e9, 1e-9]) * (1 - 2.0**-23)
    assert not (message := check_rdm(rdm(kernels, X, f="linear"), X, "linear")), message


@ways("linear", "cosine")
def test_small_rows_without_a_check(kernels: ModuleType, f: str) -> None:
    """Nothing is computed again in float64; products with rows of a usual size are floats all the same."""
    X, Y = features(6, 40) * 1e-36, features(5, 40)
    K = rdm(kernels, X, Y, f=f, check_finite=False)
    assert not (message := check_rdm(K, X, f, Y=Y)), message


def test_which_products_tensor_cores_form(compiled: ModuleType) -> None:
    """Those of float32 features, where they are worth it or one asks for it."""
    X = features(20, 30)
    for f in METRICS:
        for x in (X, X.half(), X.double()):
            request = Request(engine_features(x, "X", None, False), None, Options(f))
            params = parameters([request], [request.target()], [[0]])
            for asked, expected in ((True, f in PRODUCTS and x.dtype != torch.float64), (False, False)):
                (plan,) = compiled.plan(params, tensor_cores=asked)
                assert plan.tensor_cores == expected
            (plan,) = compiled.plan(params)
            assert not plan.tensor_cores  # 190 pairs of 30 features
