"""Ranks and Kendall's tau by torch's operators, as they are taken on a GPU, against SciPy."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dds_ext import _torch_ranks
from dds_ext._arrays import gathered_triangle, upper_triangle
from dds_ext._torch_ranks import average_ranks, kendall

LENGTHS = (3, 4, 31, 32, 33, 500)


def values(kind: str, rows: int, length: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    made = {
        "distinct": lambda: generator.standard_normal((rows, length)),
        "ties": lambda: generator.integers(0, max(2, length // 4), (rows, length)).astype(float),
        "two values": lambda: generator.integers(0, 2, (rows, length)).astype(float),
        "signed zeros": lambda: generator.choice([0.0, -0.0, 1.0], (rows, length)),
    }[kind]()
    made[:, 0], made[:, 1] = 0, 1  # no row is constant
    return torch.from_numpy(made)


KINDS = ("distinct", "ties", "two values", "signed zeros")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_ranks_equal_scipy(monkeypatch: pytest.MonkeyPatch, kind: str, length: int) -> None:
    rows = values(kind, 5, length, seed=1)
    expected = scipy.stats.rankdata(rows.numpy(), axis=1)
    np.testing.assert_array_equal(average_ranks(rows).numpy(), expected)
    np.testing.assert_array_equal(
        average_ranks(rows.float()).numpy(), scipy.stats.rankdata(rows.float().numpy(), axis=1)
    )
    monkeypatch.setattr(_torch_ranks, "_TEMPORARY_BYTES", 1)  # a row at a time
    np.testing.assert_array_equal(average_ranks(rows).numpy(), expected)


@pytest.mark.parametrize("kind_a", KINDS)
@pytest.mark.parametrize("kind_b", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_kendall_equals_scipy(kind_a: str, kind_b: str, length: int) -> None:
    a, b = values(kind_a, 3, length, seed=2), values(kind_b, 4, length, seed=3)
    expected = [[scipy.stats.kendalltau(x, y).statistic for y in b.numpy()] for x in a.numpy()]
    # integers, two roots, a product and a quotient: each within half a unit in the last place
    np.testing.assert_allclose(kendall(a, b).numpy(), expected, rtol=1e-15, atol=1e-15)


def test_kendall_with_itself_is_one() -> None:
    a = values("ties", 4, 200, seed=4)
    np.testing.assert_allclose(kendall(a, a).diagonal().numpy(), 1, rtol=1e-15)


class Peak(TorchDispatchMode):
    """The most bytes that tensors made within it take at a time, those of the inputs left out."""

    def __init__(self, *inputs: torch.Tensor) -> None:
        super().__init__()
        self.held = {x.untyped_storage().data_ptr(): 0 for x in inputs}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is None or storage.data_ptr() in self.held:
                continue
            self.held[storage.data_ptr()] = storage.nbytes()
            weakref.finalize(storage, self.held.pop, storage.data_ptr(), None)
        self.most = max(self.most, sum(self.held.values()))
        return made


@pytest.mark.parametrize("of", ["ranks", "taus", "taus with itself"])
def test_temporary_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    """A stack takes no more than the bound, and not much less: what is counted for a value is not idle."""
    bound = 1 << 20
    monkeypatch.setattr(_torch_ranks, "_TEMPORARY_BYTES", bound)
    a, b = values("distinct", 40, 1000, seed=5), values("ties", 50, 1000, seed=6)
    with Peak(a, b) as peak:
        result = average_ranks(a) if of == "ranks" else kendall(a, None if of == "taus with itself" else b)
    assert bound / 4 < peak.most - result.untyped_storage().nbytes() <= bound


def test_kendall_of_a_stack_with_itself_is_symmetric(monkeypatch: pytest.MonkeyPatch) -> None:
    a = values("ties", 7, 100, seed=7)
    expected = kendall(a, a)
    for rows in (1, 2, 3, 7):
        monkeypatch.setattr(_torch_ranks, "_rows_at_once", lambda length, rows=rows: rows)
        found = kendall(a)
        assert torch.equal(found, found.T)
        assert torch.equal(found.diagonal(), torch.ones(7, dtype=torch.float64))
        # of a pair and the same the other way about, the two roots are multiplied in another order
        torch.testing.assert_close(found, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("n", [2, 3, 17])
def test_triangle_by_torch_is_that_of_the_core(n: int) -> None:
    K = torch.arange(3.0 * n * n).reshape(3, n, n)
    assert torch.equal(gathered_triangle(K), upper_triangle(K))
