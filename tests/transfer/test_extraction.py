"""Features of layers against running the network by hand; hooks, modes, files and what is continued."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dds_transfer import Preprocessing, extract_features, load_features, load_images
from numpy.typing import NDArray
from small_networks import Backbone, Layer, ResNet, ViT
from torch import Tensor, nn

N = 7  # images in X
pytestmark = pytest.mark.usefixtures("seed")
BLOCKS = ["block1", "block2", "block3", "block4"]


@pytest.fixture
def network() -> ResNet:
    network = ResNet()
    nn.init.uniform_(network.bn1.running_mean)  # so that training mode would show
    return network


def by_hand(network: ResNet, X: Tensor) -> dict[str, NDArray[Any]]:
    """The blocks of the small ResNet, without hooks and image by image."""
    network.eval()
    rows: dict[str, list[Tensor]] = {name: [] for name in BLOCKS}
    with torch.no_grad():
        for x in X:
            x = torch.relu(network.bn1(network.conv1(x[None])))
            for i, name in enumerate(BLOCKS, 1):
                x = getattr(network, f"layer{i}")(x)
                rows[name].append(x)
                x = torch.relu(x)
    return {name: torch.cat(parts).numpy() for name, parts in rows.items()}


def close(features: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    assert list(features) == list(expected)
    for name, rows in features.items():
        assert rows.dtype == np.float32
        # A batch may be summed in another order: at most 36 products of size 1 per output, four layers deep.
        np.testing.assert_allclose(rows, expected[name], atol=1e-5, err_msg=name)


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 32])
def test_blocks_are_what_the_network_computes(network: ResNet, X: Tensor, batch_size: int) -> None:
    expected = by_hand(network, X)
    close(extract_features(network, X, batch_size=batch_size), expected)
    close(extract_features(network, X.numpy(), {"last": "layer4"}), {"last": expected["block4"]})


def test_the_network_is_left_as_it_was(network: ResNet, X: Tensor) -> None:
    network.train()
    network.layer2.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    extract_features(network, X)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert hooks(network) == 0
    assert torch.is_grad_enabled()
    network(X).sum().backward()


def test_it_runs_in_evaluation_mode_without_gradients(network: ResNet, X: Tensor) -> None:
    network.train()
    seen: list[tuple[bool, bool]] = []
    network.layer1.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    extract_features(network, X)
    assert seen == [(False, False)]


@pytest.mark.parametrize("kind", [KeyError, ValueError])
def test_an_exception_leaves_no_hooks_and_no_modes_behind(
    network: ResNet, X: Tensor, kind: Callable[[str], Exception]
) -> None:
    network.train()

    def fail(*_: object) -> None:
        raise kind("inside\nsecond line")

    handle = network.layer3.register_forward_hook(fail)
    with pytest.raises(ValueError, match=r"the ResNet fails on images 0 to 6 of shape \(3, 16, 16\): '?inside"):
        extract_features(network, X)
    handle.remove()
    with pytest.raises(ValueError, match=r"the ResNet fails on images 0 to 6 .* channels"):
        extract_features(network, X[:, :2])
    handle = network.layer3.register_forward_hook(lambda *_: int("seven"))
    with pytest.raises(ValueError, match=r"the ResNet fails on images 0 to 6 of shape \(3, 16, 16\): invalid literal"):
        extract_features(network, X)
    handle.remove()
    assert hooks(network) == 0
    assert all(module.training for module in network.modules())
    assert torch.is_grad_enabled()


def test_outputs_are_taken_before_the_next_module_works_in_place(network: ResNet, X: Tensor) -> None:
    network.eval()
    with torch.no_grad():
        before = network.bn1(network.conv1(X)).clone()
    assert before.min() < 0  # what the ReLU in place will take away
    close(extract_features(network, X, "bn1"), {"bn1": before.numpy()})


def test_names_and_patterns(network: ResNet, X: Tensor) -> None:
    shape = (N, 4, 8, 8)
    assert list(extract_features(network, X, "layer?")) == ["layer1", "layer2", "layer3", "layer4"]
    assert list(extract_features(network, X, "layer*")) == ["layer1", "layer2", "layer3", "layer4"]
    assert list(extract_features(network, X, ["layer[34].0", "conv1"])) == ["conv1", "layer3.0", "layer4.0"]
    assert {name: rows.shape for name, rows in extract_features(network, X, ["fc", "layer2"]).items()} == {
        "layer2": shape,
        "fc": (N, 10),
    }


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("nothing", "the ResNet has no layer 'nothing'; at the top it has conv1, bn1, relu, layer1"),
        (["layer1", "layer9*"], r"no layer 'layer9\*'"),
        ({"mine": "layer?"}, r"no layer 'layer\?'"),
        ([], "no layers are named"),
        ("relu", "relu runs several times for one batch"),
    ],
)
def test_layers_that_cannot_be_taken(network: ResNet, X: Tensor, layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        extract_features(network, X, layers)
    assert error.type is ValueError  # and none of a name that nobody knows
    assert hooks(network) == 0


class Fixed(nn.Module):
    """Gives the same output whatever comes in; a module of its own gives it first."""

    def __init__(self, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.unused = nn.Identity(), nn.Linear(2, 2)
        self.layer.register_forward_hook(lambda module, args, x: output(x))

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


class Record(dict[str, Any]):
    """Like the outputs of transformers, a dictionary."""


@pytest.mark.parametrize(
    "output",
    [
        lambda x: (x, None),
        lambda x: [None, (x, x + 1)],
        lambda x: {"out": x, "aux": x + 1},
        lambda x: Record(pooler_output=x + 1, last_hidden_state=x),
        lambda x: ({"maps": x},),
    ],
)
def test_tuples_and_dictionaries(X: Tensor, output: Callable[[Tensor], Any]) -> None:
    close(extract_features(Fixed(output), X, "layer"), {"layer": X.numpy()})


@pytest.mark.parametrize(
    ("output", "layer", "message"),
    [
        (lambda x: "text", "layer", "layer layer gives str for 7 images, not a row of features for each"),
        (lambda x: x.mean(), "layer", r"gives torch.float32 \(\) for 7 images"),
        (lambda x: x.transpose(0, 1), "layer", r"gives torch.float32 \(3, 7, 16, 16\) for 7 images"),
        (lambda x: x.to(torch.complex64), "layer", "gives torch.complex64"),
        (lambda x: x[:, :0], "layer", r"gives \(7, 0, 16, 16\): it is empty"),
        (lambda x: x, "unused", "layer unused does not run when the Fixed is given images"),
    ],
)
def test_outputs_that_are_no_features(X: Tensor, output: Callable[[Tensor], Any], layer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features(Fixed(output), X, layer)


def test_a_network_inside_another(X: Tensor) -> None:
    network = Backbone()
    close(extract_features(network, X), by_hand(network.backbone, X))


def test_pooling_of_maps(network: ResNet, X: Tensor) -> None:
    maps = by_hand(network, X)
    average = {name: rows.mean((2, 3)) for name, rows in maps.items()}
    close(extract_features(network, X, pool="average"), average)
    grid = {name: rows.reshape(N, 4, 2, 4, 2, 4).mean((3, 5)) for name, rows in maps.items()}
    close(extract_features(network, X, pool="grid:2"), grid)


def test_pooling_of_tokens(X: Tensor) -> None:
    network = ViT(4)
    tokens = extract_features(network, X)
    assert {rows.shape for rows in tokens.values()} == {(N, 17, 8)}
    close(extract_features(network, X, pool="average"), {name: rows.mean(1) for name, rows in tokens.items()})
    close(extract_features(network, X, pool="class"), {name: rows[:, 0] for name, rows in tokens.items()})
    last = {"block4": network(X).detach().numpy()}
    close({"block4": tokens["block4"]}, last)


def test_vectors_need_no_pooling(network: ResNet, X: Tensor) -> None:
    close(extract_features(network, X, "fc", pool="average"), extract_features(network, X, "fc"))


@pytest.mark.parametrize(
    ("layer", "pool", "message"),
    [
        ("conv1", "grid:0", "no pooling 'grid:0'"),
        ("layer1", "class", r"layer layer1 gives \(7, 4, 8, 8\): there is no class token in it"),
        ("fc", "grid:4", r"layer fc gives \(7, 10\): it has no grid"),
        ("fc", "max", "no pooling 'max': it is none, average, class or grid:G"),
    ],
)
def test_pooling_that_does_not_fit(network: ResNet, X: Tensor, layer: str, pool: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features(network, X, layer, pool=pool)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_types_are_given_their_own(network: ResNet, X: Tensor, dtype: torch.dtype) -> None:
    expected = by_hand(network, X)
    features = extract_features(network.to(dtype), X)
    for name, rows in features.items():
        assert rows.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        # bfloat16 keeps 8 bits; five convolutions deep, with values around 1.
        np.testing.assert_allclose(rows, expected[name], atol=5 * 2**-8 if dtype != torch.float64 else 1e-5)


def test_autocast_runs_in_the_lower_type(network: ResNet, X: Tensor) -> None:
    seen: list[torch.dtype] = []
    network.layer1[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    features = extract_features(network, X, autocast=True)
    assert seen == [torch.bfloat16]
    assert {rows.dtype for rows in features.values()} == {np.dtype(np.float32)}
    extract_features(network, X)
    assert seen[1:] == [torch.float32]


def test_tokens_of_text_stay_whole_numbers() -> None:
    network = nn.Sequential(nn.Embedding(9, 4), Layer(4))
    tokens = torch.randint(9, (N, 5))
    features = extract_features(network, tokens, "0")
    np.testing.assert_array_equal(features["0"], network[0](tokens).detach().numpy())


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_devices_that_are_not_there(network: ResNet, X: Tensor, device: str) -> None:
    with pytest.raises(ValueError, match=f"cannot use the device {device}: "):
        extract_features(network, X, device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(network: ResNet, X: Tensor) -> None:
    expected = by_hand(network, X)
    features = extract_features(network, X, device="cuda")
    assert next(network.parameters()).device.type == "cpu"
    for name, rows in features.items():
        # TensorFloat-32 keeps 11 bits; five convolutions deep, with values around 1.
        np.testing.assert_allclose(rows, expected[name], atol=5 * 2**-11)
    close(extract_features(network.cuda(), X), features)


def test_pictures_are_prepared_as_the_model_states(network: ResNet) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (N, 30, 40, 3), dtype=np.uint8)
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 16, 16)}
    stated = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    expected = extract_features(network, load_images(pictures, stated))
    close(extract_features(network, pictures), expected)


def test_a_batch_size_of_none(network: ResNet, X: Tensor) -> None:
    with pytest.raises(ValueError, match="the batch size is 0"):
        extract_features(network, X, batch_size=0)


# Files


class Counting(ResNet):
    """Counts the images that went through, and stops where it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = [0, 10**9]  # in a list: plain numbers belong to what features depend on

    @property
    def images(self) -> int:
        return self.counts[0]

    @images.setter
    def images(self, count: int) -> None:
        self.counts[0] = count

    @property
    def stop_after(self) -> int:
        return self.counts[1]

    @stop_after.setter
    def stop_after(self, count: int) -> None:
        self.counts[1] = count

    def forward(self, x: Tensor) -> Tensor:
        if self.images + len(x) > self.stop_after:
            raise KeyboardInterrupt
        self.images += len(x)
        return super().forward(x)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net"


def names(folder: Path) -> Iterator[str]:
    return (file.name for file in sorted(folder.iterdir()))


def test_files_hold_what_memory_would(counting: Counting, X: Tensor, path: Path) -> None:
    expected = extract_features(counting, X)
    features = extract_features(counting, X, batch_size=3, save_as=path)
    assert all(isinstance(rows, np.memmap) for rows in features.values())
    close(features, expected)
    assert list(names(path.parent)) == [f"net.{block}.{ending}" for block in BLOCKS for ending in ("json", "npy")]
    models = load_features([path.parent])
    close({model.name.removeprefix("net."): model.X for model in models}, expected)
    about = json.loads((path.parent / "net.block2.json").read_text())
    assert about["layer"] == "layer2" and about["images"] == N and about["pool"] == "none"


def test_what_is_there_is_not_computed_again(counting: Counting, X: Tensor, path: Path) -> None:
    first = extract_features(counting, X, save_as=path)
    counting.images = 0
    close(extract_features(counting, X, save_as=path), first)
    assert counting.images == 0
    extract_features(counting, X, ["layer1"], save_as=path)  # under another name
    assert counting.images == N


def change_weights(network: Counting, X: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        network.layer1[0].bias[0] += 1e-3
    return {}


def change_statistics(network: Counting, X: Tensor) -> dict[str, Any]:
    network.bn1.running_var += 1e-3
    return {}


def change_structure(network: Counting, X: Tensor) -> dict[str, Any]:
    network.relu = nn.GELU()
    return {}


def change_an_image(network: Counting, X: Tensor) -> dict[str, Any]:
    X[3, 0, 0, 0] += 1
    return {}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (change_weights, "weights"),
        (change_statistics, "weights"),
        (change_structure, "weights, the attribute inplace"),
        (change_an_image, "data"),
        (lambda network, X: {"pool": "average"}, "pool"),
        (lambda network, X: {"autocast": True}, "autocast"),
        (lambda network, X: {"layers": {"block1": "layer4"}}, "layer"),
    ],
)
def test_other_features_are_neither_used_nor_written_over(
    counting: Counting, X: Tensor, path: Path, change: Callable[[Counting, Tensor], dict[str, Any]], differs: str
) -> None:
    extract_features(counting, X, save_as=path)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    options = change(counting, X)
    counting.images = 0
    message = rf"net\.block1\.npy holds features that differ in {differs}, as net\.block1\.json says; move it away, or"
    with pytest.raises(ValueError, match=message):
        extract_features(counting, X, save_as=path, **options)
    assert counting.images == 0
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    for file in before:
        file.unlink()
    close(extract_features(counting, X, save_as=path, **options), extract_features(counting, X, **options))


@pytest.mark.parametrize("note", [None, "{", "[]", "{}"])
def test_a_file_that_nothing_is_known_of_is_not_written_over(
    counting: Counting, X: Tensor, path: Path, note: str | None
) -> None:
    np.save(f"{path}.block2.npy", np.zeros(3))
    if note is not None:
        Path(f"{path}.block2.json").write_text(note)
    with pytest.raises(ValueError, match=r"net\.block2\.npy (is there, and|holds features that differ in)"):
        extract_features(counting, X, save_as=path)
    np.testing.assert_array_equal(np.load(f"{path}.block2.npy"), np.zeros(3))


def test_an_interrupted_extraction_goes_on_where_it_stopped(counting: Counting, X: Tensor, path: Path) -> None:
    expected = extract_features(counting, X, batch_size=2)
    counting.images, counting.stop_after = 0, 5
    with pytest.raises(KeyboardInterrupt):
        extract_features(counting, X, batch_size=2, save_as=path)
    assert counting.images == 4
    assert hooks(counting) == 0
    left = list(names(path.parent))
    assert [name.startswith(f".net.{block}.npy.") for name, block in zip(left, BLOCKS, strict=True)] == [True] * 4
    assert load_nothing(path.parent)
    counting.images, counting.stop_after = 0, 100
    close(extract_features(counting, X, batch_size=3, save_as=path), expected)
    assert counting.images == N - 4
    assert not [name for name in names(path.parent) if name.startswith(".")]


def load_nothing(folder: Path) -> bool:
    with pytest.raises(ValueError, match="without feature files"):
        load_features([folder])
    return True


def test_a_row_that_was_cut_off_is_computed_again(counting: Counting, X: Tensor, path: Path) -> None:
    """As after the process was killed while it wrote: the layers are at different rows, one in the middle of one."""
    expected = extract_features(counting, X)
    counting.stop_after = counting.images + 4
    with pytest.raises(KeyboardInterrupt):
        extract_features(counting, X, batch_size=2, save_as=path)
    parts = sorted(path.parent.iterdir())
    for part, lost in zip(parts, (0, 5, 2000, 10**9), strict=True):  # a row has 1024 bytes
        part.write_bytes(part.read_bytes()[: max(part.stat().st_size - lost, 40)])
    counting.images, counting.stop_after = 0, 100
    close(extract_features(counting, X, batch_size=2, save_as=path), expected)
    assert counting.images == N  # the last layer had lost its header


def test_what_neither_weights_nor_repr_say_is_compared(X: Tensor, path: Path) -> None:
    """As the number of attention heads: a plain attribute of a module."""

    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor, self.inner = factor, nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x * self.factor)
            return out

    extract_features(Scaled(1.0), X, ["inner"], save_as=path)
    with pytest.raises(ValueError, match="differ in the attribute factor,"):
        extract_features(Scaled(5.0), X, ["inner"], save_as=path)


def test_what_no_feature_depends_on_is_not_compared(X: Tensor, path: Path) -> None:
    """Where the weights were loaded from, what changes while the network runs, and what has an address in its repr."""

    class Busy(nn.Module):
        def __init__(self, origin: str) -> None:
            super().__init__()
            self.name_or_path, self.calls, self.hooks = origin, 0, (lambda: None,)
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            out: Tensor = self.inner(x)
            return out

    network = Busy("checkpoint")
    extract_features(network, X, ["inner"], save_as=path)
    calls = network.calls
    for again in (network, Busy("/elsewhere/checkpoint")):
        extract_features(again, X, ["inner"], save_as=path)
    assert network.calls == calls > 0  # nothing was computed again


def test_rows_of_other_weights_are_not_continued(counting: Counting, X: Tensor, path: Path) -> None:
    counting.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        extract_features(counting, X, batch_size=2, save_as=path)
    change_weights(counting, X)
    counting.images, counting.stop_after = 0, 100
    features = extract_features(counting, X, save_as=path)
    assert counting.images == N
    close(features, extract_features(counting, X))
    assert not [name for name in names(path.parent) if name.endswith(".part")]  # nor kept


def test_a_file_that_came_meanwhile_is_not_written_over(counting: Counting, X: Tensor, path: Path) -> None:
    other = ResNet()

    class Slow(Counting):
        def forward(self, x: Tensor) -> Tensor:
            if not self.images:
                extract_features(other, X, save_as=path)
            return super().forward(x)

    with pytest.raises(ValueError, match=r"net\.block1\.npy holds features that differ in model, weights"):
        extract_features(Slow(), X, save_as=path)
    close(extract_features(other, X, save_as=path), by_hand(other, X))


def test_a_stop_between_a_file_and_its_note(
    counting: Counting, X: Tensor, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever was done, the same extraction goes on, and no other is taken for it."""
    expected = extract_features(counting, X)
    replace = os.replace
    for ending in (".json", ".npy"):

        def stop(old: Path, new: Path, ending: str = ending) -> None:
            if new.suffix == ending:
                raise KeyboardInterrupt
            replace(old, new)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("os.replace", stop)
            extract_features(counting, X, save_as=path)
        assert not list(path.parent.glob("*.npy"))
    counting.images = 0
    close(extract_features(counting, X, save_as=path), expected)
    assert counting.images == 0  # all rows were there


def test_a_failure_in_the_first_batch_leaves_no_file(counting: Counting, X: Tensor, path: Path) -> None:
    counting.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        extract_features(counting, X, save_as=path)
    assert list(path.parent.iterdir()) == []


def test_a_damaged_file_is_computed_again(counting: Counting, X: Tensor, path: Path) -> None:
    expected = extract_features(counting, X)
    extract_features(counting, X, save_as=path)
    whole = Path(f"{path}.block2.npy")
    whole.write_bytes(whole.read_bytes()[:-8])
    counting.images = 0
    close(extract_features(counting, X, save_as=path), expected)
    assert counting.images == N


def test_two_extractions_do_not_write_one_file(counting: Counting, X: Tensor, path: Path) -> None:
    class Twice(Counting):
        def forward(self, x: Tensor) -> Tensor:
            if not self.images:
                self.images = 1
                with pytest.raises(ValueError, match=r"another process is writing .*net\.block1\.npy"):
                    extract_features(self, X, save_as=path)
            return super().forward(x)

    network = Twice()
    extract_features(network, X, save_as=path)
    assert network.images == 1 + N


@pytest.mark.parametrize("name", ["", "/", "/.", "/.."])
def test_a_start_of_paths_without_a_name_is_refused(
    X: Tensor, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"save_as '.*' ends in no name"):
        extract_features(ResNet(), X, "layer1", save_as=f"{tmp_path / 'out'}{name}" if name else "")
    assert not list(tmp_path.iterdir())


def test_inputs_of_several_sizes_are_refused(counting: Counting, path: Path) -> None:
    class Growing:
        """Items that grow once they have been checked."""

        reads = 0

        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> Tensor:
            self.reads += 1
            return torch.zeros(3, 16, 16 if self.reads < 7 else 18)

    for save_as in (None, path):
        message = r"features of image 2 have shape \(4, 8, 9\), those before \(4, 8, 8\)"
        with pytest.raises(ValueError, match=message):
            extract_features(counting, Growing(), batch_size=2, save_as=save_as)
