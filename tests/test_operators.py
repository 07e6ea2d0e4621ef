"""torch.ops.dds_ext.*: gradients against finite differences and float64, and what PyTorch asks of an operator."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import CENTERINGS, DTYPES, METRICS, NORMALIZATIONS, Array, features
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import dds_ext
from dds_ext import _cpu, _gradients

OPS = torch.ops.dds_ext
SMOOTH = ("cosine", "pearson")
# d = 12 as 4 channels of 3 positions, in 2 groups
LAYOUT = {"channels": 4, "groups": 2}


def wide(n: int, d: int = 12, seed: int = 0) -> Tensor:
    return features(n, d, "float64", seed).requires_grad_()


def given_gamma(f: str) -> dict[str, float]:
    """A gamma for rbf, whose default one is a constant to the gradient and not to finite differences."""
    return {"gamma": 0.05} if f == "rbf" else {}


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, seed: int = 1) -> Tensor:
    """By x, of the inner product with random numbers."""
    x = x.detach().requires_grad_()
    out = function(x)
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    (grad,) = torch.autograd.grad(out, x, weights.to(out.dtype))
    return grad


# ---------------------------------------------------------------------------------------------------------------------
# The kernel of the L1 gradient.


def signed_sums(x: Tensor, y: Tensor, w: Tensor, threads: int, isa: str) -> Tensor:
    out = torch.empty_like(x)
    (n, d), m, dtype = x.shape, len(y), 3 if x.dtype == torch.float64 else 2
    _cpu.signed_sums(x.data_ptr(), n, y.data_ptr(), m, d, w.data_ptr(), dtype, out.data_ptr(), threads, isa)
    return out


@functools.cache
def signed_sum_cases(dtype: str) -> list[tuple[Tensor, Tensor, Tensor, Array, Array]]:
    """x, y, w, the sums written out, and how far off they may be: sizes straddle vectors, register tiles, 48 columns
    and blocks of 256 rows."""
    random = np.random.default_rng(0)
    cases = []
    for n, m, d in ((1, 1, 1), (2, 3, 4), (5, 7, 17), (50, 61, 49), (3, 257, 96), (65, 300, 130)):
        # quarters: differences are exact, and a quarter of them are ties
        x, y = (random.integers(-2, 2, (rows, d)).astype(dtype) / 4 for rows in (n, m))
        w = random.normal(size=(n, m)).astype(dtype)
        exact = np.stack([w[i].astype(np.float64) @ np.sign(x[i] - y).astype(np.float64) for i in range(n)])
        # m additions of numbers of which none exceeds the sum of the weights' sizes
        bound = m * np.finfo(dtype).eps * np.abs(w).sum(axis=1, keepdims=True)
        cases.append((*map(torch.from_numpy, (x, y, w)), exact, bound))
    return cases


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signed_sums(dtype: str, isa: str) -> None:
    for x, y, w, exact, bound in signed_sum_cases(dtype):
        found = signed_sums(x, y, w, 1, isa)
        assert bool((np.abs(found.double().numpy() - exact) <= bound).all()), (x.shape, y.shape)
        assert torch.equal(found, signed_sums(x, y, w, 3, isa))


# ---------------------------------------------------------------------------------------------------------------------
# Gradients against finite differences, in float64.


def test_every_metric_has_its_derivative() -> None:
    assert set(_gradients.WEIGHTS) == set(dds_ext.METRICS)


def gradcheck(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    """In random directions, of input and output."""
    return torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("f", METRICS)
def test_gradcheck(f: str) -> None:
    options: dict[str, Any] = {"f": f, **given_gamma(f), **LAYOUT}
    assert torch.autograd.gradcheck(lambda x: dds_ext.rdm(x, **options), wide(5))  # every derivative
    for normalize in NORMALIZATIONS:
        for channels_last in (False, True) if normalize in ("batch", "instance", "group") else (False,):
            how = {**options, "normalize": normalize, "channels_last": channels_last}
            assert gradcheck(lambda x, how=how: dds_ext.rdm(x, **how), wide(4)), how
        if normalize in ("none", "zscore", "batch", "layer"):  # statistics of nothing, of X's images, of each image
            how = {**options, "normalize": normalize}
            assert gradcheck(lambda x, y, how=how: dds_ext.rdm(x, Y=y, **how), wide(4), wide(3)), how
    for center in CENTERINGS:
        assert gradcheck(lambda x, center=center: dds_ext.rdm(x, center=center, **options), wide(5))
    assert gradcheck(lambda x: dds_ext.rdm(x, condensed=True, **options), wide(4))


def test_gradcheck_of_the_rest() -> None:
    K1, K2 = (
        (x + x.mT).detach().requires_grad_()
        for x in (
            torch.randn(2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for _ in range(2)
        )
    )
    for mode in CENTERINGS:
        assert gradcheck(lambda k, mode=mode: OPS.center(k, mode, False), K1)
    for g in SMOOTH:
        assert gradcheck(lambda a, b, g=g: OPS.compare(a, b, g), K1, K2[:1].detach().requires_grad_())
    for method in NORMALIZATIONS:
        x = torch.stack([wide(4), wide(4, seed=1)]).detach().requires_grad_()
        assert gradcheck(lambda x, method=method: OPS.normalize(x, method, 4), x)
    assert gradcheck(lambda x, y: dds_ext.dds(x, y), wide(5), wide(5, 7, 1))
    assert gradcheck(lambda x, y: dds_ext.cka(x, y, unbiased=True), wide(5), wide(5, 7, 1))


def test_second_derivatives_of_the_rest() -> None:
    """Of normalisation, with a constant feature, of centring and of comparison; those of pairwise are refused."""
    x = wide(4).detach().clone()
    x[:, 3] = 1.5
    K = dds_ext.rdm(wide(4)).detach()[None].requires_grad_()

    def seconds(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(function(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    assert bool(torch.isfinite(seconds(lambda x: OPS.normalize(x, "zscore"), x.requires_grad_())).all())
    for g in SMOOTH:
        L = dds_ext.rdm(wide(4, seed=1)).detach()[None]
        assert torch.autograd.gradgradcheck(lambda K, g=g, L=L: OPS.compare(K, L, g), K, fast_mode=True)


def test_a_median_gamma_is_a_constant() -> None:
    x = features(9, 12, "float64")
    _, D = dds_ext.rdm(x, "rbf"), dds_ext.rdm(x, "sqeuclidean")
    gamma = 2 / D.flatten().quantile(0.5).item()
    found = gradient(lambda x: dds_ext.rdm(x, "rbf"), x)
    torch.testing.assert_close(found, gradient(lambda x: dds_ext.rdm(x, "rbf", gamma=gamma), x))
    y = features(5, 12, "float64", 1)
    found = gradient(lambda x: dds_ext.rdm(x, "rbf", Y=y), x)
    torch.testing.assert_close(found, gradient(lambda x: dds_ext.rdm(x, "rbf", Y=y, gamma=gamma), x))


@pytest.mark.parametrize("f", ("laplacian", "manhattan", "euclidean"))
def test_ties_have_the_subgradient_zero(f: str) -> None:
    """Equal images and equal features pull in no direction: what is left is the sum over the others."""
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    dds_ext.rdm(x, f, gamma=1.0 if f == "laplacian" else None).sum().backward()
    # K_02 and K_12, twice each, decay or grow with the second feature's difference of 2
    slope = -torch.exp(torch.tensor(-2.0, dtype=torch.float64)).item() if f == "laplacian" else 1.0
    expected = torch.tensor([[0.0, -2 * slope], [0.0, -2 * slope], [0.0, 4 * slope]], dtype=torch.float64)
    torch.testing.assert_close(x.grad, expected)


def test_degenerate_features_have_finite_gradients() -> None:
    """A constant feature under zscore, a zero image under cosine, and two equal images under euclidean."""
    x = features(6, 12, "float64")
    x[2], x[4], x[:, 3] = 0.0, x[5], 1.5
    assert bool((gradient(lambda x: dds_ext.rdm(x, normalize="zscore"), x)[:, 3] == 0).all())
    x[2] = 0.0
    assert bool((gradient(lambda x: dds_ext.rdm(x, "cosine"), x)[2] == 0).all())
    assert bool(torch.isfinite(gradient(lambda x: dds_ext.rdm(x, "euclidean"), x)).all())


# ---------------------------------------------------------------------------------------------------------------------
# float32 and half precision.


@pytest.mark.parametrize("f", METRICS)
def test_float32_gradients(f: str) -> None:
    """Direction and bias, against float64 on the same input.

    A weight is off by K's relative error, at most 2e-6 / exp(-3) here, and the sums of n = 40 and the statistics add
    a few 1e-7: 1e-4 of the length leaves room for the cancellation of a sum's terms. Errors that favour no direction
    average out over the n d = 2600 entries along the gradient: a tenth of that is let through.
    """
    for normalize in NORMALIZATIONS:
        for n, d, offset in ((40, 65, 0.0), (40, 65, 30.0)):
            x = features(n, d) + offset

            def function(x: Tensor, normalize: str = normalize) -> Tensor:
                return dds_ext.rdm(x, f, normalize=normalize, channels=13, groups=13)

            exact, found = gradient(function, x.double()), gradient(function, x)
            assert found.dtype == torch.float32
            error = found.double() - exact
            length = exact.norm()
            assert error.norm() <= 1e-4 * length, (normalize, offset, (error.norm() / length).item())
            bias = (error * exact).sum().abs() / length**2
            assert bias <= 1e-5, (normalize, offset, bias.item())


@pytest.mark.parametrize("scale", (1e-25, 1e25))
def test_float32_gradients_far_from_1(scale: float) -> None:
    """Where squares and inverse variances leave float32's range; bounds as above."""
    x = features(9, 12) * scale
    for f, normalize in (("cosine", "none"), ("pearson", "none"), ("rbf", "none"), *((f, "zscore") for f in METRICS)):

        def function(x: Tensor, f: str = f, normalize: str = normalize) -> Tensor:
            return dds_ext.rdm(x, f, normalize=normalize)

        exact, found = gradient(function, x.double()), gradient(function, x)
        assert (found.double() - exact).norm() <= 1e-4 * exact.norm(), (f, normalize)
    z = OPS.normalize(x.double(), "zscore")
    torch.testing.assert_close(OPS.normalize(x, "zscore").double(), z, rtol=0, atol=1e-5)


def test_a_dead_class_has_finite_gradients() -> None:
    logits, targets = 3 * torch.randn(32, 20, generator=torch.Generator().manual_seed(0)), features(32, 10)
    logits[:, 7] -= 70
    assert bool(torch.isfinite(gradient(lambda x: dds_ext.dds(x.softmax(1), targets), logits)).all())


@pytest.mark.parametrize("g", SMOOTH)
def test_gradients_of_comparisons_far_from_1(g: str) -> None:
    """A score does not see the scale, so that its gradient has the inverse one; to rounding, of entries near 1."""
    K, L = (dds_ext.rdm(features(5, 12, "float64", seed))[None] for seed in range(2))
    expected = gradient(lambda K: OPS.compare(K, L, g), K)
    for scale in (1e-200, 1e160, 1e200):
        found = gradient(lambda K, by=scale: OPS.compare(K, L * by, g), K * scale)
        torch.testing.assert_close(found * scale, expected, rtol=1e-12, atol=1e-14)


def test_autocast_leaves_the_gradient_alone() -> None:
    x = features(9, 12)
    for f in ("linear", "cosine", "pearson"):
        expected = gradient(lambda x, f=f: dds_ext.rdm(x, f), x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(gradient(lambda x, f=f: dds_ext.rdm(x, f), x), expected)


def test_only_the_gradients_that_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(6, 12), features(4, 12, seed=1)
    rows: list[int] = []
    by_rows = _gradients._of_absolute
    monkeypatch.setattr(_gradients, "_of_absolute", lambda w, x, *more: rows.append(len(x)) or by_rows(w, x, *more))
    for normalize, sums in (("none", ([6], [4])), ("zscore", ([6, 4], [4])), ("layer", ([6], [4]))):
        both = [z.clone().requires_grad_() for z in (x, y)]
        dds_ext.rdm(both[0], Y=both[1], normalize=normalize).square().sum().backward()
        for i, wanted in enumerate(sums):
            one = [x.clone(), y.clone()]
            one[i].requires_grad_()
            rows.clear()
            dds_ext.rdm(one[0], Y=one[1], normalize=normalize).square().sum().backward()
            assert rows == wanted and one[1 - i].grad is None
            assert torch.equal(one[i].grad, both[i].grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_half_precision_goes_through_float32(dtype: str) -> None:
    x = features(7, 12, dtype)
    for f in ("laplacian", "rbf", "cosine"):
        found = gradient(lambda x, f=f: dds_ext.rdm(x, f, normalize="zscore"), x)
        assert found.dtype == x.dtype
        exact = gradient(lambda x, f=f: dds_ext.rdm(x, f, normalize="zscore"), x.float())
        assert torch.equal(found, exact.to(x.dtype))


def test_l1_gradients_do_not_depend_on_threads(threads: list[int]) -> None:
    x = features(70, 130)
    found = []
    for count in threads:
        torch.set_num_threads(count)
        found.append(gradient(lambda x: dds_ext.rdm(x, "laplacian"), x))
    assert all(torch.equal(g, found[0]) for g in found)


# ---------------------------------------------------------------------------------------------------------------------
# The public functions.


def test_values_are_those_without_gradients() -> None:
    x, y = features(8, 12), features(8, 9, seed=1)
    p = x.clone().requires_grad_()
    for options in ({"f": "rbf", "normalize": "batch", "channels": 4}, {"center": "unbiased"}, {"condensed": True}):
        assert torch.equal(dds_ext.rdm(p, **options).detach(), dds_ext.rdm(x, **options))  # type: ignore[arg-type]
    K = dds_ext.rdm(p)
    assert torch.equal(dds_ext.center(K, "double").detach(), dds_ext.center(K.detach(), "double"))
    for function in (dds_ext.dds, dds_ext.cka, lambda x, y: dds_ext.rsa(x, y, g="pearson")):
        score = function(p, y)
        assert isinstance(score, Tensor) and score.requires_grad and score.dtype == torch.float64
        torch.testing.assert_close(score.detach(), function(x, y), rtol=0, atol=1e-12)
    images = torch.randn(5, 4, 3, 3, requires_grad=True)
    dds_ext.laplacian_rdm(images, normalize="batch").sum().backward()
    assert images.grad is not None and images.grad.shape == images.shape
    scores = dds_ext.compare(dds_ext.rdm(p)[None], dds_ext.rdm(y)[None], "cosine")
    assert scores.shape == (1, 1) and scores.requires_grad


@pytest.mark.parametrize("function", [dds_ext.dds, dds_ext.rsa, dds_ext.cka])
def test_scores_of_tensors_are_tensors(function: Any) -> None:
    """With gradients or without, so that a loop that trains and one that validates are the same."""
    x, y = features(8, 12), features(8, 9, seed=1)
    expected = function(x.numpy(), y.numpy())
    assert type(expected) is float
    with torch.no_grad():
        found = [function(x.clone().requires_grad_(), y)]
    with torch.inference_mode():
        found.append(function(x, y))
    K, L = dds_ext.rdm(x), dds_ext.rdm(y)
    for score in [*found, function(x, y)]:
        assert score.shape == () and score.dtype == torch.float64 and not score.requires_grad
        assert score.item() == expected
    assert isinstance(dds_ext.compare(K, L), Tensor) and type(dds_ext.compare(K.numpy(), L.numpy())) is float
    for a, b in ((x, y.numpy()), (x.numpy(), y)):
        assert isinstance(function(a, b), Tensor)
    for a, b in ((K, L.numpy()), (K.numpy(), L)):
        assert isinstance(dds_ext.compare(a, b), Tensor)


def test_a_loss_under_reentrant_checkpointing() -> None:
    x, y = features(8, 12).requires_grad_(), features(8, 9, seed=1)
    (expected,) = torch.autograd.grad(1 - dds_ext.dds(x.tanh(), y), x)
    checkpoint(lambda x: 1 - dds_ext.dds(x.tanh(), y), x, use_reentrant=True).backward()
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("g", dds_ext.COMPARISONS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.float64])
def test_scores_that_are_not_defined_are_nan_where_nobody_checks(g: str, kind: Any) -> None:
    good = dds_ext.rdm(features(6, 5)).numpy()
    flat, hole = np.zeros((6, 6)), good.copy()
    hole[2, 3] = np.inf
    stack: Any = np.stack([good, flat, hole, good.T + 1])
    stack = stack.astype(kind) if isinstance(kind, type) else torch.from_numpy(stack).to(kind)
    expected = np.full((4, 4), np.nan)
    kept = np.ix_([0, 3], [0, 3])
    expected[kept] = dds_ext.compare(stack[[0, 3]], stack[[0, 3]], g)
    np.testing.assert_array_equal(dds_ext.compare(stack, stack, g, check_finite=False), expected)
    assert math.isnan(dds_ext.compare(stack[1], stack[0], g, check_finite=False))
    if isinstance(stack, Tensor):
        np.testing.assert_array_equal(OPS.compare(stack, stack, g, False), expected)


@pytest.mark.parametrize("fault", ["overflowed", "collapsed"])
def test_a_loss_without_checks_is_nan_and_so_are_its_gradients(fault: str) -> None:
    """What a gradient scaler looks for, to skip the step."""
    x, y = features(8, 12), features(8, 9, seed=1)
    x = torch.full_like(x, 3.0) if fault == "collapsed" else torch.where(x > x.max() - 0.1, math.inf, x)
    rbf = functools.partial(dds_ext.cka, kernel="rbf")
    for function in (dds_ext.dds, dds_ext.cka, *([rbf] if fault == "overflowed" else [])):
        z = x.clone().requires_grad_()
        with pytest.raises(ValueError, match=r"norm|infinity"):
            function(z, y)
        score = function(z, y, check_finite=False)
        score.backward()
        assert score.isnan() and z.grad is not None and not z.grad.isfinite().any()


def test_rbf_at_the_upper_end_of_float32() -> None:
    """Weighted sums of squares leave it before gamma, which is as small as they are large, brings them back."""
    x = (features(300, 4).abs() + 1) * 3e36
    weights = torch.rand(300, 300, generator=torch.Generator().manual_seed(0))
    found, exact = (
        torch.autograd.grad((dds_ext.rdm(z, "rbf") * weights).sum(), z)[0]
        for z in (x.requires_grad_(), x.detach().double().requires_grad_())
    )
    assert (found.double() - exact).norm() <= 1e-4 * exact.norm()


def test_a_second_set_may_be_the_one_that_requires_grad() -> None:
    x, y = features(6, 12).numpy(), features(4, 12, seed=1).requires_grad_()
    dds_ext.rdm(torch.from_numpy(x), Y=y).sum().backward()
    assert y.grad is not None and bool((y.grad != 0).any())


def test_what_is_refused() -> None:
    x, y = features(6, 12).requires_grad_(), features(6, 9, seed=1)
    for g in ("spearman", "kendall"):
        with pytest.raises(ValueError, match=rf"g='{g}' has no gradient: choose from cosine, pearson"):
            dds_ext.similarity(x, y, g=g)
    with pytest.raises(TypeError, match=r"out= does not go with gradients"):
        dds_ext.rdm(x, out=torch.empty(6, 6))
    with pytest.raises(TypeError, match=r"requires grad, and this function gives no gradients: pass .*detach\(\)"):
        dds_ext.affinity([x, y])
    with pytest.raises(TypeError, match=r"requires grad, and this function gives no gradients"):
        dds_ext.minibatch_cka([x], [y])
    with pytest.raises(ValueError, match=r"center='double' is for the matrix of one set"):
        dds_ext.rdm(x, Y=x, center="double")
    with pytest.raises(TypeError, match=r"unknown option 'gama'"):
        dds_ext.dds(x, y, gama=1.0)
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 2"):
        dds_ext.dds(torch.where(torch.arange(6)[:, None] == 2, torch.nan, x), y)
    with pytest.raises(ValueError, match=r"K is not symmetric"):
        dds_ext.center(torch.arange(16.0).reshape(4, 4).requires_grad_(), "double")
    loss = dds_ext.rdm(x).sum()
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"second derivative"):
        grad.sum().backward()


# ---------------------------------------------------------------------------------------------------------------------
# What PyTorch asks of an operator.


def test_opcheck() -> None:
    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), requires_grad=True)

    K = dds_ext.rdm(features(5, 12))
    for operator, args in (
        (OPS.pairwise, (leaf(6, 12),)),
        (OPS.pairwise, (leaf(2, 6, 12), leaf(2, 5, 12), "rbf", None, "group", 4)),
        (
            OPS.pairwise_backward,
            (K, K, leaf(5, 12).detach(), None, "euclidean", None, "zscore", None, False, 2, True, True),
        ),
        (OPS.normalize, (leaf(6, 12), "batch", 4)),
        (OPS.normalize, (leaf(12, 6).detach().mT, "zscore")),  # results are contiguous whatever comes in
        (
            OPS.pairwise_backward,
            (K, None, leaf(12, 5).detach().mT, None, "cosine", None, "zscore", None, False, 2, True, True),
        ),
        (OPS.center, (K.clone().requires_grad_(), "unbiased")),
        (OPS.compare, (K[None].clone().requires_grad_(), torch.stack([K, K]), "pearson")),
        (OPS.compare, (K[None], torch.stack([K, K]), "kendall")),
    ):
        torch.library.opcheck(operator.default, args)


def test_what_torch_would_leave_out_in_silence() -> None:
    x, y = features(6, 12), features(6, 9)
    for function in (lambda x: dds_ext.dds(x, y), lambda x: OPS.normalize(x).sum(), lambda x: OPS.pairwise(x).sum()):
        for transform in (lambda f: torch.func.jvp(f, (x,), (x,)), lambda f: torch.func.jacfwd(f)(x)):
            with pytest.raises(NotImplementedError, match=r"dds_ext has no forward-mode derivatives"):
                transform(function)
        with forward_ad.dual_level():
            assert torch.equal(torch.as_tensor(function(x)), torch.as_tensor(function(x)))  # no tangent, no error
            with pytest.raises(NotImplementedError, match=r"dds_ext has no forward-mode derivatives"):
                function(forward_ad.make_dual(x, x))
        for transform in (lambda f: torch.func.grad(f)(x), lambda f: torch.func.vjp(f, x)):
            with pytest.raises(NotImplementedError, match=r"do not go through torch.func.grad"):
                transform(function)
    gamma = torch.tensor(0.1, requires_grad=True)
    for z in (x, x.clone().requires_grad_()):
        with pytest.raises(TypeError, match=r"gamma requires grad, and there is no gradient by it"):
            dds_ext.laplacian_rdm(z, gamma=gamma)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_tensors_without_numbers_and_tracers() -> None:
    x = features(6, 12)
    meta = x.to("meta")
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        assert dds_ext.rdm(fake).shape == (6, 6) and dds_ext.dds(fake, fake).shape == ()
    for z in (fake, meta):
        assert dds_ext.rdm(z, condensed=True).shape == (15,) and dds_ext.dds(z, z).shape == ()
        with pytest.raises(TypeError, match=r"source 0 holds no numbers"):
            dds_ext.affinity([z])
    traced = make_fx(lambda x: dds_ext.rdm(x, "linear"))(x)
    assert torch.equal(traced(2 * x), dds_ext.rdm(2 * x, "linear"))
    traced = torch.jit.trace(lambda x: dds_ext.rdm(x, "linear"), (x,), check_trace=False)
    assert torch.equal(traced(2 * x), dds_ext.rdm(2 * x, "linear"))


@pytest.mark.parametrize("device", ("cpu", "meta"))
def test_shapes_are_checked_with_and_without_numbers(device: str) -> None:
    def empty(*shape: int) -> Tensor:
        return torch.zeros(shape, device=device)

    for operator, args, what in (
        (OPS.pairwise, (empty(3, 4), empty(3, 5)), "X has 4 features, Y has 5"),
        (OPS.pairwise, (empty(3, 4), None, "nope"), "unknown f 'nope'"),
        (OPS.pairwise, (empty(1, 4),), "X has 1 image;"),
        (OPS.pairwise, (empty(2, 0, 3),), "has 0 images"),
        (OPS.pairwise, (empty(0, 1, 3),), "X has 1 image;"),
        (OPS.pairwise, (empty(3, 0),), "X has 0 features"),
        (OPS.pairwise, (empty(3, 4), None, "linear", None, "batch", 3), "not divisible by channels=3"),
        (OPS.normalize, (empty(4),), "at least 2 dimensions"),
        (OPS.normalize, (empty(0, 5),), "X has 0 images"),
        (OPS.normalize, (empty(2, 3, 0),), "X has 0 features"),
        (OPS.normalize, (empty(3, 4), "nope"), "unknown normalize 'nope'"),
        (OPS.center, (empty(4, 5), "double"), "K has shape"),
        (OPS.center, (empty(3, 3), "unbiased"), "at least 4 images"),
        (OPS.compare, (empty(2, 4, 4), empty(2, 5, 5)), "different numbers of images: K1 has 4, K2 has 5"),
        (OPS.compare, (empty(2, 2, 2), empty(1, 2, 2)), "at least 3 images"),
        (OPS.compare, (empty(0, 4, 4), empty(1, 4, 4)), "is empty"),
        (OPS.compare, (empty(1, 4, 4), empty(1, 4, 4), "nope"), "unknown g 'nope'"),
    ):
        with pytest.raises(ValueError, match=what):
            operator(*args)
    assert OPS.pairwise(empty(0, 4, 5)).shape == (0, 4, 4)
    for method in NORMALIZATIONS:
        assert OPS.normalize(empty(0, 4, 6), method, 2).shape == (0, 4, 6)
    assert OPS.center(empty(0, 4, 4), "unbiased").shape == (0, 4, 4)
    assert OPS.compare(empty(0, 2, 4, 4), empty(0, 1, 4, 4)).shape == (0, 2, 1)


def test_vmap_over_models() -> None:
    x, y = torch.stack([features(8, 12, seed=s) for s in range(3)]), features(8, 9)

    def function(x: Tensor) -> Tensor:
        return dds_ext.rdm(x, "laplacian", normalize="zscore", center="double")

    assert torch.equal(torch.vmap(function)(x), torch.stack([function(model) for model in x]))
    assert torch.equal(torch.vmap(function, in_dims=1)(x.movedim(0, 1)), torch.vmap(function)(x))
    assert torch.equal(torch.vmap(torch.vmap(function))(x[None]), torch.vmap(function)(x)[None])
    crossed = torch.vmap(lambda a, b: dds_ext.rdm(a, Y=b), in_dims=(0, None))(x, x[0])
    assert torch.equal(crossed, torch.stack([dds_ext.rdm(model, Y=x[0]) for model in x]))
    normalized = torch.vmap(lambda a: OPS.normalize(a, "zscore"))(x)
    assert torch.equal(normalized, torch.stack([OPS.normalize(model, "zscore") for model in x]))
    found = gradient(lambda x: torch.vmap(lambda x: dds_ext.dds(x, y))(x), x)
    torch.testing.assert_close(found, gradient(lambda x: torch.stack([dds_ext.dds(m, y) for m in x]), x))


def loss(x: Tensor, y: Tensor) -> Tensor:
    K = dds_ext.rdm(x, "rbf", normalize="instance", channels=4, condensed=True)
    return 1 - dds_ext.dds(x, y) + dds_ext.cka(x, y) + K.square().sum()


@pytest.mark.parametrize("dynamic", (False, True))
def test_compile_without_graph_breaks(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (8, 11):
        x, y = features(n, 12), features(n, 9, seed=1)
        torch.testing.assert_close(gradient(lambda x, y=y: compiled(x, y), x), gradient(lambda x, y=y: loss(x, y), x))
    with pytest.raises(ValueError, match=r"X has NaN"):  # the checks are part of the operators
        compiled(torch.full((8, 12), torch.nan), features(8, 9))


def test_export() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return loss(x, y)

    n = torch.export.Dim("n", min=4, max=1000)
    program = torch.export.export(Model(), (features(8, 12), features(8, 9)), dynamic_shapes=({0: n}, {0: n}))
    names = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert {OPS.pairwise.default, OPS.center.default, OPS.compare.default} <= names
    x, y = features(13, 12), features(13, 9)
    torch.testing.assert_close(program.module()(x, y), loss(x.requires_grad_(), y).detach())


@pytest.mark.parametrize("scale", [1e-25, 1e-20, 1e18, 1e25])
@pytest.mark.parametrize(("f", "normalize"), [("laplacian", "zscore"), ("rbf", "none"), ("cosine", "none")])
def test_gradients_at_the_ends_of_the_range(f: str, normalize: str, scale: float) -> None:
    """The forward pass takes float64 where float32's squares leave its range; so must the backward pass."""
    x = torch.randn(12, 30, generator=torch.Generator().manual_seed(0)) * scale
    weights = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = x.to(dtype).detach().requires_grad_()
        loss = (dds_ext.rdm(leaf, f, normalize=normalize) * weights.to(dtype)).sum()
        found.append(torch.autograd.grad(loss, leaf)[0].double() * scale)
    # a thousand times float32's rounding: of some hundred terms each, not all of one sign
    assert (found[0] - found[1]).norm() <= 1e-4 * found[1].norm()


def test_gradients_of_comparisons_at_the_ends_of_the_range() -> None:
    a, b = torch.randn(2, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(torch.ops.dds_ext.compare(a.requires_grad_(), b, "cosine").sum(), a)
    for scale in (1e200, 1e-200):
        far = (a.detach() * scale).requires_grad_()
        (found,) = torch.autograd.grad(torch.ops.dds_ext.compare(far, b, "cosine").sum(), far)
        torch.testing.assert_close(found * scale, expected)


def test_backward_in_autocast() -> None:
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (expected,) = torch.autograd.grad(torch.ops.dds_ext.pairwise(x, None, "cosine").square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(torch.ops.dds_ext.pairwise(x, None, "cosine").square().sum(), x)
    assert torch.equal(found, expected)
