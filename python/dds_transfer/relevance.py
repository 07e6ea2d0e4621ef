"""Epsilon-LRP and DeepLIFT as gradients in which every activation has another slope.

Both propagate multipliers m from the output to the input, and the attribution is input x multiplier (Ancona et al.,
ICLR 2018, propositions 1 and 2). Through what is linear, m goes as the gradient goes: each summand of an addition gets
all of m, and with it a share of the relevance in proportion to its contribution, so that residual additions need no
rule. An activation f multiplies m by its slope over a distance instead of its derivative:

- epsilon-LRP (Bach et al., PLOS ONE 2015): ``f(z) / (z + epsilon sign(z))``. A neuron is the linear layer with the
  activation after it; a batch normalisation in between counts to the linear layer, and biases take their share.
- DeepLIFT (Shrikumar et al., ICML 2017), Rescale rule: ``(f(z) - f(z0)) / (z - z0)``, where z0 is what the activation
  is given when the image is the reference.

Activations are caught while the network runs, whichever way it calls them: functions, methods, modules, reused or not,
in place or not. Nothing is traced or rewritten, so the network may be any Python code.

Captum 0.9 gives the same numbers for simple chains of layers and not for others, so it serves the tests alone: its LRP
counts relevance twice at ``a + b``; its DeepLIFT refuses a reused activation, loses the other uses of an activation's
input (the skip connection of a pre-activation network), and loses one of the two rules where an activation and
max-pooling follow each other (the first layers of a ResNet).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

EPSILON = 1e-4  # of epsilon-LRP; what the attribution library that Song et al. ran has as its default
# Two inputs of an activation that are closer than this have no ratio of differences worth its rounding.
NEAR = 1e-5

Function = Callable[..., Tensor]

# Functions of each element alone. A spelling that is missing here is refused, by its name in the graph.
_ACTIVATIONS = frozenset(
    (
        *(F.relu, F.relu_, torch.relu, Tensor.relu, Tensor.relu_, F.relu6),
        *(F.leaky_relu, F.leaky_relu_, F.prelu, torch.prelu, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_),
        *(F.gelu, F.silu, F.mish, F.softplus, F.hardtanh, F.hardtanh_, F.hardswish, F.hardsigmoid),
        *(torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh),
    )
)
# With what also says where the maxima are, and the number of axes that its indices count through.
_MAX_POOLS: dict[Any, tuple[Any, int]] = {
    F.max_pool1d: (F.max_pool1d_with_indices, 1),
    F.max_pool2d: (F.max_pool2d_with_indices, 2),
    F.max_pool3d: (F.max_pool3d_with_indices, 3),
}


class _Rule(TorchFunctionMode, ABC):
    """While it is active, activations of what depends on the image pass multipliers on by ``slope``."""

    @abstractmethod
    def slope(self, z: Tensor, value: Tensor, f: Function) -> Tensor:
        """What multiplies m on its way from f(z) = ``value`` to z; all of one shape."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        settings = kwargs or {}
        if func not in _ACTIVATIONS or not _depends_on_image(args):
            return func(*args, **settings)
        z = args[0]

        def f(z: Tensor) -> Tensor:
            result: Tensor = func(z, *args[1:], **settings)
            return result

        copy = z.detach().clone()
        value = f(copy)
        in_place = value is copy
        linear = z * self.slope(z.detach(), value, f)
        result = linear + (value - linear).detach()
        # A network may go on with the tensor that was given as well as with the one that came back.
        return z.copy_(result) if in_place else result


class EpsilonRule(_Rule):
    """Epsilon-LRP. Max-pooling keeps its gradient: all relevance goes to the largest element."""

    def slope(self, z: Tensor, value: Tensor, f: Function) -> Tensor:
        """See the head of this file; sign(0) = 1."""
        return value / torch.where(z < 0, z - EPSILON, z + EPSILON)


class RescaleRule(_Rule):
    """DeepLIFT with the Rescale rule, and for max-pooling the one of its authors' programs.

    Args:
        reference: the inputs of the activations and max-poolings on the reference, batches of one, in the order of
            their use, from :class:`Recorder`.
    """

    def __init__(self, reference: Iterable[Tensor]) -> None:
        super().__init__()
        self.reference = iter(reference)

    def slope(self, z: Tensor, value: Tensor, f: Function) -> Tensor:
        """See the head of this file; the derivative where z and z0 are too close."""
        z0 = self._next(z)
        difference = z - z0
        with torch.enable_grad():
            leaf = z.requires_grad_()
            (derivative,) = torch.autograd.grad(f(leaf.clone()).sum(), leaf)
        return torch.where(difference.abs() > NEAR, (value - f(z0.clone())) / difference, derivative)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As for all rules, and the rule of max-pooling."""
        if func not in _MAX_POOLS or not _depends_on_image(args):
            return super().__torch_function__(func, types, args, kwargs)
        pool, axes = _MAX_POOLS[func]
        x, *settings = args
        x0 = self._next(x)
        named = {**(kwargs or {}), "return_indices": True}
        (out, at), (out0, at0) = pool(x.detach(), *settings, **named), pool(x0, *settings, **named)

        def pick(tensor: Tensor, indices: Tensor) -> Tensor:
            return tensor.flatten(-axes).gather(-1, indices.expand_as(at).flatten(-axes)).view_as(out)

        # From the larger of the two maxima down to each of them: the rise belongs to the largest element of the image,
        # the fall to that of the reference, each divided by the change of that element. Where windows overlap, an
        # element adds up what it gets of each.
        top, change = torch.maximum(out, out0), x.detach() - x0
        rise = torch.where(pick(change, at) == 0, (out == out0).to(out.dtype), (top - out0) / pick(change, at))
        fall = torch.where(pick(change, at0) == 0, 0, (out - top) / pick(change, at0))
        linear = pick(x, at) * rise + pick(x, at0) * fall
        return linear + (out - linear).detach()

    def _next(self, z: Tensor) -> Tensor:
        z0 = next(self.reference, None)
        if z0 is None or z0.shape[1:] != z.shape[1:]:
            raise ValueError("the network takes another way through its layers on the reference than on the images")
        return z0


class Recorder(TorchFunctionMode):
    """Keeps the inputs of the activations and max-poolings of what depends on the image, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the input and go on."""
        if (func in _ACTIVATIONS or func in _MAX_POOLS) and _depends_on_image(args):
            self.inputs.append(args[0].detach().clone())
        return func(*args, **(kwargs or {}))


def _depends_on_image(args: Any) -> bool:
    """Whether a function's first argument does; parameters require no gradient here."""
    return bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad


# Names of nodes in autograd's graph, without "Backward" and number. Of the sums each input may depend on the image, of
# the linear ones a single input.
_SUMS = frozenset(("Add", "Sub", "Cat", "Stack", "Copy"))
_LINEAR = frozenset(
    (
        *("Convolution", "Addmm", "Mm", "Bmm", "Mv", "Mul", "Div", "Neg", "Mean", "Sum"),
        *("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"),
        *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D"),
        *("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad1D", "ReplicationPad2D"),
        *("UpsampleNearest2D", "UpsampleBilinear2D", "UpsampleBicubic2D", "PixelShuffle", "Im2Col"),
        *("View", "UnsafeView", "ReshapeAlias", "Alias", "Clone", "ToCopy", "Expand", "Squeeze", "Unsqueeze", "T"),
        *("Transpose", "Permute", "Slice", "Select", "Split", "SplitWithSizes", "Unbind", "Index", "Gather", "Flip"),
        *("Roll", "Repeat", "AccumulateGrad"),
    )
)
_MAXIMA = frozenset(("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D"))


def check_sum(relevance: Tensor, change: Tensor) -> None:
    """Raise ValueError where DeepLIFT's relevance of an image does not sum to its change of the outputs.

    Args:
        relevance: (b, C, height, width) of b images.
        change: (b, ...), the outputs for the images less those for the reference.
    """
    parts = relevance.detach().double().flatten(1)
    whole = change.double().reshape(len(change), -1).sum(1)
    # Rounding leaves 1e-6 in float32, a missed activation 1e-2 and more (ResNets of 18 and 50 layers, random weights).
    share = (parts.sum(1) - whole).abs() / parts.abs().sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    worst = int(share.argmax())
    if share[worst] > 1e-3 + 64 * torch.finfo(relevance.dtype).eps:
        raise ValueError(
            f"deeplift misses activations: contributions sum to {parts[worst].sum():.4g} where the outputs change by "
            f"{whole[worst]:.4g}; compute them by torch's functions, not by detached or Boolean factors"
        )


def check_rules(output: Tensor, method: str) -> None:
    """Raise ValueError unless everything between the image and ``output`` is linear, or an activation with its rule.

    What autograd noted is looked at, so that no spelling of an operation escapes that has a derivative. An activation
    that is a product with a factor without one, ``z * (z > 0)`` or ``z * z.sigmoid().detach()``, looks linear here.
    That is as epsilon-LRP has it, which multiplies by the very factor f(z) / z; DeepLIFT needs :func:`check_sum` too.
    """
    known = _LINEAR | _MAXIMA if method == "epsilon_lrp" else _LINEAR
    waiting: list[Node] = [output.grad_fn] if output.grad_fn else []
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        inputs = [source for source, _ in node.next_functions if source is not None]
        kind = re.sub(r"Backward(s|\d+)$", "", node.name().rpartition("::")[2])
        product = len(inputs) > 1 or (kind == "Div" and node.next_functions[0][0] is None)
        statistics = getattr(node, "_saved_training", False)  # a batch normalisation without running statistics
        if kind not in _SUMS and (kind not in known or product or statistics):
            what = f"{kind} of two things that depend on the image" if kind in known and len(inputs) > 1 else kind
            raise ValueError(f"{method} has no rule for {what}; saliency and gradient_x_input serve any network")
        new = [source for source in inputs if source not in seen]
        seen.update(new)
        waiting += new
