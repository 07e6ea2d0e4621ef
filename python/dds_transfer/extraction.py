"""Features of networks: what their layers make of images, in memory or in files that can be continued."""

from __future__ import annotations

import fcntl
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dds_transfer.blocks import block_hooks
from dds_transfer.images import Images, load_images, tensor_bytes
from dds_transfer.models import first_line, preprocessing_of
from dds_transfer.output import write_json
from dds_transfer.pooling import Pooling
from dds_transfer.terminal import working

Array = NDArray[Any]


def extract_features(
    model: nn.Module,
    data: Any,
    layers: str | Iterable[str] | Mapping[str, str] | None = None,
    *,
    pool: str = "none",
    channels_last: bool | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    autocast: bool = False,
    save_as: str | Path | None = None,
) -> dict[str, Array]:
    """The outputs of a network's layers for n images.

    Args:
        model: any module that takes one tensor, a batch of inputs. It runs in evaluation mode without gradients; modes,
            device and hooks are afterwards what they were, also after an error.
        data: ``Images`` from :func:`load_images`, or what that function takes; pictures then go through
            ``preprocessing_of(model)``.
        layers: names of modules as in ``model.named_modules()``, or patterns, in which ``*`` and ``?`` stand for parts
            of a name between dots (``layer?``, ``encoder.layer.*``); or a mapping from names of one's own to such names
            of modules, where the name ``""`` leaves the layer out of the names of files; by
            default :func:`block_hooks`. Of an output that is a tuple or a dictionary,
            ``last_hidden_state`` or else the first tensor is taken.
        pool: what is kept of an output.

            - ``none``: all of it, (n, ...).
            - ``average``: the mean over space of (n, C, height, width), or over the tokens of (n, tokens, d).
            - ``grid:G``: adaptive average pooling of (n, C, height, width) to (n, C, G, G).
            - ``class``: the first token of (n, tokens, d), the class token of most vision transformers.

            ``average`` leaves (n, d) alone.
        channels_last: whether the outputs that are pooled are (n, *space, C), as (n, tokens, d) and Swin's are, or
            (n, C, *space). By default the network shows it: the space of an output is that of the last convolution,
            linear layer or the like before it that has this space. Where there is none, or where there are as many
            channels as places and both kinds of layers ran, as in a ConvNeXt, it must be said.
        batch_size: images per run of the network.
        device: where to run, by default where the model is.
        autocast: run in mixed precision, torch's lower type of the device (float16 on CUDA, bfloat16 on the CPU).
        save_as: start of the paths of files to write, ``features/resnet50`` for ``features/resnet50.layer1.npy``. A
            layer that is there already, of the same weights, images and settings, is not computed again, and an
            interrupted extraction goes on where it stopped. ``features/resnet50.layer1.json`` says what the features
            are of; where it says something else of a file that is there, that file is not written over, and the call
            is refused. Rows that wait to be continued are in a hidden file that ends in ``.part``. Code is not
            compared: after a change to a network's forward function, delete the files.

    Returns:
        An array (n, ...) for each layer in the order of the network, float32 (float64 of a float64 network), mapped
        into memory if ``save_as`` is given.

    Raises:
        ValueError: ``save_as`` without a name at its end; layers that are not in the model, do not run, run several
            times or give no features; a model that fails on the images; images that cannot be read; files of other
            features under ``save_as``.
        TypeError: data of a kind that is not served.
    """
    pooling = Pooling(pool, channels_last)
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; it must be at least 1")
    if save_as is not None and os.path.basename(save_as) in ("", ".", ".."):
        raise ValueError(f"save_as {str(save_as)!r} ends in no name; it is the start of the names of files")
    modules = choose_layers(model, layers)
    place = place_of(model, device)
    images = data if isinstance(data, Images) else load_images(data, preprocessing_of(model))
    found: dict[str, Array] = {}
    with ExitStack() as files:
        sinks: dict[str, _Memory | _File] = {}
        if save_as is None:
            sinks = {layer: _Memory(len(images)) for layer in modules}
        else:
            about = _about(model, images, pooling, torch.get_autocast_dtype(place.type) if autocast else None)
            for layer, module in modules.items():
                path = Path(f"{save_as}.{layer}.npy" if layer else f"{save_as}.npy")
                file = _File(path, len(images), {"layer": module, **about}, partial(_attributes, model))
                if (saved := file.saved()) is not None:
                    found[layer] = saved
                else:
                    sinks[layer] = files.enter_context(file)
        if sinks:
            start = min(sink.rows for sink in sinks.values())
            hooked = {layer: modules[layer] for layer in sinks}
            batches = images.batches(start, batch_size)
            steps = -(-(len(images) - start) // batch_size)
            with working("extracting features", steps=steps) as step, running(model, place, autocast) as run:
                for first, inputs in batches:
                    for layer, rows in _outputs(model, run, inputs, hooked, pooling, first).items():
                        sinks[layer].add(first, rows)
                    step()
        found |= {layer: sink.finish() for layer, sink in sinks.items()}
    return {layer: found[layer] for layer in modules}


def choose_layers(model: nn.Module, layers: str | Iterable[str] | Mapping[str, str] | None) -> dict[str, str]:
    """The modules that ``layers`` of :func:`extract_features` stands for, by the name their features get."""
    if layers is None:
        return block_hooks(model)
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if isinstance(layers, Mapping):
        matches = {name: [name] if name in names else [] for name in layers.values()}
    else:
        patterns = [layers] if isinstance(layers, str) else layers
        matches = {pattern: [name for name in names if _matches(name, pattern)] for pattern in patterns}
    if not matches:
        raise ValueError("no layers are named")
    for pattern, matching in matches.items():
        if not matching:
            top = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"the {type(model).__name__} has no layer {pattern!r}; at the top it has {top or 'none'}")
    if isinstance(layers, Mapping):
        return dict(layers)
    chosen = set(chain(*matches.values()))
    return {name: name for name in names if name in chosen}


def _matches(name: str, pattern: str) -> bool:
    """Whether a name matches part by part, as paths do: an asterisk does not cross a dot."""
    own, parts = name.split("."), pattern.split(".")
    return len(own) == len(parts) and all(map(fnmatchcase, own, parts))


def place_of(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """The device asked for, if it is there; by default the model's."""
    if device is None:
        first = next(chain(model.parameters(), model.buffers()), None)
        return torch.device("cpu") if first is None else first.device
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # no such device, or no torch that knows it
        raise ValueError(f"cannot use the device {device}: {first_line(error)}") from error


@contextmanager
def running(model: nn.Module, place: torch.device, autocast: bool) -> Iterator[Callable[[Tensor], Any]]:
    """Runs the model on inputs of any device and floating type; puts its modes and its place back afterwards."""
    before = place_of(model, None)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    modes = [(module, module.training) for module in model.modules()]

    def run(inputs: Tensor) -> Any:
        # Token numbers stay whole.
        return model(inputs.to(place, dtype if inputs.is_floating_point() else None))

    try:
        if place != before:
            model.to(place)
        model.eval()
        with torch.no_grad(), torch.autocast(place.type, enabled=autocast):
            yield run
    finally:
        for module, training in modes:
            module.training = training
        if place != before:
            model.to(before)


class _NoFeatures(Exception):
    """What a layer gives cannot be taken: tells it, inside the network's run, from errors of the network itself."""


def _outputs(
    model: nn.Module,
    run: Callable[[Tensor], Any],
    inputs: Tensor,
    layers: Mapping[str, str],
    pooling: Pooling,
    first: int,
) -> dict[str, Array]:
    """The pooled outputs of the layers for one batch, on the CPU."""
    seen: dict[str, Array] = {}

    def hook(layer: str, module: nn.Module, _: Any, output: Any) -> None:
        if layer in seen:
            raise _NoFeatures(
                f"layer {layers[layer]} runs several times for one batch, so that its output is not one thing; "
                "name a module that runs once"
            )
        tensor = tensor_of(output)
        if tensor is None or tensor.is_complex() or tensor.ndim < 2 or len(tensor) != len(inputs):
            what = type(output).__name__ if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
            raise _NoFeatures(
                f"layer {layers[layer]} gives {what} for {len(inputs)} images, not a row of features for each"
            )
        try:
            pooled = pooling(tensor)
        except ValueError as error:
            raise _NoFeatures(f"layer {layers[layer]} gives {tuple(tensor.shape)}: {error}") from error
        if pooled.numel() == 0:
            raise _NoFeatures(f"layer {layers[layer]} gives {tuple(tensor.shape)}: it is empty")
        # Copied now, because the next module may work in place (ReLU often does).
        wide = torch.float64 if pooled.dtype == torch.float64 else torch.float32
        seen[layer] = pooled.detach().to("cpu", wide, copy=True).contiguous().numpy()

    handles: list[RemovableHandle] = []
    try:
        with pooling.watching(model):  # whose hooks run before these, which need what they note
            for layer, name in layers.items():
                handles.append(model.get_submodule(name).register_forward_hook(partial(hook, layer)))
            run(inputs)
    except _NoFeatures as error:
        raise ValueError(str(error)) from error.__cause__
    except Exception as error:  # anything may go wrong in somebody's network
        shape = tuple(inputs.shape[1:])
        raise ValueError(
            f"the {type(model).__name__} fails on images {first} to {first + len(inputs) - 1} of shape {shape}: "
            + first_line(error)
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    for layer, name in layers.items():
        if layer not in seen:
            raise ValueError(f"layer {name} does not run when the {type(model).__name__} is given images")
    return seen


def tensor_of(output: Any) -> Tensor | None:
    """The tensor in a layer's output: itself, ``last_hidden_state``, or the first in a tuple or dictionary."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        if isinstance(state := output.get("last_hidden_state"), Tensor):
            return state
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        return next((tensor for part in output if (tensor := tensor_of(part)) is not None), None)
    return None


class _Memory:
    """A layer's features in memory, filled from the first row on."""

    def __init__(self, n: int) -> None:
        self.n, self.rows = n, 0
        self.array: Array | None = None

    def add(self, first: int, rows: Array) -> None:
        """Put down rows ``first`` to ``first + len(rows)``."""
        if self.array is None:
            self.array = np.empty((self.n, *rows.shape[1:]), rows.dtype)
        _same_shape(self.array.shape, rows, first)
        self.array[first : first + len(rows)] = rows

    def finish(self) -> Array:
        """All rows."""
        assert self.array is not None  # there is at least one image
        return self.array


class _File:
    """A layer's features in a .npy file, which grows under another name until it is whole.

    The length of the growing file says how many rows there are, and its name holds a digest of what they are of, so
    that rows of other weights, images or settings are never continued. Beside the whole file a note, a JSON file, says
    it in full. A file whose note says something else is somebody's features, and never written over.

    ``attributes`` gives the network's as they are now. One that is another after the network ran, such as a counter of
    its calls, is no setting: the note does not hold it, and only those that it holds are compared.
    """

    def __init__(self, path: Path, n: int, about: dict[str, Any], attributes: Callable[[], dict[str, str]]) -> None:
        text = json.dumps(about, sort_keys=True)
        digest = blake2b(text.encode(), digest_size=8).hexdigest()
        self.path, self.n, self.about, self.rows = path, n, json.loads(text), 0
        self.attributes = attributes
        self.note = path.with_suffix(".json")
        self.part = path.with_name(f".{path.name}.{digest}.part")
        self.shape: tuple[int, ...] | None = None

    def saved(self) -> Array | None:
        """The whole array, if it is there; ValueError if it is of other weights, images or settings."""
        if not self.path.exists():
            return None
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            attributes = note.get("attributes", {})
            other = [name for name, value in self.about.items() if name != "attributes" and note.get(name) != value]
            here = self.about["attributes"]
            other += [f"the attribute {name}" for name, value in attributes.items() if here.get(name) != value]
        except (OSError, ValueError, AttributeError):
            raise ValueError(
                f"{self.path} is there, and {self.note.name} does not say what of; move it away, or write under "
                "another name (--name, save_as)"
            ) from None
        if other:
            raise ValueError(
                f"{self.path} holds features that differ in {', '.join(other)}, as {self.note.name} says; move it "
                "away, or write under another name (--name, save_as)"
            )
        try:
            return _mapped(self.path)
        except (OSError, ValueError, EOFError):  # damaged
            return None

    def __enter__(self) -> _File:
        try:
            self.file: IO[bytes] = open(self.part, "a+b")
        except OSError as error:  # the user knows nothing of the temporary name
            raise type(error)(error.errno, error.strerror, str(self.path)) from None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise ValueError(f"another process is writing {self.path}") from None
        self.file.seek(0)
        try:
            np.lib.format.read_magic(self.file)
            self.shape, _, dtype = np.lib.format.read_array_header_1_0(self.file)
            offset, row = self.file.tell(), dtype.itemsize * int(np.prod(self.shape[1:]))
            self.rows = (self.file.seek(0, os.SEEK_END) - offset) // row
            self.file.truncate(offset + self.rows * row)
        except ValueError:  # new, or stopped in the header
            self.file.truncate(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.rows == 0:
            self.part.unlink(missing_ok=True)

    def add(self, first: int, rows: Array) -> None:
        """Put down rows ``first`` to ``first + len(rows)``, less those that are there."""
        if self.shape is None:
            self.shape = (self.n, *rows.shape[1:])
            header = {"descr": rows.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(self.file, header)
        _same_shape(self.shape, rows, first)
        self.file.write(rows[self.rows - first :].tobytes())
        self.file.flush()
        self.rows = max(self.rows, first + len(rows))

    def finish(self) -> Array:
        """Give the file its name, and the array mapped into memory."""
        self.saved()  # another process may have written it meanwhile
        now = self.attributes()
        kept = {name: value for name, value in self.about["attributes"].items() if now.get(name) == value}
        write_json(self.note, {**self.about, "attributes": kept})  # first, since a note without a file is no harm
        os.replace(self.part, self.path)
        for other in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
            other.unlink()  # of other settings, which could not be given this name any more
        return _mapped(self.path)


def _mapped(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r")
    return array


def _same_shape(shape: tuple[int, ...], rows: Array, first: int) -> None:
    if rows.shape[1:] != shape[1:]:
        raise ValueError(
            f"features of image {first} have shape {rows.shape[1:]}, those before {shape[1:]}; "
            "give all images one size, or pool"
        )


def _about(model: nn.Module, images: Images, pooling: Pooling, autocast: torch.dtype | None) -> dict[str, Any]:
    """All that a layer's features depend on, as JSON: two extractions that agree in it are taken to be the same."""
    state = blake2b(f"{type(model).__module__}.{type(model).__qualname__}\n{model!r}".encode(), digest_size=16)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        state.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        state.update(tensor_bytes(tensor))
    return {
        "model": type(model).__name__,
        "weights": state.hexdigest(),
        "attributes": _attributes(model),
        "images": len(images),
        "data": images.digest(),
        "preprocessing": images.preprocessing and {**vars(images.preprocessing)},
        "pool": pooling.name,
        "channels_last": pooling.channels_last,
        "autocast": autocast and str(autocast),
    }


def _attributes(model: nn.Module) -> dict[str, str]:
    """What is in neither weights nor repr, such as numbers of attention heads: a digest of each plain attribute's
    values in all modules, by its name.
    """
    states: dict[str, Any] = {}
    for module_name, module in model.named_modules():
        for name, value in vars(module).items():
            # Not the mode, which is set here, and not the path that transformers loaded the weights from.
            if name not in ("training", "name_or_path") and _plain(value):
                state = states.setdefault(name, blake2b(digest_size=8))
                state.update(f"{module_name} {value!r}\n".encode())
    return {name: states[name].hexdigest() for name in sorted(states)}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
