"""Reading pickled dictionaries of arrays without running anything that is in them.

Unpickling calls whatever the file names, and NumPy's own ``__setstate__`` trusts the sizes and types it is given. So
neither is used: the few names that a pickled array needs are replaced by the classes below, which only collect plain
values, and the arrays are made from the checked bytes. Every other name is refused.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class _Dtype:
    """Stands in for ``numpy.dtype``: a number's kind, size and byte order, or ``object``."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if not (
            isinstance(self.code, str) and re.fullmatch(r"[biuf](1|2|4|8)", self.code) and self.order in tuple("<>=|")
        ):
            raise pickle.UnpicklingError(f"an array of type {self.code!r}, which is not a plain number")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Bytes:
    """Stands in for ``_codecs.encode`` and ``bytes``: pickle protocol 2 writes bytes as text, or as ``bytes()``."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> Any:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
        return text.encode("latin1")


class _Array:
    """Stands in for ``numpy.ndarray`` and what rebuilds one; ``value`` is the finished array or the one object held."""

    value: Any = None

    def __init__(self, *arguments: Any) -> None:
        """The arguments of NumPy's ``_reconstruct`` say nothing: the state that follows does."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(dtype, _Dtype) and dtype.code in ("O", "O8"):
            if shape != () or len(content) != 1:
                raise pickle.UnpicklingError("an array of Python objects")
            self.value = content[0]  # np.save wraps a dictionary in an array of no dimensions
        else:
            self.value = _numbers(content, dtype, shape, "F" if fortran else "C")


class _FromBuffer(_Array):
    """Stands in for ``_frombuffer``, by which pickle protocol 5 rebuilds an array."""

    def __init__(self, content: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.value = _numbers(content, dtype, shape, order)


def _numbers(content: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if isinstance(content, str):
        content = content.encode("latin1")  # the bytes of a Python 2 string, as the unpickler was told to decode them
    if not (isinstance(content, bytes | bytearray) and isinstance(dtype, _Dtype)):
        raise pickle.UnpicklingError("an array whose content is not plain bytes")
    kind = dtype.numpy()
    sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or math.prod(shape) * kind.itemsize != len(content):
        raise pickle.UnpicklingError(f"an array of shape {shape} and {len(content)} bytes")
    array: NDArray[Any] = np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")
    return array


class _Unpickler(pickle.Unpickler):
    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Array,
        ("_codecs", "encode"): _Bytes,
        ("__builtin__", "bytes"): _Bytes,
        # NumPy 2 moved these modules from core to _core.
        **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
        **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; only arrays and dictionaries of arrays are read"
            )
        return self.allowed[module, name]


def load_arrays(file: IO[bytes]) -> dict[str, Any]:
    """The arrays in a pickle that holds an array, or a dictionary of arrays by name; a single array has the name "".

    ``file`` is a binary file positioned at the start of the pickle. Nothing in the pickle is executed: names other than
    those of plain numeric arrays raise ``pickle.UnpicklingError``. Values of the dictionary that are no arrays are
    returned as they are.
    """
    # Python 2 wrote an array's bytes as a string; latin1 keeps each of them.
    content = _plain(_Unpickler(file, encoding="latin1").load())
    if isinstance(content, np.ndarray):
        return {"": content}
    if not (isinstance(content, dict) and all(isinstance(name, str) for name in content)):
        raise pickle.UnpicklingError(f"type {type(content).__name__} where a dictionary of arrays by name is expected")
    return {name: _plain(value) for name, value in content.items()}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value
