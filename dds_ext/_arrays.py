"""What users pass in, seen as addresses, shapes and strides; and results of the kind that came in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch.autograd import forward_ad

from dds_ext import _cpu

# codes of dds::Dtype
DTYPES = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
_CONVERTED = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

Array = Any
"""A torch tensor, a NumPy array, or an object that speaks DLPack."""
Matrices = torch.Tensor | np.ndarray[Any, Any]
"""What the engine works on."""


def dtype_name(a: Matrices) -> str:
    """The dtype's name, the same of tensors and arrays."""
    return str(a.dtype).removeprefix("torch.") if isinstance(a, torch.Tensor) else a.dtype.name


def address(a: Matrices) -> int:
    """Address of the first element."""
    return a.data_ptr() if isinstance(a, torch.Tensor) else int(a.__array_interface__["data"][0])


def to_numpy(a: Matrices) -> np.ndarray[Any, Any]:
    """On the host."""
    return a.cpu().numpy() if isinstance(a, torch.Tensor) else a


def _strides(a: Matrices) -> tuple[int, ...]:
    if isinstance(a, torch.Tensor):
        return a.stride()
    return tuple(s // a.itemsize for s in a.strides)


def through_operators(*arrays: Array) -> bool:
    """Whether a call goes through torch.ops.dds_ext: a tensor requires grad or holds no numbers of its own, or a
    compiler, a tracer, a mode or a transform looks on."""
    seen = (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )
    for a in arrays:
        if isinstance(a, torch.Tensor) and (
            seen
            or (a.requires_grad and torch.is_grad_enabled())
            or torch._C._functorch.is_functorch_wrapped_tensor(a)
            or holds_no_numbers(a)
        ):
            return True
    return False


def holds_no_numbers(a: torch.Tensor) -> bool:
    """Whether there is nothing at the tensor's address: fake and meta tensors, and those made of others."""
    return a.is_meta or (type(a) is not torch.Tensor and torch._C._dispatch_keys(a).has(torch._C.DispatchKey.Python))


def refuse_gradients(x: Array, name: str) -> None:
    """For the functions that give none."""
    if isinstance(x, torch.Tensor) and x.requires_grad and torch.is_grad_enabled():
        raise TypeError(f"{name} requires grad, and this function gives no gradients: pass {name}.detach()")


def to_float(x: Array, name: str) -> tuple[Matrices, Callable[[Any], Any]]:
    """`x` as a tensor or NumPy array of a dtype that is served, and what turns a result into `x`'s kind."""

    def same(result: Any) -> Any:
        return result

    def to_namespace(result: Any) -> Any:
        return x.__array_namespace__().from_dlpack(result) if hasattr(x, "__array_namespace__") else result

    like: Callable[[Any], Any] = same
    a: Matrices
    if isinstance(x, torch.Tensor):
        refuse_gradients(x, name)
        a = x
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, which is not served: leave out its masked images, or fill() them")
    elif isinstance(x, np.ndarray):
        a = x
    elif hasattr(x, "__dlpack__"):
        a, like = torch.utils.dlpack.from_dlpack(x), to_namespace
    else:
        try:
            a = np.asarray(x)
        except ValueError as error:
            raise TypeError(f"{name} is not an array: {error}") from None
    if isinstance(a, torch.Tensor) and holds_no_numbers(a):
        raise TypeError(
            f"{name} holds no numbers ({type(a).__name__} on '{a.device}'): this function needs the real ones"
        )
    if isinstance(a, torch.Tensor) and a.device.type not in ("cpu", "cuda"):
        raise TypeError(f"{name} is on device '{a.device}', which is not served: pass {name}.cpu()")
    if isinstance(a, torch.Tensor) and a.layout is not torch.strided:
        raise TypeError(f"{name} has layout {a.layout}, which is not served: pass {name}.to_dense()")
    if isinstance(a, torch.Tensor) and a.is_neg():
        a = a.resolve_neg()
    dtype = dtype_name(a)
    if dtype in _CONVERTED:
        if isinstance(a, torch.Tensor) and a.device.type == "cuda":
            return a.to(torch.float32), like
        # by NumPy: torch's own threads do not survive a fork
        if isinstance(a, torch.Tensor):
            return torch.from_numpy(a.numpy().astype(np.float32)), like
        return a.astype(np.float32), like
    if dtype not in DTYPES:
        what = f"is of type {type(x).__name__}" if dtype == "object" and a is not x else f"has dtype {dtype}"
        raise TypeError(f"{name} {what}, which is not served; use float16, bfloat16, float32 or float64")
    if isinstance(a, np.ndarray) and (not a.dtype.isnative or any(s % a.itemsize for s in a.strides)):
        a = a.astype(a.dtype.newbyteorder("="))
    return a, like


@dataclass(slots=True)
class Features:
    """One set of images: (n, d), any strides."""

    name: str
    array: Matrices
    like: Callable[[Any], Any]
    channels: int | None
    """C, where the shape says it: features of more than two dimensions."""

    @property
    def device(self) -> torch.device:
        return self.array.device if isinstance(self.array, torch.Tensor) else torch.device("cpu")

    @property
    def n(self) -> int:
        return int(self.array.shape[0])

    @property
    def d(self) -> int:
        return int(self.array.shape[1])

    @property
    def wide(self) -> bool:
        """Whether the computation is in float64."""
        return dtype_name(self.array) == "float64"

    def widened(self) -> Features:
        if self.wide:
            return self
        a = self.array
        array: Matrices = a.to(torch.float64) if isinstance(a, torch.Tensor) else a.astype(np.float64)
        return Features(self.name, array, self.like, self.channels)

    def describe(self) -> _cpu.Features:
        row_stride, col_stride = _strides(self.array)
        return _cpu.Features(
            address(self.array), self.n, self.d, row_stride, col_stride, DTYPES[dtype_name(self.array)]
        )

    def empty(self, shape: tuple[int, ...], wide: bool = False) -> Matrices:
        """An uninitialised result of this set's kind: float64 where the features are or `wide` is set, else float32."""
        if isinstance(self.array, torch.Tensor):
            dtype = torch.float64 if wide or self.wide else torch.float32
            return torch.empty(shape, dtype=dtype, device=self.array.device)
        return np.empty(shape, np.float64 if wide or self.wide else np.float32)


def features(x: Array, name: str, channels: int | None, channels_last: bool) -> Features:
    """`x` of shape (n, d), (n, C, *spatial) or, with `channels_last`, (n, *spatial, C), as (n, d)."""
    array, like = to_float(x, name)
    array, inferred = flatten(array, name, channels, channels_last)
    return Features(name, array, like, inferred)


def flatten(array: Any, name: str, channels: int | None, channels_last: bool) -> tuple[Any, int | None]:
    """Features as (n, d), and C, where the shape says it."""
    if array.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(array.shape)}; features are (n, d) or (n, C, *spatial)")
    inferred = None
    if array.ndim > 2:
        inferred = array.shape[-1 if channels_last else 1]
        if channels is not None and channels != inferred:
            raise ValueError(f"channels={channels}, but {name} of shape {tuple(array.shape)} has {inferred}")
        array = array.reshape(array.shape[0], -1) if array.shape[0] else array.reshape(0, 1)
    if array.shape[1] == 0:
        raise ValueError(f"{name} has 0 features")
    return array, inferred


def rows_text(rows: list[int]) -> str:
    """Names rows: 'row 3', 'rows 3, 7', 'rows 0, 1, 2, 3, 4 and 12 more'."""
    listed = ", ".join(str(r) for r in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {listed}{more}"


def gathered_triangle(K: torch.Tensor) -> torch.Tensor:
    """`upper_triangle` by torch's operators, on any device. Its index takes as much as a float32 matrix."""
    s, n, _ = K.shape
    i, j = torch.triu_indices(n, n, 1, dtype=torch.int32 if n * n < 1 << 31 else torch.int64, device=K.device)
    return K.reshape(s, n * n).index_select(1, i.mul_(n).add_(j))


def upper_triangle(K: Matrices) -> Matrices:
    """Strict upper triangles of contiguous matrices, (s, n, n) -> (s, n (n - 1) / 2), row by row."""
    s, n, _ = K.shape
    if isinstance(K, torch.Tensor) and K.device.type == "cuda":
        return gathered_triangle(K)
    shape = (s, n * (n - 1) // 2)
    out: Matrices = torch.empty(shape, dtype=K.dtype) if isinstance(K, torch.Tensor) else np.empty(shape, K.dtype)
    _cpu.condense(address(K), s, n, DTYPES[dtype_name(K)], address(out), torch.get_num_threads())
    return out
