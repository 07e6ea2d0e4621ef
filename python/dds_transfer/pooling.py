"""What is kept of a layer's output, and which of its axes counts the channels.

(n, C, height, width) and (n, height, width, C) cannot be told apart by their shape, nor (n, C, length) and
(n, tokens, d). The modules that the network is made of can: convolutions, batch normalisations and poolings put the
channels first, linear layers and embeddings last. While a network runs, the outputs of such modules are noted, and a
layer's output is laid out so that its space is the space of the last of these that it can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, instancenorm, pooling

CHANNELS_FIRST = (
    *(conv._ConvNd, batchnorm._BatchNorm, instancenorm._InstanceNorm, nn.GroupNorm),
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveMaxPoolNd, pooling._AdaptiveAvgPoolNd),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle),
)
CHANNELS_LAST = (nn.Linear, nn.Embedding)


class Pooling:
    """One of ``none``, ``average``, ``grid:G`` and ``class``, see ``extract_features``.

    Args:
        name: which.
        channels_last: whether the channels are the last axis of every output; None: as the network shows.

    Raises:
        ValueError: a name that is none of these.
    """

    def __init__(self, name: str, channels_last: bool | None = None) -> None:
        match = re.fullmatch(r"none|average|class|grid:([1-9]\d*)", name)
        if match is None:
            raise ValueError(f"no pooling {name!r}: it is none, average, class or grid:G, such as grid:4")
        self.name, self.channels_last = name, channels_last
        self.kind, self.side = name.partition(":")[0], int(match[1] or 0)
        self._noted: list[tuple[bool, torch.Size]] = []

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Note the outputs of the modules that show a layout; for one run of the model."""

        def note(last: bool, module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self._noted.append((last, output.shape))

        self._noted.clear()
        with ExitStack() as hooks:
            if self.kind != "none" and self.channels_last is None:
                for module in model.modules():
                    if (last := _puts_channels_last(module)) is not None:
                        hooks.callback(module.register_forward_hook(partial(note, last)).remove)
            yield

    def __call__(self, output: Tensor) -> Tensor:
        """What is kept of (n, ...); ValueError if nothing can be."""
        if self.kind == "none" or (self.kind == "average" and output.ndim < 3):
            return output
        if self.kind == "class":
            if output.ndim != 3 or not self._last(output):
                raise ValueError("there is no class token in it; that takes (n, tokens, d)")
            return output[:, 0]
        if self.kind == "grid" and output.ndim != 4:
            raise ValueError("it has no grid; that takes (n, C, height, width)")
        first = output.movedim(-1, 1) if self._last(output) else output
        if self.kind == "average":
            return first.flatten(2).mean(2)
        return nn.functional.adaptive_avg_pool2d(first, self.side)

    def _last(self, output: Tensor) -> bool:
        """Whether the channels are the last axis of an output with three axes or more."""
        if self.channels_last is not None:
            return self.channels_last
        n, *shape = output.shape
        alike = [(last, other) for last, (m, *other) in self._noted if (m, len(other)) == (n, len(shape))]
        for last, other in reversed(alike):
            space = other[:-1] if last else other[1:]
            fits = [candidate for candidate in (False, True) if (shape[:-1] if candidate else shape[1:]) == space]
            if len(fits) == 1:
                return fits[0]
            if fits and len({last for last, _ in alike}) == 1:  # as many channels as places, and no permutation
                return last
            if fits:
                break
        raise ValueError(
            "it is not known which axis counts the channels; say --channels-last or --channels-first (channels_last)"
        )


def _puts_channels_last(module: nn.Module) -> bool | None:
    """Where the channels are in a module's output; None if the module does not show it."""
    # Layer normalisations of other classes exist for both.
    if isinstance(module, CHANNELS_LAST) or type(module) is nn.LayerNorm:
        return True
    return False if isinstance(module, CHANNELS_FIRST) else None
