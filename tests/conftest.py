"""Fixtures that every test of the engine may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# What one of the tests marked `large` holds at most, twice (two of them may run at once), and a little for the rest.
LARGE_GIB = 20


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"large: holds about 9 GiB; runs where {LARGE_GIB} GiB are available")


def available_gib() -> float:
    """GiB of memory that this process may still take: what is free, within the limit of its control group."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    gib = int(fields["MemAvailable"].split()[0]) / 2**20
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        gib = min(gib, (int(text) - used) / 2**30)
    return gib


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    available = available_gib()
    if available < LARGE_GIB:
        reason = f"needs {LARGE_GIB} GiB of memory, {available:.1f} are available"
        for item in items:
            if item.get_closest_marker("large"):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `isa` under every instruction set of this machine."""
    if "isa" in metafunc.fixturenames:
        # Imported here, so that the tests of the reference run where the engine has not been built.
        import dds_ext

        metafunc.parametrize("isa", dds_ext.info()["isas"], indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the instruction set that the engine uses during the test."""
    monkeypatch.setenv("DDS_EXT_ISA", request.param)
    return str(request.param)


@pytest.fixture
def threads() -> Iterator[list[int]]:
    """Numbers of threads to try with torch.set_num_threads: one, the machine's, more than that; restored afterwards."""
    before = torch.get_num_threads()
    yield sorted({1, 2, 3, os.cpu_count() or 1, 7})
    torch.set_num_threads(before)
