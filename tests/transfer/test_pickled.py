"""Pickles: plain arrays come out whole, and nothing in a pickle is ever run."""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dds_transfer.features import load_features
from dds_transfer.pickled import load_arrays

ARRAYS = {
    "float64": np.arange(12.0).reshape(3, 4),
    "float16, Fortran order": np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4)),
    "big-endian": np.arange(12, dtype=">i4").reshape(2, 3, 2),
    "bool": np.eye(3, dtype=bool),
    "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "strided": np.arange(24.0).reshape(4, 6)[::2, 1::2],
    "none": np.zeros((0, 4)),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_dictionary_of_arrays_comes_back(protocol: int, wrapped: bool) -> None:
    """Bare, and in the 0-d array of objects that np.save makes of a dictionary."""
    content = np.array(ARRAYS, dtype=object) if wrapped else ARRAYS
    result = load_arrays(io.BytesIO(pickle.dumps(content, protocol)))
    assert list(result) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(result[name], expected)
        assert result[name].dtype == expected.dtype


@pytest.mark.parametrize("core", [b"core", b"_core"])
def test_the_module_names_of_numpy_1_and_2_are_known(core: bytes) -> None:
    """The authors' file was written by NumPy 1."""
    # Protocol 2 writes names without their lengths, so that they can be exchanged.
    stream = re.sub(rb"numpy\._?core", b"numpy." + core, pickle.dumps(ARRAYS, 2))
    np.testing.assert_array_equal(load_arrays(io.BytesIO(stream))["float64"], ARRAYS["float64"])


def test_bytes_of_python_2_are_read() -> None:
    """Python 2 wrote an array's content as a string: opcode ``U``, for which there is no writer any more."""
    dtype = b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I1\nI2\nt" + dtype + b"I00\n"
    content = np.array([[1.5, -2.0]])
    result = load_arrays(io.BytesIO(b"\x80\x02" + array + b"U\x10" + content.tobytes() + b"tb."))
    np.testing.assert_array_equal(result[""], content)


class _Runs:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("ending", ["npy", "pkl", "pt", "pth"])
def test_code_in_a_pickle_is_refused_not_run(tmp_path: Path, ending: str) -> None:
    trace, file = tmp_path / "trace", tmp_path / f"model.{ending}"
    content = {"x": ARRAYS["float64"], "y": _Runs(trace)}
    if ending == "npy":
        np.save(file, content, allow_pickle=True)
    elif ending == "pkl":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=rf"cannot read {file}: .*(system|running code)"):
        load_features([file])
    assert not trace.exists()
    # The trap is a real one: unpickled without care it does run.
    pickle.loads(pickle.dumps(_Runs(trace)))
    assert trace.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\ndecode\n(S'x'\nS'zlib'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93.",
    ],
)
def test_names_beyond_an_arrays_own_are_refused(stream: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        load_arrays(io.BytesIO(stream))


def _state(shape: Any, code: Any, content: Any) -> bytes:
    """A pickled array whose state says this."""

    class Dtype:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, (code, False, True), (3, "<", None, None, None, -1, -1, 0)

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, shape, Dtype(), False, content)

    # Pickled by Python's own writer: the C one checks that states are what they claim.
    buffer = io.BytesIO()
    pickle._Pickler(buffer, 2).dump(Array())  # type: ignore[attr-defined]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "code", "content"),
    [
        ((3, 4), "f8", b"short"),
        ((-1, -12), "f8", bytes(96)),
        ((2**62, 4), "f8", bytes(8)),
        ("abc", "f8", bytes(8)),
        ((1,), "O8", [1]),
        ((2,), "V8", bytes(16)),
        ((2,), "f8,O", bytes(32)),
        ((2,), "f8", [1.0, 2.0]),
    ],
)
def test_an_arrays_state_is_not_trusted(shape: Any, code: str, content: Any) -> None:
    honest = load_arrays(io.BytesIO(_state((2, 1), "f8", np.array([1.0, 2.0]).tobytes())))[""]
    np.testing.assert_array_equal(honest, [[1.0], [2.0]])
    with pytest.raises(pickle.UnpicklingError):
        load_arrays(io.BytesIO(_state(shape, code, content)))


def test_only_arrays_by_name_are_taken() -> None:
    for content in ([ARRAYS["bool"]], {1: ARRAYS["bool"]}, "text"):
        with pytest.raises(pickle.UnpicklingError, match="where a dictionary of arrays by name is expected"):
            load_arrays(io.BytesIO(pickle.dumps(content)))
