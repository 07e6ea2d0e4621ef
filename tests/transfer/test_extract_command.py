"""`dds extract` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from dds_transfer import Preprocessing, extract_features, load_images, load_model
from PIL import Image
from small_networks import ResNet
from test_cli import fails

Run = Callable[..., Result]
SOURCE = "small_networks:make_resnet"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(random.integers(0, 256, (20, 25, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_features_are_written_and_ranked(dds: Run, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "features"
    arguments = [SOURCE, "--images", photos, "-o", output, "--size", 16, "--json", tmp_path / "r.json"]
    result = dds("extract", *arguments)
    assert result.exit_code == 0, result.output
    images = load_images(photos, Preprocessing(16))
    expected = extract_features(load_model(SOURCE), images)
    for block, rows in expected.items():
        np.testing.assert_array_equal(np.load(output / f"make_resnet.{block}.npy"), rows)
        assert f"{block}  layer{block[-1]}  (6, 4, 8, 8)  make_resnet.{block}.npy" in result.stdout
    listing = json.loads((output / "images.json").read_text())
    assert listing == {"digest": images.digest(), "images": [f"{i}.png" for i in range(6)], "unreadable": {}}
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["n"] == 6 and content["preprocessing"]["size"] == 16
    asked = {"model": SOURCE, "images": str(photos), "size": 16, "pool": "none", "channels_last": None, "weights": None}
    assert {**content["settings"], **asked} == content["settings"]
    assert content["files"] == [str(photos)] and "torch" in content["versions"]
    assert content["layers"][2] == {
        "layer": "block3",
        "module": "layer3",
        "shape": [6, 4, 8, 8],
        "file": "make_resnet.block3.npy",
    }
    ranked = dds("rank", "--target", output / "make_resnet.block4.npy", "--sources", output, "--bootstrap", 0)
    assert ranked.exit_code == 0, ranked.output
    assert "make_resnet.block3" in ranked.stdout


def test_what_no_one_states_of_the_pictures_is_said(dds: Run, tmp_path: Path, photos: Path) -> None:
    common = ["extract", SOURCE, "--images", photos, "-o", tmp_path / "f", "--layers", "fc"]
    result = dds(*common, "--size", 16)
    assert f"note: {SOURCE} does not state mean, std: those usual for ImageNet were taken\n" in result.stderr
    result = dds(*common, "--size", 16, "--mean", 0, 0, 0, "--std", 1, 1, 1, "--name", "other")
    assert result.exit_code == 0 and "does not state" not in result.stderr


def test_random_weights_of_a_folder_of_transformers_are_noted(dds: Run, tmp_path: Path, photos: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    transformers.ViTConfig(image_size=16, patch_size=8, **sizes).save_pretrained(tmp_path / "vit")
    common = ["extract", f"hf:{tmp_path}/vit", "--images", photos, "--layers", "layernorm", "-o", tmp_path / "f"]
    result = dds(*common)
    assert result.exit_code == 0, result.output
    assert "note: the weights are random; --weights or --pretrained gives others\n" in result.stderr


def test_large_pictures_are_read_without_a_warning(
    dds: Run, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 499)
    result = dds("extract", SOURCE, "--images", photos, "-o", tmp_path / "f", "--layers", "fc", "--size", 16)
    assert result.exit_code == 0 and "bomb" not in result.stderr


def test_a_result_goes_into_the_folder_that_is_made(dds: Run, tmp_path: Path, photos: Path) -> None:
    common = ["extract", SOURCE, "--images", photos, "--layers", "fc", "--size", 16]
    new = tmp_path / "new"
    for result in (new / "x.json", f"{new}/../new/x.json"):
        shutil.rmtree(new, ignore_errors=True)
        assert dds(*common, "--json", result, "-o", new).exit_code == 0
        assert json.loads((new / "x.json").read_text())["n"] == 6
    fails(dds(*common, "--json", tmp_path / "other" / "x.json", "-o", new), f"there is no folder {tmp_path}/other")


def test_a_warning_about_an_image_names_it(dds: Run, tmp_path: Path, photos: Path) -> None:
    Image.new("RGB", (20, 20)).save(photos / "6.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")  # five entries, none there
    result = dds("extract", SOURCE, "--images", photos, "-o", tmp_path / "f", "--layers", "fc", "--size", 16)
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if "EXIF" in line]
    assert len(notes) == 1 and notes[0].startswith("note: 6.jpg and perhaps others: Corrupt EXIF data")


def test_options(dds: Run, tmp_path: Path, photos: Path) -> None:
    trained = ResNet().eval()
    torch.save(trained.state_dict(), tmp_path / "depth.pt")
    (photos / "6.png").write_text("no image")
    (photos / "readme.txt").write_text("about the images")
    output = tmp_path / "features"
    weights = ["--weights", tmp_path / "depth.pt", "--layers", "layer[12]", "--layers", "fc", "--pool", "average"]
    numbers = ["--size", 12, "--mean", 0.5, 0.4, 0.3, "--std", 0.1, 0.2, 0.3, "--batch-size", 4]
    common = [SOURCE, "--images", photos, "-o", output, *weights, *numbers]
    fails(dds("extract", *common), "1 of 7 images cannot be read; repair, remove or skip them: 6.png (not an image")
    assert not output.exists()
    result = dds("extract", *common, "--skip-unreadable")
    assert result.exit_code == 0, result.output
    assert "pictures were cut to 12 x 12, mean (0.5, 0.4, 0.3), std (0.1, 0.2, 0.3)" in result.stderr
    assert "cannot be read, 1: 6.png (not an image, or damaged at its start)" in result.stderr
    assert "do not end like images, 1: readme.txt" in result.stderr
    assert list(json.loads((output / "images.json").read_text())["unreadable"]) == ["6.png"]
    prepared = Preprocessing(12, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    images = load_images(photos, prepared, skip_unreadable=True)
    expected = extract_features(trained, images, ["layer1", "layer2", "fc"], pool="average", batch_size=4)
    files = sorted(file.name for file in output.glob("*.npy"))
    assert files == ["depth.fc.npy", "depth.layer1.npy", "depth.layer2.npy"]
    for layer, rows in expected.items():
        np.testing.assert_array_equal(np.load(output / f"depth.{layer}.npy"), rows)
    assert dds("extract", *common, "--skip-unreadable", "--name", "mine").exit_code == 0
    assert (output / "mine.fc.npy").exists()


def test_a_folder_holds_features_of_the_same_images(dds: Run, tmp_path: Path, photos: Path) -> None:
    common = ["extract", SOURCE, "-o", tmp_path / "features", "--size", 16]
    assert dds(*common, "--images", photos).exit_code == 0
    fewer = shutil.copytree(photos, tmp_path / "fewer")
    (fewer / "0.png").unlink()
    fails(dds(*common, "--images", fewer, "--name", "other"), "features holds features of other images, listed in")
    assert not list((tmp_path / "features").glob("other*"))
    (fewer / "0.png").write_bytes((photos / "0.png").read_bytes())
    assert dds(*common, "--images", fewer, "--name", "other").exit_code == 0
    (tmp_path / "features" / "images.json").write_text("[]")
    fails(dds(*common, "--images", photos), "features of other images")


def test_features_of_different_images_are_not_compared(dds: Run, tmp_path: Path, photos: Path) -> None:
    """In whatever folder they are; the same number of images would hide it."""
    reverse, same = tmp_path / "reverse", tmp_path / "same"
    shutil.copytree(photos, same)
    reverse.mkdir()
    for i in range(6):
        shutil.copy(photos / f"{i}.png", reverse / f"{5 - i}.png")
    common = ["extract", SOURCE, "--size", 16, "--layers", "layer?"]
    for images in (photos, reverse, same):
        assert dds(*common, "--images", images, "-o", tmp_path / f"f_{images.name}").exit_code == 0
    target, source, other = (tmp_path / f"f_{name}" for name in ("photos", "same", "reverse"))
    aim = ["--target", target / "make_resnet.layer4.npy"]
    message = f"make_resnet.layer4.npy and {other}/make_resnet.layer1.npy are features of different images, as {target}"
    for command, *options in (("rank", "--bootstrap", 0), ("stability", "--images", 5)):
        fails(dds(command, *aim, "--sources", other), message)
        result = dds(command, *aim, "--sources", source, *options)
        assert result.exit_code == 0 and result.stderr == ""
    different = "are features of different images"
    fails(dds("layers", "--model", target, "--tasks", other / "make_resnet.layer1.npy"), different)
    fails(dds("report", *aim, "--sources", other / "make_resnet.layer1.npy", "-o", tmp_path / "r.html"), different)
    (other / "make_resnet.layer2.json").write_text("[]")  # somebody else's file says nothing
    assert dds("rank", *aim, "--sources", other / "make_resnet.layer2.npy", "--bootstrap", 0).exit_code == 0


def test_other_settings_are_noted_where_features_are_compared(dds: Run, tmp_path: Path, photos: Path) -> None:
    common = ["extract", SOURCE, "--images", photos, "-o", tmp_path, "--layers", "layer?"]
    assert dds(*common, "--size", 16, "--name", "a").exit_code == 0
    assert dds(*common, "--size", 20, "--name", "b", "--pool", "average").exit_code == 0
    a, b = tmp_path / "a.layer4.npy", tmp_path / "b.layer4.npy"
    expected = [
        f"note: features differ in {what} in {b}" for what in (f"pool: none in {a}, average", f"size: 16 in {a}, 20")
    ]
    result = dds("affinity", a, b, "-o", tmp_path / "a.csv")
    assert result.exit_code == 0 and result.stderr.splitlines() == expected
    assert dds("rank", "--target", a, "--sources", b, "--bootstrap", 0).stderr.splitlines() == expected
    assert dds("layers", "--model", a, "--tasks", b).stderr.splitlines()[1:] == expected


def test_one_layer_with_a_name_is_known_by_that_name(dds: Run, tmp_path: Path, photos: Path) -> None:
    """As measured transfer and the types of tasks have it."""
    common = ["extract", SOURCE, "--images", photos, "--size", 16, "-o", tmp_path / "tasks"]
    tasks = ("class_1000", "edge2d", "rgb2depth")
    for i, task in enumerate(tasks):
        result = dds(*common, "--layers", f"layer{i + 1}", "--name", task)
        assert result.exit_code == 0 and f"{task}.npy" in result.stdout
    images = load_images(photos, Preprocessing(16))
    expected = extract_features(load_model(SOURCE), images, "layer2")["layer2"]
    np.testing.assert_array_equal(np.load(tmp_path / "tasks" / "edge2d.npy"), expected)
    assert json.loads((tmp_path / "tasks" / "edge2d.json").read_text())["layer"] == "layer2"
    assert dds("affinity", tmp_path / "tasks", "-o", tmp_path / "a.csv").exit_code == 0
    result = dds("evaluate", tmp_path / "a.csv", "--truth", "taskonomy-affinity")
    assert result.exit_code == 0, result.output
    result = dds("layers", "--model", tmp_path / "tasks", "--tasks", tmp_path / "tasks")
    assert result.exit_code == 0 and result.stderr == ""  # no task without a type


def test_a_model_of_the_same_name_does_not_take_the_place_of_another(dds: Run, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "features"
    common = ["extract", SOURCE, "--images", photos, "-o", output, "--size", 16]
    assert dds(*common).exit_code == 0
    before = (output / "make_resnet.block1.npy").read_bytes()
    result = dds(*common, "--pool", "average")
    fails(result, "make_resnet.block1.npy holds features that differ in pool, as make_resnet.block1.json says")
    assert "write under another name (--name, save_as)" in result.stderr
    assert (output / "make_resnet.block1.npy").read_bytes() == before
    assert dds(*common).exit_code == 0
    assert dds(*common, "--pool", "average", "--name", "averages").exit_code == 0


def test_what_says_what_features_are_of_is_not_written_over(dds: Run, tmp_path: Path, photos: Path) -> None:
    """Without its note, features of other images would be compared; without its list, a folder would be refused."""
    output = tmp_path / "f"
    common = ["extract", SOURCE, "--images", photos, "--size", 16, "--layers", "layer?", "-o", output]
    assert dds(*common).exit_code == 0
    kept = {path: path.read_bytes() for path in output.iterdir()}
    aim = output / "make_resnet.layer1.npy"
    message = "says what features are of, and would be written over; name another"
    for path in (aim.with_suffix(".json"), output / "images.json"):
        fails(dds("rank", "--target", aim, "--sources", output, "--bootstrap", 0, "--json", path), f"{path} {message}")
        fails(dds(*common, "--json", path), f"{path} {message}")
    assert {path: path.read_bytes() for path in output.iterdir()} == kept
    result = tmp_path / "f" / "r.json"
    for _ in range(2):  # a result is replaced by the next
        assert dds("rank", "--target", aim, "--sources", output, "--bootstrap", 0, "--json", result).exit_code == 0


def test_the_files_of_an_extraction_are_all_different(dds: Run, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "f"
    output.mkdir()
    common = ["extract", SOURCE, "--images", photos, "--size", 16, "--layers", "fc", "-o", output]
    message = "is a file that the command itself writes; name another"
    for path, *name in ((output / "foo.json", "--name", "foo"), (output / "make_resnet.fc.json",)):
        fails(dds(*common, *name, "--json", path), f"--json {path} {message}")
    fails(dds(*common, "--json", f"{output}/../f/images.json"), message)
    fails(dds(*common, "--name", "images"), "--name images: its note images.json would be the list of images too")
    assert not list(output.iterdir())


def test_an_array_for_images(dds: Run, tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((5, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    result = dds("extract", SOURCE, "--images", tmp_path / "x.npy", "-o", tmp_path / "f", "--layers", "fc")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # nothing was cut to size
    expected = extract_features(load_model(SOURCE), X, "fc")["fc"]
    np.testing.assert_array_equal(np.load(tmp_path / "f" / "make_resnet.fc.npy"), expected)


def test_errors_are_one_line(dds: Run, tmp_path: Path, photos: Path) -> None:
    def run(source: str, *more: Any, images: Path = photos) -> Result:
        return dds("extract", source, "--images", images, "-o", tmp_path / "f", *more)

    fails(run("resnet50"), "no model 'resnet50': write torchvision:NAME")
    fails(run("no_such_package:make"), "there is no Python module no_such_package")
    fails(run(SOURCE, "--weights", tmp_path / "none.pt"), f"{tmp_path}/none.pt: No such file or directory")
    fails(run(SOURCE, "--pretrained"), "pretrained weights are those of torchvision, timm, hf")
    fails(run(SOURCE, "--layers", "encoder"), "has no layer 'encoder'; at the top it has conv1")
    fails(run(SOURCE, "--name", "x/y"), "--name x/y: it is the start of file names, and cannot hold a /; -o names the")
    for name in ("", ".", ".."):  # "." would be the folder -o itself, and the files beside it
        fails(run(SOURCE, "--name", name), f"--name '{name}' is no name; it is the start of file names")
    fails(dds("extract", "hf:/", "--images", photos, "-o", tmp_path / "f"), "hf:/: / is no name to call the model by")
    fails(dds("extract", SOURCE, "--images", photos, "-o", f"{photos}/."), "is the folder of the images; name another")
    fails(run("torch.nn:ReLU"), "no blocks are known of a ReLU")
    fails(run(SOURCE, "--pool", "max"), "no pooling 'max'")
    fails(run(SOURCE, "--device", "cuda:99"), "cannot use the device cuda:99")
    fails(run(SOURCE, images=tmp_path / "none"), f"{tmp_path}/none: No such file or directory")
    fails(run(SOURCE, "--std", 0.1, 0, 0.1), "size and std must be positive")
    np.save(tmp_path / "grey.npy", np.zeros((4, 1, 16, 16), np.float32))
    fails(run(SOURCE, images=tmp_path / "grey.npy"), "the ResNet fails on images 0 to 3 of shape (1, 16, 16)")
    (tmp_path / "file").write_text("")
    fails(dds("extract", SOURCE, "--images", photos, "-o", tmp_path / "file"), "is a file")


def test_help_has_examples(dds: Run) -> None:
    assert "extract" in dds("--help").stdout
    result = dds("extract", "--help")
    assert result.exit_code == 0
    assert "  dds extract torchvision:resnet50" in result.stdout


SLOW = """
import time
from pathlib import Path
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        with open("runs", "a") as runs:
            runs.write("x" * len(x))
        while len(Path("runs").read_text()) >= 3 and not Path("go").exists():
            time.sleep(0.01)
        return self.layer(x)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_goes_on_where_it_stopped(
    tmp_path: Path, photos: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    script = "from dds_transfer.cli import program; program()"
    arguments = ["slow:Slow", "--images", "photos", "-o", "f", "--layers", "layer", "--batch-size", "1", "--size", "8"]
    command = [sys.executable, "-c", script, "extract", *arguments]
    runs = tmp_path / "runs"
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (runs.exists() and len(runs.read_text()) == 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert [file.suffix for file in (tmp_path / "f").iterdir()] == [".part"]
    (tmp_path / "go").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(runs.read_text()) == 3 + 4  # the third image was not finished: it runs again, with the three left
    whole = np.load(tmp_path / "f" / "Slow.layer.npy")
    monkeypatch.chdir(tmp_path)
    expected = extract_features(load_model("slow:Slow"), load_images(photos, Preprocessing(8)), "layer")["layer"]
    # Batches of one and of six may be summed in another order: 27 products of size 1 per output.
    np.testing.assert_allclose(whole, expected, atol=1e-5)
