"""Training one network for one task, with checkpoints along the way; the same by the same seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from dds_transfer.minitaskonomy.dataset import Dataset, read_tensors
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.networks import make_network
from dds_transfer.output import writing

# Shares of the training after which the network is kept, by name.
STAGES = {"tenth": 0.1, "half": 0.5, "end": 1.0}
BATCH = 32
RATE = 3e-3  # of networks


def losses(task: str, output: Tensor, target: Tensor) -> Tensor:
    """(n,), the task's loss of each image: the mean over its pixels and channels; see :class:`.labels.Task`."""
    kind = TASKS[task].loss
    if kind == "cross_entropy":
        each = F.cross_entropy(output, target, reduction="none")
    elif kind == "binary":
        each = F.binary_cross_entropy_with_logits(output, target, reduction="none")
    else:
        each = (output - target).abs() if kind == "l1" else (output - target) ** 2
    return each.flatten(1).mean(dim=1) if each.ndim > 1 else each


def best_constant(task: str, labels: Tensor) -> Tensor:
    """(channels,), the best output that does not look at the image: for each channel the number, or for classes the
    logarithms of the frequencies, that suit the labels best."""
    kind, channels = TASKS[task].loss, TASKS[task].channels
    if kind == "cross_entropy":
        counts = torch.bincount(labels.flatten(), minlength=channels).float() + 1  # what is nowhere is not impossible
        return (counts / counts.sum()).log()
    values = labels.movedim(1, 0).flatten(1)
    level = values.median(dim=1).values if kind == "l1" else values.mean(dim=1)
    return level.logit(eps=1e-6) if kind == "binary" else level


@torch.no_grad()
def start_at_constant(network: nn.Module, task: str, labels: Tensor) -> None:
    """Have the network answer with :func:`best_constant` before it is trained: what it learns is what the image says.

    From random outputs a short training ends, for tasks whose labels hardly vary, before it has found the constant.
    """
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
    assert last.bias is not None
    last.weight.zero_()
    level = best_constant(task, labels)
    last.bias.copy_(level.repeat_interleave(len(last.bias) // len(level)))  # a pixel shuffle's places share a channel


def stable_seed(*what: object) -> int:
    """A seed for torch that depends on these values alone; different values give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=7).digest(), "big")


def fit(
    network: nn.Module,
    task: str,
    inputs: Tensor,
    targets: Tensor,
    steps: int,
    rate: float,
    seed: int,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Train with Adam on batches of 32 drawn by the seed, the rate rising over a tenth of the steps and falling to 0.

    Args:
        network: trained in place; left in evaluation mode.
        task: whose loss it is.
        inputs, targets: of n images. Each round takes them in a new order and leaves out what does not fill a batch.
        steps: number of batches.
        rate: the highest.
        seed: of the order.
        after: called after each step with the number of steps done.
    """
    random = torch.Generator().manual_seed(seed)
    # With the channels last a step takes two thirds of the time.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    batches: list[Tensor] = []
    for step in range(1, steps + 1):
        if not batches:  # an incomplete batch is left out, unless there is no other
            order = torch.randperm(len(inputs), generator=random)
            batches = [order[i : i + BATCH] for i in range(0, max(1, len(order) - BATCH + 1), BATCH)]
        rows = batches.pop()
        network.train()
        loss = losses(task, network(inputs[rows]), targets[rows]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        after(step)
    network.eval()


def _rate(step: int, steps: int) -> float:
    """The share of the rate: a linear rise and half a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def train_network(folder: Path, architecture: str, task: str, data: Dataset, steps: int, seed: int) -> None:
    """Train a network for a task and keep it, at each stage, in ``folder`` as :func:`network_path` says.

    The last stage is written last, so that where it is all are.
    """
    start = stable_seed(seed, architecture, task)
    with torch.random.fork_rng():
        torch.manual_seed(start)
        network = make_network(architecture, task)

    def keep(step: int) -> None:
        for stage, share in STAGES.items():
            if step == max(1, round(share * steps)):
                save_network(network, network_path(folder, architecture, task, stage))

    targets = data.label(task)
    start_at_constant(network, task, targets)
    fit(network, task, data.input(TASKS[task].input), targets, steps, RATE, start, keep)


def network_path(folder: Path, architecture: str, task: str, stage: str = "end") -> Path:
    """Where a network is kept; ``task`` is ``random`` for weights that were never trained."""
    return folder / "networks" / f"{architecture}-{task}-{stage}.safetensors"


def save_network(network: nn.Module, path: Path) -> None:
    """Write the weights as safetensors."""
    with writing(path, binary=True) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))


def load_encoder(folder: Path, architecture: str, task: str, stage: str = "end") -> nn.Module:
    """The encoder of a trained network, in evaluation mode."""
    # The decoder's kind does not matter to the encoder: only the encoder's weights are read.
    encoder = make_network(architecture, "autoencoder").get_submodule("encoder")
    weights = read_tensors(network_path(folder, architecture, task, stage))
    prefix = "encoder."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return encoder.eval()
