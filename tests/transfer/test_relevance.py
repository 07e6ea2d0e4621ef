"""Epsilon-LRP and DeepLIFT: against loops, against Captum where it is right, and by what must be conserved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LRP, DeepLift, InputXGradient, Saliency
from captum.attr._utils.lrp_rules import EpsilonRule
from dds_transfer import attribution_maps, relevance
from dds_transfer.attribution import METHODS
from dds_transfer.relevance import check_sum
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

RULES = ("epsilon_lrp", "deeplift")
Function = Callable[[Tensor], Tensor]
# A sum of some thousand terms of size 100 in float64 is off by less than 1e3 * 1e2 * 1e-16, and then some.
ROUNDING = 1e-9


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Networks and images in float64, from the same seed."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Net(nn.Module):
    """A network from a function, for short."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(channels: int = 4, bias: bool = True, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, size, padding=size // 2, bias=bias)


class Residual(nn.Module):
    """A residual network, with one activation for all its places and with additions as they are usually written."""

    def __init__(self, bias: bool = True, pre_activation: bool = False) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, bias), conv(bias=bias), conv(bias=bias), conv(bias=bias, size=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(4, 5, bias=bias)
        self.pre_activation = pre_activation
        nn.init.uniform_(self.bn.weight, 0.5, 2)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)
        if bias:
            nn.init.normal_(self.bn.running_mean)
            nn.init.normal_(self.bn.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.bn(self.stem(x)))
        if self.pre_activation:
            x = x + self.a(F.relu(x))
            x = torch.add(x, self.b(torch.relu(x)))
        else:
            x = self.relu(x)
            shortcut = self.c(x)
            out = self.b(self.relu(self.a(x)))
            out += shortcut
            x = self.relu(out) + x
        return self.head(F.avg_pool2d(x, 2).mean((2, 3)))


def sums(model: nn.Module, x: Tensor, method: str) -> Tensor:
    """The sum of each image's attributions: three channels times the sum of their mean."""
    return torch.from_numpy(3 * attribution_maps(model, x, method).sum((1, 2)))


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x).flatten(1).sum(1)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_epsilon_lrp_of_a_residual_network_without_biases_conserves_relevance(
    monkeypatch: pytest.MonkeyPatch, pre_activation: bool
) -> None:
    # An activation absorbs at most epsilon times its multiplier: 6,000 of them, multipliers below 100.
    monkeypatch.setattr(relevance, "EPSILON", 1e-15)
    model, x = Residual(bias=False, pre_activation=pre_activation), torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(sums(model, x, "epsilon_lrp"), outputs(model, x), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_deeplift_of_a_residual_network_explains_the_change_from_the_reference(pre_activation: bool) -> None:
    model, x = Residual(pre_activation=pre_activation), torch.randn(5, 3, 16, 16)
    change = outputs(model, x) - outputs(model, torch.zeros_like(x))
    torch.testing.assert_close(sums(model, x, "deeplift"), change, atol=ROUNDING, rtol=0)


ACTIVATIONS = {
    "relu": (nn.ReLU, F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, lambda x: F.relu(x, True)),
    "relu6": (nn.ReLU6, F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: F.hardtanh_(x, 0.0, 6.0)),
    "leaky_relu": (nn.LeakyReLU, F.leaky_relu, lambda x: F.leaky_relu(x, inplace=True)),
    "elu": (nn.ELU, F.elu, F.elu_),
    "selu": (nn.SELU, F.selu, F.selu_),
    "celu": (nn.CELU, F.celu, F.celu_),
    "gelu": (nn.GELU, F.gelu),
    "silu": (nn.SiLU, F.silu, lambda x: F.silu(x, inplace=True)),
    "mish": (nn.Mish, F.mish),
    "softplus": (nn.Softplus, F.softplus),
    "hardswish": (nn.Hardswish, F.hardswish),
    "hardsigmoid": (nn.Hardsigmoid, F.hardsigmoid),
    "sigmoid": (nn.Sigmoid, torch.sigmoid, Tensor.sigmoid, F.sigmoid),
    "tanh": (nn.Tanh, torch.tanh, Tensor.tanh, F.tanh),
    "prelu": (nn.PReLU, lambda x: F.prelu(x, torch.tensor([0.25])), lambda x: torch.prelu(x, torch.tensor([0.25]))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_in_every_spelling(name: str) -> None:
    kind, *spellings = ACTIVATIONS[name]
    modules = {"first": conv(3), "second": conv(), "activation": kind()}
    x = torch.randn(3, 3, 6, 6)
    model = Net(lambda net, x: net.second(net.activation(net.first(x))), **modules)
    change = outputs(model, x) - outputs(model, torch.zeros_like(x))
    torch.testing.assert_close(sums(model, x, "deeplift"), change, atol=ROUNDING, rtol=0)
    maps = {method: attribution_maps(model, x, method) for method in RULES}
    # The slopes by hand; the derivative has no place in them.
    with torch.no_grad():
        z, z0 = model.first(x), model.first(torch.zeros_like(x[:1]))
        f = modules["activation"]
        slopes = {"epsilon_lrp": f(z) / (z + 1e-4 * z.sign()), "deeplift": (f(z) - f(z0)) / (z - z0)}
    for method, slope in slopes.items():
        leaf = x.clone().requires_grad_()
        (model.second(model.first(leaf) * slope)).sum().backward()
        np.testing.assert_allclose(maps[method], (leaf.grad * x).mean(1), atol=ROUNDING)
    for spelling in spellings:
        other = Net(lambda net, x, f=spelling: net.second(f(net.first(x))), **modules)
        for method in RULES:
            np.testing.assert_allclose(attribution_maps(other, x, method), maps[method], atol=1e-15)


def lrp_by_loops(x: NDArray[Any], W: list[NDArray[Any]], b: list[NDArray[Any]], epsilon: float) -> NDArray[Any]:
    """Relevance of the inputs of relu(W2 h + h), h = relu(W0 x + b0), W2 h for W2 relu(W1 h + b1) + b2, one by one."""

    def stabilised(z: float) -> float:
        return z - epsilon if z < 0 else z + epsilon

    def through(R: NDArray[Any], x: NDArray[Any], W: NDArray[Any], z: NDArray[Any], eps: bool) -> NDArray[Any]:
        shares = np.zeros(len(x))
        for j in range(len(z)):
            for i in range(len(x)):
                shares[i] += x[i] * W[j, i] / (stabilised(z[j]) if eps else z[j]) * R[j]
        return shares

    z0 = W[0] @ x + b[0]
    h = np.maximum(z0, 0)
    z1 = W[1] @ h + b[1]
    z2 = W[2] @ np.maximum(z1, 0) + b[2]
    z3 = z2 + h
    R = np.maximum(z3, 0)  # the sum of the outputs: each has its own value as relevance
    of_branch, of_shortcut = np.zeros(len(R)), np.zeros(len(R))
    for k in range(len(R)):
        of_branch[k] = z2[k] / stabilised(z3[k]) * R[k]
        of_shortcut[k] = h[k] / stabilised(z3[k]) * R[k]
    of_hidden = through(of_branch, np.maximum(z1, 0), W[2], z2, eps=False)
    of_shortcut += through(of_hidden, h, W[1], z1, eps=True)
    return through(of_shortcut, x, W[0], z0, eps=True)


def test_epsilon_lrp_is_relevance_passed_on_by_loops() -> None:
    layers = [nn.Linear(12, 6), nn.Linear(6, 7), nn.Linear(7, 6)]

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.l0(x.flatten(1)).relu()
        return F.relu(net.l2(F.relu(net.l1(h))) + h)

    x = torch.randn(4, 3, 2, 2)
    maps = attribution_maps(Net(forward, **{f"l{i}": layer for i, layer in enumerate(layers)}), x, "epsilon_lrp")
    W = [layer.weight.detach().numpy() for layer in layers]
    b = [layer.bias.detach().numpy() for layer in layers]
    by_loops = [lrp_by_loops(image.flatten().numpy(), W, b, 1e-4).reshape(3, 2, 2).mean(0) for image in x]
    np.testing.assert_allclose(maps, by_loops, atol=ROUNDING)


def sequential() -> nn.Sequential:
    """What Captum serves as well: modules used once, in a chain, and no activation beside max-pooling."""
    chain = [conv(3), nn.BatchNorm2d(4), nn.MaxPool2d(2), conv(), nn.ReLU(), nn.Dropout()]
    model = nn.Sequential(*chain, nn.Conv2d(4, 1, 4))
    nn.init.normal_(model[1].running_mean)
    return model.eval()


def test_gradients_are_captums() -> None:
    model, x = Residual().eval(), torch.randn(3, 3, 8, 8)

    def target(x: Tensor) -> Tensor:
        return model(x).sum(1)

    expected = Saliency(target).attribute(x.requires_grad_(), abs=True).mean(1)
    np.testing.assert_allclose(attribution_maps(model, x, "saliency"), expected, atol=ROUNDING)
    expected = InputXGradient(target).attribute(x).detach().mean(1)
    np.testing.assert_allclose(attribution_maps(model, x, "gradient_x_input"), expected, atol=ROUNDING)


def test_epsilon_lrp_of_a_chain_is_captums(monkeypatch: pytest.MonkeyPatch) -> None:
    # Captum stabilises each layer, here each neuron; at this epsilon neither can be seen.
    monkeypatch.setattr(relevance, "EPSILON", 1e-15)
    model, x = sequential(), torch.randn(3, 3, 8, 8)
    for module in model:
        if not isinstance(module, nn.ReLU | nn.Dropout):
            module.rule = EpsilonRule(1e-15)
    maps = attribution_maps(model, x, "epsilon_lrp")
    expected = LRP(model).attribute(x.requires_grad_(), target=(0, 0, 0))
    # Captum divides by every z and multiplies by it again; the smallest of a thousand loses four of 16 digits.
    np.testing.assert_allclose(maps, expected.detach().mean(1), atol=ROUNDING)


def test_deeplift_of_a_chain_is_captums() -> None:
    model, x = sequential(), torch.randn(3, 3, 8, 8)
    maps = attribution_maps(model, x, "deeplift")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the hooks that it sets
        expected = DeepLift(nn.Sequential(model, nn.Flatten())).attribute(x, target=0)
    np.testing.assert_allclose(maps, expected.detach().mean(1), atol=ROUNDING)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d(3, 2),
        lambda x: F.max_pool2d(x, 2, stride=1, ceil_mode=True),
        lambda x: F.max_pool1d(x.flatten(2), 5, 2).unsqueeze(1),
        lambda x: F.max_pool3d(x[:, None], (2, 3, 3), 1)[:, 0],
    ],
)
def test_deeplift_of_max_pooling(pool: Callable[[Tensor], Tensor]) -> None:
    model, x = Net(lambda net, x: pool(net.conv(x)) * 2, conv=conv(3)), torch.randn(3, 3, 9, 9)
    x[:, :, :, :5] = 0  # where windows hold what they hold in the reference
    change = outputs(model, x) - outputs(model, torch.zeros_like(x))
    torch.testing.assert_close(sums(model, x, "deeplift"), change, atol=ROUNDING, rtol=0)


def test_deeplift_shares_a_maximum_as_its_paper_says() -> None:
    # One window of 2 x 2. The image's largest element rises from 1 to 5, the reference's falls from 3 to 2; the maximum
    # rises from 3 to 5, all of it at the former. Were the image's 5 a 2.5, the maximum would fall from 3 to 2.5 at the
    # latter.
    offset = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).expand(1, 3, 2, 2)
    model = Net(lambda net, x: F.max_pool2d((x + offset).mean(1, keepdim=True), 2))
    for top, expected in ((5.0, [[2.0, 0], [0, 0]]), (2.5, [[0, -0.5], [0, 0]])):
        x = (torch.tensor([[top, 2.0], [0.0, 0.0]]) - offset[:, :1]).expand(1, 3, 2, 2).clone()
        # An image's map is the mean over three channels that share the contribution.
        np.testing.assert_allclose(3 * attribution_maps(model, x, "deeplift")[0], expected, atol=1e-15)


def test_the_input_of_an_activation_in_place_stays_what_the_network_made_of_it() -> None:
    """A network that goes on with the tensor it gave, as some ResNets do before the shortcut."""

    def ignores(net: Any, x: Tensor) -> Tensor:
        x = net.first(x)
        F.relu(x, inplace=True)
        return net.second(x) + x

    def uses(net: Any, x: Tensor) -> Tensor:
        x = F.relu(net.first(x))
        return net.second(x) + x

    modules, x = {"first": conv(3), "second": conv()}, torch.randn(2, 3, 6, 6)
    for method in METHODS:
        maps = [attribution_maps(Net(function, **modules), x, method) for function in (ignores, uses)]
        np.testing.assert_allclose(*maps, atol=1e-15)


def statistics_of_the_batch() -> nn.Module:
    return nn.Sequential(conv(3), nn.BatchNorm2d(4, track_running_stats=False))


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (Net(lambda _, x: x * torch.sigmoid(x)), "Mul of two things"),
        (Net(lambda _, x: torch.ones(4) / x), "Div;"),
        (Net(lambda _, x: x.flatten(2) @ x.flatten(2).transpose(1, 2)), "Bmm of two things"),
        (Net(lambda _, x: x.softmax(1)), "Softmax"),
        (Net(lambda _, x: x.exp()), "Exp"),
        (Net(lambda _, x: x.clamp(min=0)), "Clamp"),
        (Net(lambda _, x: F.layer_norm(x, x.shape[1:])), "NativeLayerNorm"),
        (Net(lambda _, x: F.group_norm(x, 1)), "NativeGroupNorm"),
        (Net(lambda _, x: Double.apply(x)), "DoubleBackward"),
        (statistics_of_the_batch(), "NativeBatchNorm"),
    ],
)
@pytest.mark.parametrize("method", RULES)
def test_what_has_no_rule_is_refused(model: nn.Module, kind: str, method: str) -> None:
    x = torch.rand(2, 3, 4, 4) + 1
    with pytest.raises(ValueError, match=rf"^\w+: {method} has no rule for {kind}.*saliency and gradient_x_input"):
        attribution_maps(model.double(), x, method)
    assert attribution_maps(model, x, "saliency").shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("activation", "spelled"),
    [(F.relu, lambda z: z * (z > 0)), (F.silu, lambda z: z * z.sigmoid().detach())],
)
def test_activations_that_the_graph_does_not_show(
    monkeypatch: pytest.MonkeyPatch, activation: Function, spelled: Function
) -> None:
    """Right under epsilon-LRP, refused by DeepLIFT, which would leave out a part of the change."""
    modules, x = {"first": conv(3), "second": conv()}, torch.randn(2, 3, 6, 6)
    plain, hidden = (
        Net(lambda net, x, f=f: net.second(f(net.first(x))), **modules).eval() for f in (activation, spelled)
    )
    monkeypatch.setattr(relevance, "EPSILON", 1e-15)
    maps = [attribution_maps(net, x, "epsilon_lrp") for net in (plain, hidden)]
    np.testing.assert_allclose(*maps, atol=ROUNDING)
    with pytest.raises(ValueError, match=r"deeplift misses activations: contributions sum to (\S+) where .* by (\S+);"):
        attribution_maps(hidden, x, "deeplift")


def test_the_check_of_deeplifts_sum_says_by_how_much_it_fails() -> None:
    relevance = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).reshape(2, 1, 1, 2)
    check_sum(relevance, torch.tensor([[2.0, 1.0], [0.0, 2.0]]))
    with pytest.raises(ValueError, match=r"sum to 2 where the outputs change by 2\.5;"):
        check_sum(relevance, torch.tensor([[2.0, 1.0], [0.5, 2.0]]))
    check_sum(torch.zeros(1, 1, 1, 2), torch.zeros(1, 2))  # an image like the reference


def test_deeplift_refuses_a_maximum_that_it_has_no_rule_for() -> None:
    model, x = Net(lambda _, x: F.adaptive_max_pool2d(x, 2)), torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match="deeplift has no rule for AdaptiveMaxPool2D"):
        attribution_maps(model, x, "deeplift")
    torch.testing.assert_close(sums(model, x, "epsilon_lrp"), outputs(model, x), atol=ROUNDING, rtol=0)


def test_a_compiled_network_is_refused_rather_than_misread() -> None:
    """Its activations run out of Python's sight."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.trace(nn.Sequential(conv(3), nn.ReLU(), conv()), torch.randn(1, 3, 4, 4))
    for method in RULES:
        with pytest.raises(ValueError, match="has no rule for"):
            attribution_maps(model, torch.randn(2, 3, 4, 4), method)


def test_products_with_what_does_not_depend_on_the_image_are_linear() -> None:
    model = Net(
        lambda net, x: net.gate.sigmoid() * net.conv(x / x.shape[-1]) / net.gate.exp(),
        conv=conv(3, bias=False),
        gate=nn.ParameterList(),
    )
    model.gate = nn.Parameter(torch.randn(4, 1, 1))
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(sums(model, x, "epsilon_lrp"), outputs(model, x), atol=ROUNDING, rtol=0)


def test_another_way_on_the_reference_is_refused() -> None:
    model = Net(lambda net, x: F.relu(net.conv(x)) if x.abs().sum() > 0 else net.conv(x), conv=conv(3))
    with pytest.raises(ValueError, match="Net: the network takes another way through its layers on the reference"):
        attribution_maps(model, torch.randn(2, 3, 5, 5), "deeplift")


def test_a_neuron_as_in_the_reference_passes_on_its_derivative() -> None:
    """0 / 0 otherwise, in all images with black edges."""
    model = Net(lambda net, x: net.second(F.gelu(net.first(x))), first=conv(3), second=conv())
    x = torch.randn(2, 3, 8, 8)
    x[:, :, :, :4] = 0
    change = outputs(model, x) - outputs(model, torch.zeros_like(x))
    torch.testing.assert_close(sums(model, x, "deeplift"), change, atol=ROUNDING, rtol=0)
