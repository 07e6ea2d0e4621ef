"""Attribution maps as a measure of transfer (Song et al., "Deep Model Transferability from Attribution Maps", 2019).

Two encoders are alike if they find the same pixels of the same images important. The details are those of the authors'
program: the target is the sum of all outputs of the encoder; a map is the mean over the colour channels of the
attributions, which are signed, apart from saliency's, whose absolute value is taken before the mean; the affinity is
the mean over images of the cosine of two maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import dds_ext
from dds_transfer.extraction import choose_layers, place_of, running, tensor_of
from dds_transfer.images import Images, Preprocessing, load_images
from dds_transfer.models import first_line, preprocessing_of
from dds_transfer.relevance import EpsilonRule, Recorder, RescaleRule, check_rules, check_sum
from dds_transfer.tables import Table
from dds_transfer.terminal import working

Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TimedAffinity:
    """An affinity between models and what it cost.

    Attributes:
        table: the affinities, (S, S).
        seconds: per model and image, on the wall clock, without reading the images.
    """

    table: Table
    seconds: float


def attribution_maps(
    model: nn.Module, images: Any, method: str, *, layer: str | None = None, batch_size: int = 8
) -> NDArray[Any]:
    """How much each pixel of n images contributes to the sum of an encoder's outputs.

    Args:
        model: a module that takes a batch of images (n, C, height, width). It runs in evaluation mode, where it is.
        images: ``Images`` from :func:`load_images`, or what that function takes; pictures then go through
            ``preprocessing_of(model)``.
        method: with x the image, y the outputs and s = sum(y),

            - ``saliency``: ``|ds/dx|`` (Simonyan et al., 2014).
            - ``gradient_x_input``: ``x ds/dx`` (Shrikumar et al., 2016).
            - ``epsilon_lrp``: layer-wise relevance propagation with the epsilon rule (Bach et al., 2015), epsilon 1e-4.
            - ``deeplift``: DeepLIFT with the Rescale rule (Shrikumar et al., 2017); the reference is an input of zeros,
              after preprocessing, that is, the mean colour.

            The last two are defined for networks of linear layers, batch normalisation, activations of single elements
            and max-pooling. Times C, epsilon-LRP's maps of a network without biases sum to s, and DeepLIFT's to
            s - s(reference), which is checked. What the network detaches from the graph of its gradients is a constant
            to epsilon-LRP, as a bias is. Where ReLU is the only activation, epsilon-LRP is gradient x input but for
            epsilon.
            The first three are those of the paper.
        layer: the module whose outputs y are, as in ``model.named_modules()``; by default the model itself. Of a tuple
            or dictionary, ``last_hidden_state`` or else the first tensor is taken.
        batch_size: images at once; a ResNet-50 takes about 0.2 GB for each of 224 x 224.

    Returns:
        (n, height, width), the mean over channels, float32 (float64 of float64 images).

    Raises:
        ValueError: no such method or layer; a network with an operation that the method has no rule for, or that fails
            on the images; a map that is not finite; DeepLIFT's maps that do not sum to what they must, because the
            network computes activations by detached or Boolean factors.
    """
    _check(method, batch_size)
    prepared = _images_of({"": model}, {"": images})[""]
    named = type(model).__name__
    return np.concatenate([_maps(model, layer or "", named, x, method) for _, x in prepared.batches(0, batch_size)])


def attribution_affinity(
    models: Mapping[str, nn.Module],
    images: Any,
    method: str,
    *,
    layers: Mapping[str, str | None] | None = None,
    batch_size: int = 8,
) -> TimedAffinity:
    """The similarity of models by their attribution maps: the mean over images of the cosine of two models' maps.

    Equivalent to, with ``maps[name] = attribution_maps(models[name], ...)`` as (n, height * width)::

        norm = np.linalg.norm
        [[np.mean([a @ b / (norm(a) * norm(b)) for a, b in zip(maps[s], maps[t])]) for t in models] for s in models]

    but only the maps of one batch of images are held.

    Args:
        models: by name. They must see the same pixels, that is, take images of one height and width.
        images: as in :func:`attribution_maps`, for all models; or a mapping from their names to such, the same images
            in the same order for each.
        method: see :func:`attribution_maps`.
        layers: the module of each model whose outputs are summed; without one, the model itself.
        batch_size: images at once.

    Raises:
        ValueError: as :func:`attribution_maps`; fewer than two models; images of different sizes or numbers; a map
            that is zero, which has no cosine.
    """
    _check(method, batch_size)
    names, targets, prepared = list(models), _targets(models, layers), _images_of(models, images)
    distinct = {id(each): each for each in prepared.values()}
    total, seconds = np.zeros((len(names), len(names))), 0.0
    listed = prepared[names[0]].names
    steps = -(-len(listed) // batch_size) * len(names)
    with working(f"{method}, {len(names)} models, {len(listed)} images", steps=steps) as step:
        for batches in zip(*(each.batches(0, batch_size) for each in distinct.values()), strict=True):
            inputs = dict(zip(distinct, batches, strict=True))
            started = time.perf_counter()
            rows: list[NDArray[np.float64]] = []
            sizes: dict[str, tuple[int, ...]] = {}
            for name in names:
                first, x = inputs[id(prepared[name])]
                maps = _maps(models[name], targets[name], name, x, method)
                rows.append(_unit_rows(maps, name, listed[first:]))
                sizes[name] = maps.shape[1:]
                step()
            if len(set(sizes.values())) > 1:
                text = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
                raise ValueError(f"maps are compared pixel by pixel: give all models images of one size, not {text}")
            stack = np.stack(rows, 1)  # (b, S, pixels); times its transpose, the cosines of each image
            total += (stack @ stack.transpose(0, 2, 1)).sum(0)
            seconds += time.perf_counter() - started
    affinity = (total + total.T) / (2 * len(listed))  # the halves of a matrix product may differ in the last digit
    np.fill_diagonal(affinity, 1)
    return TimedAffinity(Table(names, names, affinity), seconds / (len(listed) * len(names)))


def dds_affinity(
    models: Mapping[str, nn.Module],
    images: Any,
    *,
    layers: Mapping[str, str | None] | None = None,
    batch_size: int = 8,
) -> TimedAffinity:
    """DDS of the same outputs of the same models on the same images, to compare with.

    Equivalent to ``dds_ext.affinity`` of the outputs of each model as (n, d), but only those of one model are held. The
    arguments are those of :func:`attribution_affinity`.
    """
    options: dict[str, Any] = dict(dds_ext.MEASURES["dds"])
    g = options.pop("g")
    names, targets, prepared = list(models), _targets(models, layers), _images_of(models, images)
    matrices, seconds = [], 0.0
    with working(f"dds, {len(names)} models", steps=len(names)) as step:
        for name in names:
            outputs = []
            for _, x in prepared[name].batches(0, batch_size):
                started = time.perf_counter()
                with _encoder(models[name], targets[name], name) as encode:
                    outputs.append(_array(encode(x).flatten(1)))
                seconds += time.perf_counter() - started
            started = time.perf_counter()
            matrices.append(dds_ext.rdm(np.concatenate(outputs), **options))
            seconds += time.perf_counter() - started
            step()
    started = time.perf_counter()
    stack = np.stack(matrices)
    table = Table(names, names, np.asarray(dds_ext.compare(stack, stack, g), np.float64))
    seconds += time.perf_counter() - started
    return TimedAffinity(table, seconds / (len(prepared[names[0]]) * len(names)))


def _saliency(encode: Encoder, x: Tensor) -> Tensor:
    return _gradient(encode, x).abs()


def _gradient_x_input(encode: Encoder, x: Tensor) -> Tensor:
    return x * _gradient(encode, x)


def _epsilon_lrp(encode: Encoder, x: Tensor) -> Tensor:
    return x * _gradient(encode, x, EpsilonRule(), "epsilon_lrp")


def _deeplift(encode: Encoder, x: Tensor) -> Tensor:
    recorder = Recorder()
    with torch.enable_grad(), recorder:  # gradients tell what depends on the image
        reference = encode(torch.zeros_like(x[:1]).requires_grad_()).detach()
    outputs: list[Tensor] = []

    def noted(x: Tensor) -> Tensor:
        outputs.append(encode(x))
        return outputs[0]

    relevance = x * _gradient(noted, x, RescaleRule(recorder.inputs), "deeplift")
    check_sum(relevance, outputs[0].detach() - reference)
    return relevance


METHODS: dict[str, Callable[[Encoder, Tensor], Tensor]] = {
    "saliency": _saliency,
    "gradient_x_input": _gradient_x_input,
    "epsilon_lrp": _epsilon_lrp,
    "deeplift": _deeplift,
}


def _gradient(encode: Encoder, x: Tensor, rule: TorchFunctionMode | None = None, method: str = "") -> Tensor:
    """The gradient (b, C, height, width) of the sum of the outputs for each image, which no other image has a part in.

    With a rule it is the multipliers of :mod:`dds_transfer.relevance`.
    """
    leaf = x.detach().requires_grad_()
    with torch.enable_grad(), rule or nullcontext():
        total = encode(leaf).sum()
    if not total.requires_grad:
        raise ValueError("no gradient leads from its output to the image")
    if rule is not None:
        check_rules(total, method)
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def _maps(model: nn.Module, layer: str, name: str, x: Tensor, method: str) -> NDArray[Any]:
    """Maps (b, height, width) of a batch of images, on the CPU."""
    with _encoder(model, layer, name) as encode:
        if x.ndim != 4:
            raise ValueError(f"attribution maps are of images (C, height, width), not of {tuple(x.shape[1:])}")
        maps = _array(METHODS[method](encode, x if x.is_floating_point() else x.float()).mean(1))
        if not np.isfinite(maps).all():
            raise ValueError("its attributions are not finite")
    return maps


@contextmanager
def _encoder(model: nn.Module, layer: str, name: str) -> Iterator[Encoder]:
    """A function from images to the outputs of a layer, "" for the whole model; what goes wrong names the model."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        if layer:
            choose_layers(model, {layer: layer})
        for parameter in trained:
            parameter.requires_grad_(False)  # so that only what depends on the images requires a gradient
        with running(model, place_of(model, None), autocast=False) as run:
            yield lambda x: _encode(model.get_submodule(layer), run, x)
    except Exception as error:  # anything may go wrong in somebody's network
        raise ValueError(f"{name}: {first_line(error)}") from error
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _encode(module: nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """What a module gives while the network runs on x."""
    seen: list[Tensor | None] = []

    def hook(_: nn.Module, arguments: Any, output: Any) -> None:
        tensor = tensor_of(output)
        # A copy, because the next module may work in place.
        seen.append(None if tensor is None else tensor.clone())

    handle = module.register_forward_hook(hook)
    try:
        run(x.clone())  # which the first module may do, too
    finally:
        handle.remove()
    if len(seen) != 1:
        raise ValueError(f"the layer runs {len(seen)} times for one batch; name one that runs once")
    if seen[0] is None or seen[0].ndim == 0 or len(seen[0]) != len(x):
        what = "no tensor" if seen[0] is None else f"a tensor of shape {tuple(seen[0].shape)}"
        raise ValueError(f"it gives {what} for {len(x)} images, not outputs for each")
    return seen[0]


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor's numbers on the CPU, in float64 if that is what they are, else in float32."""
    return tensor.detach().to("cpu", torch.float64 if tensor.dtype == torch.float64 else torch.float32).numpy()


def _unit_rows(maps: NDArray[Any], name: str, images: list[str]) -> NDArray[np.float64]:
    """Maps (b, height, width) as rows (b, pixels) of length 1."""
    rows = maps.reshape(len(maps), -1).astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not length.all():
        image = images[int(np.argmin(length))]
        raise ValueError(f"{name}: its map of image {image} is zero and has no cosine; leave the image out")
    unit: NDArray[np.float64] = rows / length
    return unit


def _images_of(models: Mapping[str, nn.Module], images: Any) -> dict[str, Images]:
    """The images of each model, prepared as it states unless they are prepared already."""
    given = images if isinstance(images, Mapping) else dict.fromkeys(models, images)
    if missing := [name for name in models if name not in given]:
        raise ValueError(f"no images are given for {', '.join(missing)}")
    loaded: dict[tuple[int, Preprocessing], Images] = {}
    prepared: dict[str, Images] = {}
    for name, model in models.items():
        data = given[name]
        if not isinstance(data, Images):
            key = (id(data), preprocessing_of(model))
            if key not in loaded:
                loaded[key] = load_images(data, key[1])
            data = loaded[key]
        prepared[name] = data
    first = next(iter(prepared))
    for name, data in prepared.items():
        if data.names != prepared[first].names:
            raise ValueError(f"{first} and {name} are given different images; image i must be the same for every model")
    return prepared


def _targets(models: Mapping[str, nn.Module], layers: Mapping[str, str | None] | None) -> dict[str, str]:
    """The layer of each model whose outputs are summed, "" for the whole model."""
    if len(models) < 2:
        raise ValueError("an affinity needs at least two models")
    if unknown := [name for name in layers or {} if name not in models]:
        raise ValueError(f"layers are named for {', '.join(unknown)}, which is none of the models")
    return {name: (layers or {}).get(name) or "" for name in models}


def _check(method: str, batch_size: int) -> None:
    if method not in METHODS:
        raise ValueError(f"no method {method!r}: it is one of {', '.join(METHODS)}")
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; it must be at least 1")
