"""Where to look into a network: the four blocks that the papers compare."""

from __future__ import annotations

from torch import nn

BLOCKS = 4
# What the lists of stages or transformer layers are called: stages (ResNets and others of timm and transformers),
# blocks (timm's ViTs), layers and layer (torchvision's and transformers' ViTs).
_LISTS = ("stages", "blocks", "layers", "layer")
# What four stages side by side are called, before their numbers: layer (ResNets), block (torchvision's RegNets) and s
# (timm's RegNets).
_STAGES = ("layer", "block", "s")


def block_hooks(model: nn.Module) -> dict[str, str]:
    """The modules after which a network is looked into: ``{"block1": name, ..., "block4": name}``.

    For a ResNet they are its four stages, as in the DDS and RSA papers: ``layer1`` to ``layer4`` in torchvision and
    timm, ``encoder.stages.0`` to ``.3`` in transformers. Other networks of four stages are treated alike: ConvNeXt and
    Swin, ``features.1``, ``.3``, ``.5`` and ``.7`` in torchvision; RegNet, ``trunk_output.block1`` to ``.block4`` in
    torchvision and ``s1`` to ``s4`` in timm. Where a stage ends by making its maps smaller, as Swin's in transformers,
    its last block before that is taken, which is what the other libraries' stages give. The depth of a vision
    transformer is split evenly in four: of L layers, the outputs of layers L/4, L/2, 3L/4 (rounded) and L. The network
    may be part of the model, as the backbone of a segmentation network is.

    Raises:
        ValueError: none or several of these are in the model: name the layers yourself.
    """
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found if outer) or "" in found
        if not inside and (blocks := _blocks(name, module)):
            found[name] = blocks
    if len(found) != 1:
        what = f"it has several: {', '.join(found)}" if found else "it has no four stages and no list of layers"
        raise ValueError(f"no blocks are known of a {type(model).__name__}, for {what}; name the layers to look at")
    return {f"block{i}": name for i, name in enumerate(next(iter(found.values())), 1)}


def _blocks(name: str, module: nn.Module) -> list[str]:
    """The names of the four blocks if this module holds them, side by side or in a list."""
    children = dict(module.named_children())
    prefix = f"{name}." if name else ""
    for kind in _STAGES:
        stages = [f"{kind}{i}" for i in range(1, BLOCKS + 1)]
        if all(stage in children for stage in stages) and f"{kind}{BLOCKS + 1}" not in children:
            return [prefix + stage for stage in stages]
    if name.rpartition(".")[2] == "features" and (sequences := _alternating(children)):
        return [prefix + stage for stage in sequences]
    if name.rpartition(".")[2] not in _LISTS or not isinstance(module, nn.ModuleList | nn.Sequential):
        return []
    kinds = {type(child) for child in children.values()}
    # Seven stages of an EfficientNet, each a plain Sequential, are no depth that could be split evenly.
    if len(children) < BLOCKS or len(kinds) != 1 or (nn.Sequential in kinds and len(children) != BLOCKS):
        return []
    names = list(children)
    chosen = [names[round(len(names) * i / BLOCKS) - 1] for i in range(1, BLOCKS + 1)]
    return [f"{prefix}{name}{_before_downsampling(children[name])}" for name in chosen]


def _alternating(children: dict[str, nn.Module]) -> list[str]:
    """The stages of torchvision's ConvNeXt and Swin: of eight modules every second one, a sequence of equal blocks."""
    stages = list(children.values())[1::2]
    if len(children) != 2 * BLOCKS or any(type(stage) is not nn.Sequential for stage in stages):
        return []
    kinds = {type(block) for stage in stages for block in stage.children()}
    return list(children)[1::2] if len(kinds) == 1 else []


def _before_downsampling(stage: nn.Module) -> str:
    """The path, in a stage that ends with ``downsample``, of the block before it; empty for other stages."""
    children = dict(stage.named_children())
    blocks = children.get("blocks")
    if list(children)[-1:] != ["downsample"] or not isinstance(blocks, nn.ModuleList):
        return ""
    return f".blocks.{len(blocks) - 1}"
