"""Reading features: every format, what is mapped into memory, names, and files that cannot be read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from dds_transfer.features import common_images, load_features, load_one
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float64]


@pytest.fixture
def X() -> Array:
    return np.random.default_rng(1).standard_normal((6, 5))


def write(path: Path, X: Array) -> Path:
    """Save X under the key ``x`` where the format has keys."""
    tensor = torch.from_numpy(X)
    match path.name.split(".", 1)[1]:
        case "npy":
            np.save(path, X)
        case "npz":
            np.savez(path, x=X)
        case "packed.npz":
            np.savez_compressed(path, x=X)
        case "safetensors":
            save_file({"x": X}, path)
        case "pt":
            torch.save({"x": tensor}, path)
        case "old.pth":
            torch.save(tensor, path, _use_new_zipfile_serialization=False)
        case "pkl":
            np.save(path.with_suffix(".npy"), {"x": X}, allow_pickle=True)
            path.with_suffix(".npy").rename(path.with_suffix(".dict.npy"))
            return path.with_suffix(".dict.npy")
    return path


@pytest.mark.parametrize("ending", ["npy", "npz", "packed.npz", "safetensors", "pt", "old.pth", "pkl"])
def test_every_format_gives_the_array_under_the_files_name(tmp_path: Path, X: Array, ending: str) -> None:
    path = write(tmp_path / f"model.{ending}", X)
    model = load_one(path)
    np.testing.assert_array_equal(model.X, X)
    assert model.X.dtype == X.dtype
    assert model.name == path.stem


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_stored_arrays_are_mapped_not_read(tmp_path: Path, X: Array, ending: str, order: str) -> None:
    model = load_one(write(tmp_path / f"model.{ending}", np.asarray(X, order=order)))
    assert isinstance(model.X, np.memmap)
    np.testing.assert_array_equal(model.X, X)


def test_several_stored_arrays_of_an_archive_are_found_at_their_offsets(tmp_path: Path, X: Array) -> None:
    arrays = {"first": X, "second": -X[:, :3], "third": X.astype(np.float16)}
    np.savez(tmp_path / "layers.npz", **arrays)
    for model in load_features([tmp_path / "layers.npz"]):
        np.testing.assert_array_equal(model.X, arrays[model.name])


def test_bfloat16_is_read_exactly(tmp_path: Path, X: Array) -> None:
    tensor = torch.from_numpy(X).bfloat16()
    torch.save(tensor.requires_grad_(), tmp_path / "model.pt")
    np.testing.assert_array_equal(load_one(tmp_path / "model.pt").X, tensor.detach().float().numpy())


def test_arrays_of_one_file_go_by_their_own_names_and_of_several_by_both(tmp_path: Path, X: Array) -> None:
    for name in ("resnet", "vit"):
        np.savez(tmp_path / f"{name}.npz", layer1=X, layer2=X)
    np.save(tmp_path / "alone.npy", X)
    assert [model.name for model in load_features([tmp_path / "vit.npz"])] == ["layer1", "layer2"]
    names = ["alone", "resnet:layer1", "resnet:layer2", "vit:layer1", "vit:layer2"]
    assert [model.name for model in load_features([tmp_path])] == names
    assert [model.origin for model in load_features([f"{tmp_path}/vit.npz:layer2"])] == [f"{tmp_path}/vit.npz:layer2"]


def test_a_folder_is_read_in_order_and_its_other_files_are_left_alone(tmp_path: Path, X: Array) -> None:
    for name in ("z", "a", "m"):
        np.save(tmp_path / f"{name}.npy", X)
    (tmp_path / "notes.txt").write_text("not features")
    assert [model.name for model in load_features([tmp_path])] == ["a", "m", "z"]


def test_models_of_one_name_are_refused_naming_both_files(tmp_path: Path, X: Array) -> None:
    np.save(tmp_path / "same.npy", X)
    np.savez(tmp_path / "same.npz", X)
    with pytest.raises(ValueError, match=r"two models are named 'same': .*same\.npy and .*same\.npz"):
        load_features([tmp_path])


def test_a_target_of_several_arrays_must_be_told_which(tmp_path: Path, X: Array) -> None:
    np.savez(tmp_path / "m.npz", p=X, q=X)
    with pytest.raises(ValueError, match=r"m\.npz holds 2 arrays \(p, q\); name one, as in .*m\.npz:p"):
        load_one(tmp_path / "m.npz")


def test_different_numbers_of_images_name_both_files(tmp_path: Path, X: Array) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:4])
    with pytest.raises(ValueError, match=r"a\.npy has 6, .*b\.npy has 4"):
        common_images(load_features([tmp_path]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.npy", np.zeros(3), r"m\.npy: an array of shape \(3,\)"),
        ("m.npy", np.array([["a", "b"]]), r"m\.npy: an array of type <U1"),
        ("m.npy", np.zeros((2, 2), complex), r"m\.npy: an array of type complex128"),
    ],
)
def test_arrays_that_are_no_features(tmp_path: Path, name: str, content: Array, message: str) -> None:
    np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        load_features([tmp_path / name])


def test_a_member_that_is_no_features_says_how_to_name_another(tmp_path: Path, X: Array) -> None:
    torch.save({"features": torch.from_numpy(X), "labels": [1, 2]}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"labels is of type list, not an array; if another array holds the features"):
        load_features([tmp_path / "m.pt"])
    np.testing.assert_array_equal(load_one(f"{tmp_path}/m.pt:features").X, X)
    with pytest.raises(ValueError, match=r"no array named 'feature'; it holds features, labels"):
        load_one(f"{tmp_path}/m.pt:feature")


@pytest.mark.parametrize("ending", ["npy", "npz", "packed.npz", "safetensors", "pt", "old.pth", "pkl"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_files_are_named(tmp_path: Path, X: Array, ending: str, damage: str) -> None:
    path = write(tmp_path / f"model.{ending}", X)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\x80garbage" * 9, "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"cannot read {path}: \S"):
        load_features([path])


def test_a_damaged_compressed_array_is_named(tmp_path: Path, X: Array) -> None:
    path = write(tmp_path / "model.packed.npz", X)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read {path}: \S"):
        load_features([path])


def test_python_objects_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.array([[{}]], dtype=object))
    with pytest.raises(ValueError, match=r"m\.npz: x\.npy holds Python objects"):
        load_features([tmp_path / "m.npz"])


def test_places_without_features(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder without feature files \(\.npy, \.npz"):
        load_features([tmp_path])
    with pytest.raises(FileNotFoundError):
        load_features([tmp_path / "none.npy"])
    (tmp_path / "m.mat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"m\.mat: unknown kind of file; features are read from \.npy"):
        load_features([tmp_path / "m.mat"])
    with zipfile.ZipFile(tmp_path / "m.npz", "w"):
        pass
    with pytest.raises(ValueError, match="it holds no arrays"):
        load_features([tmp_path / "m.npz"])
