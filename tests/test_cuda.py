"""The CUDA backend on a GPU, against the float64 reference and against the CPU engine."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    CENTERINGS,
    METRICS,
    NORMALIZATIONS,
    PRODUCTS,
    UNKIND,
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
from dds_ext._compute import compute
from dds_ext._requests import Options, Request, parameters

CUDA = dds_ext.info()["cuda"]
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and CUDA and CUDA.get("devices")),
    reason="needs a GPU, a CUDA build of torch and dds_ext's CUDA part",
)

# n straddles a thread's images (8, and 4 in float64), a group's (128, 64, 248), and d a slab's features (16)
SIZES = ((4, 3), (33, 65), (128, 16), (129, 57), (20, 4097), (248, 20), (249, 33))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("f", METRICS)
def test_every_f_normalisation_and_centring(f: str, dtype: str) -> None:
    found = []
    for n, d in SIZES:
        X = features(n, d, dtype)
        options = layout(d)
        for normalize in NORMALIZATIONS:
            Z, _ = reference.normalize(to64(X), normalize, **options)
            if f == "rbf" and not np.median(reference.METRICS["sqeuclidean"](Z, Z, None)) > 0:
                continue
            if f == "pearson" and not (Z.std(axis=1) > 1e-6 * np.abs(Z).max(axis=1)).all():
                continue
            for center in CENTERINGS:
                K = dds_ext.rdm(X.cuda(), f, normalize=normalize, center=center, **options)
                assert K.device.type == "cuda"
                message = check_rdm(K.cpu().numpy(), X, f, normalize=normalize, center=center, **options)
                found += [f"({n}, {d}) {normalize} {center}: {message}"] * bool(message)
    fail_with(found)


@pytest.mark.parametrize("f", METRICS)
def test_two_sets_condensed_and_out(f: str) -> None:
    X, Y = features(150, 300), features(40, 300, seed=3)
    assert not (message := check_rdm(dds_ext.rdm(X.cuda(), f, Y=Y.cuda()).cpu().numpy(), X, f, Y=Y)), message
    K = dds_ext.rdm(X.cuda(), f)
    i, j = torch.triu_indices(150, 150, 1)
    assert torch.equal(dds_ext.rdm(X.cuda(), f, condensed=True), K[i, j])
    out = torch.empty_like(K)
    assert dds_ext.rdm(X.cuda(), f, out=out) is out
    assert torch.equal(out, K)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_views(dtype: str) -> None:
    """Strided, misaligned and with something between the rows: the same sums, and the same bits."""
    for n, d in ((37, 41), (260, 62)):
        X = features(n, d, dtype).cuda()
        for f in METRICS:
            K = dds_ext.rdm(X, f, normalize="zscore")
            for name, view in views(X).items():
                assert torch.equal(dds_ext.rdm(view, f, normalize="zscore"), K), f"{f} {name}"


@pytest.mark.parametrize("f", METRICS)
def test_launches_of_single_phases_give_the_same(f: str) -> None:
    """On devices whose blocks cannot wait for each other."""
    for n, d in ((140, 30), (300, 5000)):
        X = features(n, d).cuda()
        for center in CENTERINGS:
            x = engine_features(X, "X", None, False)
            requests = [Request(x, None, Options(f, normalize="zscore", center=center)) for _ in range(2)]
            outs = [r.target() for r in requests]
            for r, out, cooperative in zip(requests, outs, (True, False), strict=True):
                kernels = _cuda_backend.module()
                _cuda_backend.launch(kernels, parameters([r], [out], [[0]]), X.device, True, cooperative)
            assert torch.equal(outs[0], outs[1]), f"({n}, {d}) {center}"


@pytest.mark.parametrize("normalize", ["zscore", "layer"])
def test_more_models_than_a_launch_takes(normalize: str) -> None:
    models = [features(40, 3 + 50 * i, seed=i) for i in range(70)]
    xs = [engine_features(X.cuda(), f"model {i}", None, False) for i, X in enumerate(models)]
    options = Options("laplacian", normalize=normalize, center="unbiased")
    for X, K in zip(models, compute([Request(x, None, options) for x in xs]), strict=True):
        message = check_rdm(K.cpu().numpy(), X, "laplacian", normalize=normalize, center="unbiased")
        assert not message, f"{X.shape}: {message}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_median_gamma_between_two_sets(dtype: str) -> None:
    """It is that of X alone."""
    for n, m in ((33, 150), (250, 20)):
        X, Y = features(n, 70, dtype), features(m, 70, dtype, seed=4) + 0.5
        for normalize in ("none", "zscore"):
            K = dds_ext.rdm(X.cuda(), "rbf", Y=Y.cuda(), normalize=normalize).cpu().numpy()
            assert not (message := check_rdm(K, X, "rbf", Y=Y, normalize=normalize)), f"{normalize}: {message}"


@pytest.mark.parametrize("f", ["manhattan", "sqeuclidean"])
def test_close_rows_of_two_sets(f: str) -> None:
    X, Y = close_sets()
    for x, y in ((X, Y), (Y, X)):
        K = dds_ext.rdm(x.cuda(), f, Y=y.cuda(), normalize="zscore").cpu().numpy()
        assert not (message := check_rdm(K, x, f, Y=y, normalize="zscore")), message


@pytest.mark.parametrize("f", ["linear", "cosine", "pearson"])
def test_features_far_from_zero_and_close_to_it(f: str) -> None:
    X = features(20, 30)
    far, subnormal = X + 1e4 * X[:1].abs(), (X * 1e-5).half()
    for Z, normalize in ((far, "center"), (far, "zscore"), (subnormal, "none"), (subnormal, "zscore")):
        K = dds_ext.rdm(Z.cuda(), f, normalize=normalize).cpu().numpy()
        assert not (message := check_rdm(K, Z, f, normalize=normalize)), f"{normalize}: {message}"


@pytest.mark.parametrize("f", METRICS)
def test_groups_of_channels_that_come_last(f: str) -> None:
    X, Y = features(140, 42), features(6, 42, seed=3)
    for normalize, groups in (("group", 2), ("group", 3), ("instance", 2), ("batch", 2)):
        options = {"normalize": normalize, "channels": 6, "channels_last": True, "groups": groups}
        for second in (None, Y):
            K = dds_ext.rdm(X.cuda(), f, Y=None if second is None else second.cuda(), **options).cpu().numpy()
            message = check_rdm(K, X, f, Y=second, **options)
            assert not message, f"{normalize} {groups}: {message}"


@pytest.fixture
def tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They form all products that they can, however small, and what they form is not computed again in float64."""
    kernels = _cuda_backend.module()
    formed = kernels.report

    def report(*arguments: Any) -> Any:
        statuses, in_float64 = formed(*arguments)
        assert not any(in_float64), "the result is to be computed again in float64"
        return statuses, in_float64

    monkeypatch.setattr(kernels, "plan", partial(kernels.plan, tensor_cores=True))
    monkeypatch.setattr(kernels, "report", report)


@pytest.mark.usefixtures("tensor_cores")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("f", PRODUCTS)
def test_products_by_tensor_cores(f: str, dtype: str) -> None:
    found = []
    for n, d in (*SIZES, (300, 5000)):
        X, Y = features(n, d, dtype), features(40, d, dtype, seed=3)
        options = layout(d)
        for normalize in NORMALIZATIONS:
            Z, _ = reference.normalize(to64(X), normalize, **options)
            if f == "pearson" and not (Z.std(axis=1) > 1e-6 * np.abs(Z).max(axis=1)).all():
                continue
            K = dds_ext.rdm(X.cuda(), f, normalize=normalize, center="unbiased", **options)
            message = check_rdm(K.cpu().numpy(), X, f, normalize=normalize, center="unbiased", **options)
            found += [f"({n}, {d}) {normalize}: {message}"] * bool(message)
        K = dds_ext.rdm(X.cuda(), f, Y=Y.cuda()) if d > 3 else None
        message = "" if K is None else check_rdm(K.cpu().numpy(), X, f, Y=Y)
        found += [f"({n}, {d}) two sets: {message}"] * bool(message)
    X = features(260, 62, dtype).cuda()
    K = dds_ext.rdm(X, f)
    i, j = torch.triu_indices(260, 260, 1)
    assert torch.equal(dds_ext.rdm(X, f, condensed=True), K[i, j])
    for name, view in views(X).items():
        assert torch.equal(dds_ext.rdm(view, f), K), name
    fail_with(found)


@pytest.mark.usefixtures("tensor_cores")
@pytest.mark.parametrize("kind", UNKIND)
@pytest.mark.parametrize("f", PRODUCTS)
def test_halves_keep_the_places_of_float32(f: str, kind: str) -> None:
    X = unkind(kind, 150, 5000)
    if f == "pearson":
        X = X[X.any(1)]  # a row of zeros has no correlation
    assert not (message := check_rdm(dds_ext.rdm(X.cuda(), f).cpu().numpy(), X, f)), message


def test_large_products() -> None:
    """As the device decides: 1.2e9 pair-elements."""
    X = features(1100, 2048)
    for f in PRODUCTS:
        assert not (message := check_rdm(dds_ext.rdm(X.cuda(), f).cpu().numpy(), X, f)), f"{f}: {message}"


def test_the_callers_stream_is_used() -> None:
    """The result is ready for what the same stream does next, without a synchronisation of the device."""
    X = features(200, 20000)
    expected = dds_ext.rdm(X.cuda(), normalize="zscore").cpu()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        on_device = torch.empty(X.shape, device="cuda")
        torch.cuda._sleep(50_000_000)  # features that are not there yet where another stream would read them
        on_device.copy_(X, non_blocking=True)
        K = dds_ext.rdm(on_device, normalize="zscore", check_finite=False)
        K = K * 2
    stream.synchronize()
    assert torch.equal(K.cpu(), expected * 2)


def test_capture_in_a_graph() -> None:
    X = features(100, 500).cuda()
    for f in ("laplacian", "pearson", "rbf"):
        out = torch.zeros(100, 100, device="cuda")
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            dds_ext.rdm(X, f, center="unbiased", check_finite=False, out=out)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            dds_ext.rdm(X, f, center="unbiased", check_finite=False, out=out)
        other = features(100, 500, seed=9)
        X.copy_(other)
        graph.replay()
        torch.cuda.synchronize()
        assert not (message := check_rdm(out.cpu().numpy(), other, f, center="unbiased")), f"{f}: {message}"


def test_reproducible_bit_for_bit() -> None:
    X = features(200, 30000).cuda()
    first = dds_ext.rdm(X, normalize="zscore", center="unbiased")
    for _ in range(5):
        assert torch.equal(dds_ext.rdm(X, normalize="zscore", center="unbiased"), first)


def test_what_is_wrong_is_named() -> None:
    X = features(60, 300)
    X[[7, 50], [3, 299]] = torch.tensor([float("nan"), float("inf")])
    for f in METRICS:
        with pytest.raises(ValueError, match="X has NaN or infinity in rows 7, 50"):
            dds_ext.rdm(X.cuda(), f)
    with pytest.raises(ValueError, match="must be on the same"):
        dds_ext.rdm(features(5, 3).cuda(), Y=features(5, 3))
    with pytest.raises(ValueError, match="exceeds the range of float32 for row 3"):
        dds_ext.rdm(torch.cat([torch.ones(3, 4), torch.full((1, 4), 1e30), torch.zeros(4, 4)]).cuda(), "sqeuclidean")


def test_scores_are_those_of_the_cpu() -> None:
    models = {f"m{i}": features(80, 50 + 30 * i, seed=i) for i in range(4)}
    on_gpu = {name: X.cuda() for name, X in models.items()}
    for measure in dds_ext.MEASURES.values():
        np.testing.assert_allclose(
            dds_ext.affinity(on_gpu, **measure), dds_ext.affinity(models, **measure), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("g", dds_ext.COMPARISONS)
def test_comparison_and_centring_stay_on_the_device(g: str) -> None:
    models = {f"m{i}": features(60, 40 + 30 * i, seed=i) for i in range(3)}
    stack = torch.stack([dds_ext.rdm(X, "euclidean") for X in models.values()])
    stack[0] = stack[0].round()  # ties
    scores = dds_ext.compare(stack.cuda(), stack[:2].cuda(), g)
    assert scores.device.type == "cuda"
    # float64 sums of 1,770 or 3,600 terms in another order
    np.testing.assert_allclose(scores.cpu().numpy(), dds_ext.compare(stack, stack[:2], g).numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        dds_ext.affinity({k: X.cuda() for k, X in models.items()}, g=g), dds_ext.affinity(models, g=g), atol=1e-5
    )
    for mode in CENTERINGS:
        K = dds_ext.center(stack[1].cuda(), mode)
        assert K.device.type == "cuda"
        np.testing.assert_allclose(K.cpu().numpy(), dds_ext.center(stack[1], mode).numpy(), rtol=1e-6, atol=1e-5)
    with pytest.raises(ValueError, match="NaN or infinity"):
        dds_ext.compare(stack.cuda() * float("nan"), stack.cuda(), g)
    with pytest.raises(ValueError, match="same device"):
        dds_ext.compare(stack.cuda(), stack, g)


@pytest.mark.parametrize("normalize", ["none", "zscore", "layer"])
@pytest.mark.parametrize("f", METRICS)
def test_gradients_are_those_of_the_cpu(f: str, normalize: str) -> None:
    X, Y = (torch.from_numpy(to64(features(n, 150, seed=n))) for n in (70, 40))
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((70, 70)))
    found = []
    for device in ("cpu", "cuda"):
        x, y = (z.to(device).requires_grad_() for z in (X, Y))
        loss = (dds_ext.rdm(x, f, normalize=normalize, center="unbiased") * weights.to(device)).sum()
        loss = loss + (dds_ext.rdm(x, f, Y=y, normalize=normalize) * weights[:, :40].to(device)).sum()
        loss.backward()
        found.append([z.grad.cpu() for z in (x, y)])
    for of_cpu, of_cuda in zip(*found, strict=True):
        # float64 throughout; sums of some hundred terms, in other orders
        torch.testing.assert_close(of_cuda, of_cpu, rtol=1e-9, atol=1e-11 * float(of_cpu.abs().max()))


def test_grid_is_that_of_the_cpu() -> None:
    models = [features(30, 24, seed=i) for i in range(3)]
    expected = dds_ext.grid(models, center=["double", "unbiased"], g=["cosine", "spearman"], channels=4)
    found = dds_ext.grid(
        [X.cuda() for X in models], center=["double", "unbiased"], g=["cosine", "spearman"], channels=4
    )
    for key, scores in expected.items():
        # a rank moves where two entries agree to float32's rounding
        np.testing.assert_allclose(found[key], scores, atol=1e-5 if "cosine" in key else 0.02, err_msg=str(key))


@pytest.mark.parametrize("shape", [(50_000, 3), (3, 1 << 30)])
def test_beyond_2_to_the_31_elements(shape: tuple[int, int]) -> None:
    n, d = shape
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GiB of GPU memory")
    X = torch.rand(n, d, device="cuda")
    K = dds_ext.rdm(X, "manhattan")
    rows = [0, n // 2, n - 1]
    for i in rows:
        exact = (X[i].double() - X[rows[0]].double()).abs().sum()
        torch.testing.assert_close(K[i, rows[0]].double(), exact, rtol=1e-5, atol=0)
        assert torch.equal(K[i, rows], K[rows, i])
