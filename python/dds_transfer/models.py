"""Networks by name: from torchvision, timm, transformers or a Python function."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dds_transfer.images import Preprocessing

# What training programs wrap a state dictionary in, and what DataParallel puts before its names.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."


def load_model(source: str, *, weights: str | Path | None = None, pretrained: bool = False) -> nn.Module:
    """A network by name, in evaluation mode.

    Args:
        source: one of

            - ``torchvision:NAME``, a name of ``torchvision.models.list_models()``;
            - ``timm:NAME``, a name of ``timm.list_models()``;
            - ``hf:FOLDER``, what transformers' ``save_pretrained`` wrote, with the weights in the folder if there are
              any; or ``hf:NAME`` of the Hugging Face hub. It becomes an ``AutoModel``; of a model of images and text,
              the part for images. Code from the hub is never run;
            - ``package.module:factory``, a function without arguments that returns a module, or a module. The current
              folder is searched too.
        weights: a state dictionary for the network: .safetensors, or what ``torch.save`` wrote (tensors only; nothing
            in it is executed), also one wrapped as ``{"state_dict": ...}`` or saved from ``DataParallel``. Every name
            and shape must fit.
        pretrained: use the library's own pretrained weights, downloading them if they are not on this machine. Without
            it nothing is downloaded.

    With neither, weights are random, and the same on every call. Torch's random numbers go on as if there had been
    none.

    Raises:
        ValueError: no such model, weights that do not fit, no network, or a factory that fails; the message says which.
        ModuleNotFoundError: the library is not installed.
    """
    library, name = _parts(source)
    if pretrained and (weights is not None or library not in _BUILDERS):
        raise ValueError(f"{source}: pretrained weights are those of {', '.join(_BUILDERS)}, without a file of weights")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _BUILDERS[library](name, pretrained) if library in _BUILDERS else _from_python(library, name)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each library, downloader and factory has exceptions of its own
        raise ValueError(f"cannot load {source}: {first_line(error)}") from error
    if weights is not None:
        _fill(model, Path(weights), source)
    return model.eval()


def model_name(source: str, weights: str | Path | None = None) -> str:
    """What to call a model in file names: the last part of its name, or the name of its file of weights.

    A folder of ``hf:`` is called as it is where it lies, also where the path to it is ``.`` or ``..``. Raises
    ValueError where nothing is left to call it by, as of the folder ``/``.
    """
    library, name = _parts(source)
    path = Path(name) if weights is None else Path(weights)
    if weights is None and library == "hf" and (folder := path.expanduser()).is_dir():
        path = Path(os.path.abspath(folder))  # a link keeps its name
    if not path.name:
        raise ValueError(f"{source}: {path} is no name to call the model by; give it one (--name, or NAME= in front)")
    return path.name if weights is None else path.stem


def _parts(source: str) -> tuple[str, str]:
    """Library and name of ``library:name``."""
    library, colon, name = source.partition(":")
    if not (library and colon and name):
        raise ValueError(
            f"no model {source!r}: write torchvision:NAME, timm:NAME, hf:NAME, hf:FOLDER or package.module:factory"
        )
    return library, name


def has_random_weights(source: str, weights: object = None, pretrained: bool = False) -> bool:
    """Whether :func:`load_model` gives a network random weights; a Python function may bring its own."""
    library, name = _parts(source)
    if weights is not None or pretrained or library not in _BUILDERS:
        return False
    return library != "hf" or not _holds_weights(Path(name).expanduser())


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """The preprocessing of pictures that a model states: size, mean and std.

    timm's models state it in ``pretrained_cfg``; transformers' in ``config.image_size`` and, beside the configuration,
    in a file ``preprocessor_config.json``. What a model does not state is as in ``Preprocessing()``. How the picture is
    resized and cropped is as there for every model, whatever share or interpolation it states.
    """
    stated = stated_preprocessing(model)
    default = Preprocessing()
    return Preprocessing(
        stated["size"] or default.size, tuple(stated["mean"] or default.mean), tuple(stated["std"] or default.std)
    )


def stated_preprocessing(model: nn.Module) -> dict[str, Any]:
    """``size``, ``mean`` and ``std`` as a model states them, None for what it does not state."""
    mean: Any = None
    std: Any = None
    size: Any = None
    if isinstance(stated := getattr(model, "pretrained_cfg", None), Mapping):
        mean, std, size = stated.get("mean"), stated.get("std"), stated.get("input_size")
    elif (config := getattr(model, "config", None)) is not None and hasattr(config, "name_or_path"):
        stated = _processor(config.name_or_path)
        mean, std = stated.get("image_mean"), stated.get("image_std")
        size = getattr(config, "image_size", None) or stated.get("crop_size") or stated.get("size")
        if isinstance(size, Mapping):
            size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, tuple | list):
        size = size[-1]
    return {"size": size, "mean": mean, "std": std}


def _processor(folder: str) -> dict[str, Any]:
    """transformers' settings of the preprocessing, from a folder or from what was downloaded, if there are any."""
    if not folder:
        return {}
    mixin = importlib.import_module("transformers.image_processing_utils").ImageProcessingMixin
    try:
        settings: dict[str, Any] = mixin.get_image_processor_dict(folder, local_files_only=True)[0]
    except OSError:
        return {}
    return settings


def _from_torchvision(name: str, pretrained: bool) -> nn.Module:
    models = _library("torchvision.models")
    _known(name, models.list_models())
    options = {"weights": "DEFAULT" if pretrained else None}
    # Networks for segmentation and detection would download a backbone.
    if not pretrained and "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    model: nn.Module = models.get_model(name, **options)
    return model


def _from_timm(name: str, pretrained: bool) -> nn.Module:
    timm = _library("timm")
    if name.startswith(("hf-hub:", "hf_hub:")) and not pretrained:
        raise ValueError("its definition lies on the hub; ask for pretrained weights to download it")
    if ":" not in name and not timm.is_model(name):
        _known(name.partition(".")[0], timm.list_models())
    model: nn.Module = timm.create_model(name, pretrained=pretrained)
    return model


def _from_transformers(name: str, pretrained: bool) -> nn.Module:
    transformers = _library("transformers")
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
    elif name.startswith((".", "/", "~")):
        raise ValueError("there is no such folder")
    if pretrained or _holds_weights(folder):
        model = transformers.AutoModel.from_pretrained(name, local_files_only=not pretrained)
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=True)
        except OSError as error:
            if folder.is_dir():
                raise
            raise ValueError(
                "it is neither a folder nor was it downloaded before; ask for pretrained weights to download it"
            ) from error
        model = transformers.AutoModel.from_config(config)
    images: Any = getattr(model, "vision_model", model)
    images.config.name_or_path = model.config.name_or_path  # beside which the preprocessing is stated
    module: nn.Module = images
    return module


def _holds_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def _from_python(module: str, name: str) -> nn.Module:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module), name)
        if not callable(factory):
            raise TypeError(f"it is of type {type(factory).__name__}, neither a torch.nn.Module nor a function for one")
        model = factory if isinstance(factory, nn.Module) else factory()
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            libraries = ", ".join(_BUILDERS)
            raise ValueError(f"there is no Python module {error.name}, and {module} is none of {libraries}") from error
        raise
    except SystemExit as error:
        raise ValueError(f"it ends the program, sys.exit({error.code!r})") from error
    finally:
        sys.path.remove(here)
    if not isinstance(model, nn.Module):
        raise TypeError(f"what it returned is of type {type(model).__name__}, not a torch.nn.Module")
    return model


_BUILDERS = {"torchvision": _from_torchvision, "timm": _from_timm, "hf": _from_transformers}


def _library(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"models of {package} need {error.name}: pip install 'dds_ext[models]'", name=error.name
        ) from error
    except Exception as error:  # torchvision beside a torch of another build: operators that are not there
        raise ValueError(f"{package} does not work beside torch {torch.__version__}: {first_line(error)}") from error


def _known(name: str, names: list[str]) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, names, 3)
        raise ValueError("it has no model of this name" + (f"; it has {', '.join(close)}" if close else ""))


def _fill(model: nn.Module, path: Path, source: str) -> None:
    """Put the weights of a file into a model; all must fit."""
    state = _state(path)
    own = model.state_dict()
    faults = {"of another shape": [name for name in own if name in state and own[name].shape != state[name].shape]}
    if not faults["of another shape"]:
        # Modules know what older files lack and may lack, such as the batch counters of batch normalisation.
        faults["not in the file"], faults["not in the model"] = model.load_state_dict(state, strict=False)
    texts = [
        f"{len(names)} {fault} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for fault, names in faults.items()
        if names
    ]
    if texts:
        raise ValueError(f"the weights in {path} do not fit {source}: {'; '.join(texts)}")


def _state(path: Path) -> dict[str, Tensor]:
    """The state dictionary in a file."""
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"cannot read {path}: it is damaged, or holds more than tensors, which would mean running code; "
            "save the model's state_dict()"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"cannot read {path}: it is damaged, or not a {path.suffix} file") from error
    while isinstance(content, dict) and (wrapper := next((key for key in _WRAPPERS if _wraps(content, key)), None)):
        content = content[wrapper]
    if not (isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values())):
        raise ValueError(f"{path} holds no state dictionary, that is, tensors by name")
    if all(name.startswith(_PREFIX) for name in content):
        return {name.removeprefix(_PREFIX): value for name, value in content.items()}
    return dict(content)


def _wraps(content: dict[str, Any], key: str) -> bool:
    return isinstance(content.get(key), dict)


def first_line(error: Exception) -> str:
    """What an exception says, in one line; its type if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
