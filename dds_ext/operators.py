"""The engine as PyTorch operators, torch.ops.dds_ext.*: with gradients, for torch.compile, torch.export and vmap.

The public functions come here with tensors that require grad, and under a compiler or a transform of functions.

    pairwise(x, y=None, f="laplacian", gamma=None, normalize="none", channels=None, channels_last=False, groups=2,
             precision="default", check_finite=True)        (..., n, d), (..., m, d) -> (..., n, n) or (..., n, m)
    normalize(x, method="zscore", channels=None, channels_last=False, groups=2)             (..., n, d) -> (..., n, d)
    center(k, mode, check=True)                                                             (..., n, n) -> (..., n, n)
    compare(a, b, g="pearson", check_finite=True)          (..., S, n, n), (..., T, n, n) -> (..., S, T)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from dds_ext._arrays import Features, features, flatten
from dds_ext._compute import compute
from dds_ext._gradients import NEEDS_MATRIX, Normalization, compare_gradients, pairwise_gradients
from dds_ext._requests import Options, Request
from dds_ext.comparison import center_arrays, check_centering, check_comparison, compare_arrays

_LIBRARY = torch.library.Library("dds_ext", "DEF")  # type: ignore[no-untyped-call]
_SMOOTH = ("cosine", "pearson")
_LAYOUT = "SymInt? channels=None, bool channels_last=False, SymInt groups=2"
_F = f'str f="laplacian", float? gamma=None, str normalize="none", {_LAYOUT}'


def _dtype(*inputs: Tensor | None) -> torch.dtype:
    """Of the engine's result."""
    return torch.float64 if any(x is not None and x.dtype == torch.float64 for x in inputs) else torch.float32


def _stack(x: Tensor, keep: int = 2) -> Tensor:
    """Leading dimensions in one, before those to keep: (s, rows, columns)."""
    return x.detach().reshape(math.prod(x.shape[:-keep]), *x.shape[-keep:])


def _known(*arguments: Any) -> bool:
    """Whether sizes are numbers: a compiler's symbols are for the real operator to check, and nothing to guard on."""
    sizes = [size for a in arguments for size in (a.shape if isinstance(a, Tensor) else (a,))]
    return not any(isinstance(size, torch.SymInt | torch.SymFloat) for size in sizes)


def _one(x: Tensor, name: str) -> Features:
    """What the sizes of one model are checked by."""
    flat, _ = flatten(torch.empty(x.shape[-2:], dtype=x.dtype, device="meta"), name, None, False)
    return Features(name, flat, lambda k: k, None)


def _check_sizes(x: Tensor, y: Tensor | None, options: Options) -> None:
    """The engine's errors, without its numbers."""
    first = _one(x, "X")
    Request(first, None if y is None else _one(y, "Y"), options)
    options.channels_of(first)


def _check_pair(x: Tensor, y: Tensor | None, what: str) -> None:
    least = 2 if what == "features" else 3
    for name, tensor in (("x", x), ("y", y)) if what == "features" else (("a", x), ("b", y)):
        if tensor is not None and tensor.ndim < least:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; {what} have at least {least} dimensions")
    if y is not None and x.shape[:-least] != y.shape[:-least]:
        raise ValueError(f"the leading dimensions of {tuple(x.shape)} and {tuple(y.shape)} differ")


# ---------------------------------------------------------------------------------------------------------------------
# The pairwise matrix.


def _pairwise(
    x: Tensor,
    y: Tensor | None = None,
    f: str = "laplacian",
    gamma: float | None = None,
    normalize: str = "none",
    channels: int | None = None,
    channels_last: bool = False,
    groups: int = 2,
    precision: str = "default",
    check_finite: bool = True,
) -> Tensor:
    options = Options(f, gamma, normalize, "none", channels, channels_last, groups, precision, check_finite)
    _check_pair(x, y, "features")
    if x.ndim == 2:
        sets = [None if z is None else features(z.detach(), name, None, False) for z, name in ((x, "X"), (y, "Y"))]
        assert sets[0] is not None
        result = compute([Request(sets[0], sets[1], options)])[0]
        assert isinstance(result, Tensor)
        return result
    out = _empty_pairwise(x, y)
    if not len(_stack(x)):
        _check_sizes(x, y, options)
    requests = []
    for i, (k, z) in enumerate(zip(_stack(out), _stack(x), strict=True)):
        w = None if y is None else features(_stack(y)[i], f"Y[{i}]", None, False)
        requests.append(Request(features(z, f"X[{i}]", None, False), w, options, out=k))
    if requests:
        compute(requests)
    return out


def _empty_pairwise(x: Tensor, y: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], (x if y is None else y).shape[-2]), dtype=_dtype(x, y))


def _pairwise_fake(
    x: Tensor,
    y: Tensor | None = None,
    f: str = "laplacian",
    gamma: float | None = None,
    normalize: str = "none",
    channels: int | None = None,
    channels_last: bool = False,
    groups: int = 2,
    precision: str = "default",
    check_finite: bool = True,
) -> Tensor:
    _check_pair(x, y, "features")
    if _known(x, y, gamma, channels, groups):
        options = Options(f, gamma, normalize, "none", channels, channels_last, groups, precision, check_finite)
        _check_sizes(x, y, options)
    return _empty_pairwise(x, y)


def _pairwise_backward(
    grad: Tensor,
    k: Tensor | None,
    x: Tensor,
    y: Tensor | None,
    f: str,
    gamma: float | None,
    normalize: str,
    channels: int | None,
    channels_last: bool,
    groups: int,
    by_x: bool,
    by_y: bool,
) -> tuple[Tensor, Tensor]:
    options, wanted = Options(f, gamma, normalize, "none", channels, channels_last, groups), (by_x, by_y)
    results = _pairwise_backward_fake(grad, k, x, y, *wanted)
    with torch.autocast(x.device.type, enabled=False):
        if x.ndim == 2:
            found = pairwise_gradients(grad, k, x, y, options, wanted)
            of_x, of_y = (to if z is None else z.contiguous() for to, z in zip(results, found, strict=True))
            return of_x, of_y
        grads, xs = _stack(grad), _stack(x)
        ks, ys = (None if z is None else _stack(z) for z in (k, y))
        for i, model in enumerate(xs):
            found = pairwise_gradients(
                grads[i], None if ks is None else ks[i], model, None if ys is None else ys[i], options, wanted
            )
            for to, z in zip(results, found, strict=True):
                if z is not None:
                    _stack(to)[i] = z
    return results


def _pairwise_backward_fake(
    grad: Tensor, k: Tensor | None, x: Tensor, y: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    by_x, by_y = options[-2:]
    return (
        x.new_empty(x.shape if by_x else 0),
        x.new_empty(0) if y is None or not by_y else y.new_empty(y.shape),
    )


def _pairwise_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, f, *options = inputs
    ctx.save_for_backward(x, y, output if f in NEEDS_MATRIX else None)
    ctx.options = (f, *options[:5])


def _pairwise_autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, y, k = ctx.saved_tensors
    by_x, by_y = ctx.needs_input_grad[0], y is not None and ctx.needs_input_grad[1]
    of_x, of_y = torch.ops.dds_ext.pairwise_backward(grad, k, x, y, *ctx.options, by_x, by_y)
    return of_x if by_x else None, of_y if by_y else None, *[None] * 8


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError("the second derivative of dds_ext's pairwise matrices is not served")


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation.


def _normalize(
    x: Tensor, method: str = "zscore", channels: int | None = None, channels_last: bool = False, groups: int = 2
) -> Tensor:
    options = Options(f="linear", normalize=method, channels=channels, channels_last=channels_last, groups=groups)
    _check_pair(x, None, "features")
    c = _check_normalize(x, options)
    features(_stack(x, 1), "X", None, False)  # says what is not served
    z = Normalization(method, c, channels_last, groups).apply([x.to(_dtype(x))])[0][0]
    return z.clone(memory_format=torch.contiguous_format) if z is x else z.reshape(x.shape).contiguous()


def _check_normalize(x: Tensor, options: Options) -> int:
    """The C that the features unflatten by."""
    one = _one(x, "X")
    if one.n == 0:
        raise ValueError("X has 0 images")
    return options.channels_of(one)


def _normalize_fake(
    x: Tensor, method: str = "zscore", channels: int | None = None, channels_last: bool = False, groups: int = 2
) -> Tensor:
    _check_pair(x, None, "features")
    if _known(x, channels, groups):
        _check_normalize(x, Options("linear", None, method, "none", channels, channels_last, groups))
    return x.new_empty(x.shape, dtype=_dtype(x))


def _normalize_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.options = inputs
    ctx.save_for_backward(x)


def _normalize_autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    method, channels, channels_last, groups = ctx.options
    normalization = Normalization(method, channels or 0, channels_last, groups)
    sets, scales = normalization.apply([x.to(grad.dtype)])
    (of_x,) = normalization.gradients([grad], sets, scales)
    assert of_x is not None
    return of_x.to(x.dtype), None, None, None, None


# ---------------------------------------------------------------------------------------------------------------------
# Centring: of the symmetric part, so that it is its own adjoint.


def _center(k: Tensor, mode: str, check: bool = True) -> Tensor:
    centered: Tensor = center_arrays(k.detach(), mode, check)
    return centered


def _center_fake(k: Tensor, mode: str, check: bool = True) -> Tensor:
    if _known(k):
        check_centering(k, mode)
    return k.new_empty(k.shape, dtype=_dtype(k))


def _center_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    k, ctx.mode, _ = inputs
    ctx.dtype = k.dtype


def _center_autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.dds_ext.center(grad, ctx.mode, False).to(ctx.dtype), None, None


# ---------------------------------------------------------------------------------------------------------------------
# Comparison.


def _compare(a: Tensor, b: Tensor, g: str = "pearson", check_finite: bool = True) -> Tensor:
    _check_pair(a, b, "stacks of matrices")
    if a.ndim == 3:
        scores: Tensor = compare_arrays(a.detach(), b.detach(), g, check_finite)
        return scores
    out = _compare_fake(a, b, g)
    for to, s, t in zip(_stack(out), _stack(a, 3), _stack(b, 3), strict=True):
        to.copy_(compare_arrays(s, t, g, check_finite))
    return out


def _compare_fake(a: Tensor, b: Tensor, g: str = "pearson", check_finite: bool = True) -> Tensor:
    _check_pair(a, b, "stacks of matrices")
    if _known(a, b):
        check_comparison(a, b, g, tuple(range(3, a.ndim + 1)))
    return a.new_empty((*a.shape[:-2], b.shape[-3]), dtype=torch.float64)


def _compare_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.g, _ = inputs
    if ctx.g not in _SMOOTH:
        raise ValueError(f"g='{ctx.g}' has no gradient: choose from {', '.join(_SMOOTH)}, or pass detached tensors")
    ctx.save_for_backward(a, b, output)


def _compare_autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, b, score = ctx.saved_tensors
    return *compare_gradients(grad, score, a, b, ctx.g, ctx.needs_input_grad), None, None


# ---------------------------------------------------------------------------------------------------------------------


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def _refuse_other_derivatives(tensors: Sequence[Tensor], recorded: bool) -> None:
    """Those that torch would leave out in silence."""
    if forward_ad._current_level >= 0 and any(_has_tangent(a) for a in tensors):
        raise NotImplementedError(
            "dds_ext has no forward-mode derivatives (torch.func.jvp, jacfwd, dual tensors): "
            "use reverse mode, .backward() or torch.autograd.grad"
        )
    if recorded and torch._C._are_functorch_transforms_active():
        raise NotImplementedError(
            "dds_ext's operators do not go through torch.func.grad, vjp and jacrev: "
            "use .backward() or torch.autograd.grad"
        )


def _autograd(operator: Any, backward: Callable[..., Any], setup: Callable[..., None]) -> Callable[..., Any]:
    """The operator's kernel for autograd. torch.library.register_autograd would do it too, but takes some 100 us to
    record a call of ten arguments."""
    defaults = [argument.default_value for argument in operator._schema.arguments]

    def below(keys: Any, args: Sequence[Any]) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *args)

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            *args, keys = args  # type: ignore[assignment]
            output = below(keys, args)
            setup(ctx, (*args, *defaults[len(args) :]), output)  # the dispatcher leaves out what is at its default
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return *backward(ctx, *grads), None  # and none for the keys

    def kernel(keys: Any, *args: Any) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        recorded = torch.is_grad_enabled() and any(a.requires_grad for a in tensors)
        _refuse_other_derivatives(tensors, recorded)
        return Recorded.apply(*args, keys) if recorded else below(keys, args)  # type: ignore[no-untyped-call]

    return kernel


def _vmap(operator: Any, tensors: Sequence[int], outputs: int) -> Callable[..., Any]:
    """The operators take leading dimensions: a dimension that is mapped over becomes the first of every tensor."""

    def batched(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        moved = list(args)
        for i in tensors:
            if i >= len(args) or args[i] is None:
                continue
            dim = in_dims[i]
            moved[i] = args[i].expand(info.batch_size, *args[i].shape) if dim is None else args[i].movedim(dim, 0)
        result = operator(*moved)
        return (result, 0) if outputs == 1 else (result, (0,) * outputs)

    return batched


def _register(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    setup: Callable[..., None],
    tensors: Sequence[int],
    outputs: int = 1,
) -> None:
    """Defines an operator; `tensors` are the positions of its tensors, which take leading dimensions."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    # one kernel for all devices: it finds the engine's part for the device that holds the features
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    operator = getattr(torch.ops.dds_ext, name).default
    autograd = _autograd(operator, backward, setup)
    _LIBRARY.impl(name, autograd, "Autograd", with_keyset=True)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"dds_ext::{name}", fake, lib=_LIBRARY)
    torch.library.register_vmap(f"dds_ext::{name}", _vmap(operator, tensors, outputs), lib=_LIBRARY)


_register(
    f'pairwise(Tensor x, Tensor? y=None, {_F}, str precision="default", bool check_finite=True) -> Tensor',
    _pairwise,
    _pairwise_fake,
    _pairwise_autograd,
    _pairwise_setup,
    tensors=(0, 1),
)
_register(
    "pairwise_backward(Tensor grad, Tensor? k, Tensor x, Tensor? y, str f, float? gamma, str normalize, "
    "SymInt? channels, bool channels_last, SymInt groups, bool by_x, bool by_y) -> (Tensor, Tensor)",
    _pairwise_backward,
    _pairwise_backward_fake,
    _no_second_derivative,
    lambda ctx, inputs, output: None,
    tensors=(0, 1, 2, 3),
    outputs=2,
)
_register(
    f'normalize(Tensor x, str method="zscore", {_LAYOUT}) -> Tensor',
    _normalize,
    _normalize_fake,
    _normalize_autograd,
    _normalize_setup,
    tensors=(0,),
)
_register(
    "center(Tensor k, str mode, bool check=True) -> Tensor",
    _center,
    _center_fake,
    _center_autograd,
    _center_setup,
    tensors=(0,),
)
_register(
    'compare(Tensor a, Tensor b, str g="pearson", bool check_finite=True) -> Tensor',
    _compare,
    _compare_fake,
    _compare_autograd,
    _compare_setup,
    tensors=(0, 1),
)
