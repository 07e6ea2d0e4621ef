"""What nvcc makes of the CUDA kernels: they compile for every architecture, and the inner loops are as lean as
docs/cuda.md says.

Runs where nvcc, cuobjdump and nvdisasm are (the last two are on PyPI); no GPU is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURES = ("80", "86", "89", "90", "100", "120")


def tools() -> str:
    """PATH with the disassemblers of NVIDIA's packages, where they are installed."""
    packaged = [
        str(Path(p) / "nvidia" / "cu13" / "bin") for p in sys.path if (Path(p) / "nvidia" / "cu13" / "bin").exists()
    ]
    return os.pathsep.join([os.environ["PATH"], *packaged])


pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")


def compiled(source: Path, arch: str) -> Path:
    """The machine code of a source file."""
    cubin = source.with_suffix(f".{arch}.cubin")
    command = [
        "nvcc",
        "-std=c++17",
        "-Werror",
        "all-warnings",
        f"-arch=sm_{arch}",
        "-cubin",
        "-o",
        str(cubin),
        str(source),
    ]
    include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    result = subprocess.run([*command, *include], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return cubin


def kernel(folder: Path, step: str, shape: str, arch: str) -> Path:
    """The machine code of one kernel."""
    source = folder / f"{step}-{shape}.cu"
    source.write_text(
        '#include "cuda/kernel.h"\n'
        f"template __global__ void dds::cuda::pairwise<dds::{step}, dds::cuda::{shape}>"
        "(const DDS_PARAMETER dds::cuda::Launch, int, int);\n"
    )
    return compiled(source, arch)


def functions(cubin: Path) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The instructions of every function: address, name and operands."""
    result = subprocess.run(
        ["cuobjdump", "-sass", str(cubin)], env={**os.environ, "PATH": tools()}, text=True, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    for function in result.stdout.split("Function : ")[1:]:
        found = re.findall(r"/\*([0-9a-f]{4,})\*/ +(?:@!?U?P\w+ +)?([A-Z0-9_]+)([^;]*);", function)
        yield function.split()[0], found


def loops(cubin: Path) -> Iterator[tuple[str, list[str]]]:
    """For every loop its function and its instructions' names, from the target of a backward branch to the branch."""
    for function, found in functions(cubin):
        index = {int(address, 16): i for i, (address, _, _) in enumerate(found)}
        for i, (address, name, operands) in enumerate(found):
            targets = re.findall(r"0x([0-9a-f]+)", operands)
            if name == "BRA" and targets and int(targets[-1], 16) < int(address, 16):
                yield function, [name for _, name, _ in found[index[int(targets[-1], 16)] : i + 1]]


needs_disassembler = pytest.mark.skipif(
    shutil.which("cuobjdump", path=tools()) is None or shutil.which("nvdisasm", path=tools()) is None,
    reason="needs cuobjdump and nvdisasm (nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm on PyPI)",
)


def inner_loop(cubin: Path, step: str, features: int = 2) -> Counter[str]:
    """The instructions of the main loop: some features of 64 pairs at a time."""
    operations, arithmetic = ARITHMETIC[step][0], features * ARITHMETIC[step][1]
    inner = [
        names
        for _, names in loops(cubin)
        if sum(names.count(o) for o in operations) == arithmetic and len(names) < 1000
    ]
    assert inner, "the inner loop was not found"
    return Counter(min(inner, key=len))


# instructions of a feature of 64 pairs
ARITHMETIC = {
    "AbsoluteDifference": (("FADD",), 128),
    "SquaredDifference": (("FADD", "FFMA"), 128),
    "Dot": (("FFMA",), 64),
}
SLOTS = 1.15
"""Times the issue slots that the arithmetic alone needs, at most."""


@pytest.mark.parametrize("arch", ARCHITECTURES)
@needs_disassembler
def test_every_architecture(arch: str, tmp_path: Path) -> None:
    """One kernel compiles for all of them, to as lean a loop."""
    served = subprocess.run(["nvcc", "--list-gpu-arch"], text=True, capture_output=True).stdout
    if f"compute_{arch}" not in served:
        pytest.skip(f"this nvcc does not know sm_{arch}")
    features = 1 if int(arch) >= 100 else 2
    counts = inner_loop(kernel(tmp_path, "AbsoluteDifference", "PairShape", arch), "AbsoluteDifference", features)
    assert not counts["LDL"] and not counts["STL"], counts
    assert counts.total() <= SLOTS * features * ARITHMETIC["AbsoluteDifference"][1], counts


@pytest.mark.parametrize(
    ("step", "shape"),
    [("AbsoluteDifference", "WholeShape")]
    + [(s, p) for s in ("SquaredDifference", "Dot") for p in ("WholeShape", "PairShape")],
)
@needs_disassembler
def test_inner_loops(tmp_path: Path, shape: str, step: str) -> None:
    """No spills, and few issue slots besides the arithmetic."""
    counts = inner_loop(kernel(tmp_path, step, shape, "90"), step)
    assert not counts["LDL"] and not counts["STL"], counts
    assert counts.total() <= SLOTS * 2 * ARITHMETIC[step][1], counts


@pytest.mark.parametrize(("arch", "stated"), [("80", 198), ("90", 157)])
@needs_disassembler
def test_products_by_tensor_cores(tmp_path: Path, arch: str, stated: int) -> None:
    """From the first matrix product of a slab to the last: no spills, and few issue slots besides what docs/cuda.md
    says, on the architectures that use them."""
    ((_, instructions),) = functions(kernel(tmp_path, "Dot", "TensorShape", arch))
    names = [name for _, name, _ in instructions]
    products = [i for i, name in enumerate(names) if name == "HMMA"]
    counts = Counter(names[products[0] : products[-1] + 1])
    assert not counts["LDL"] and not counts["STL"], counts
    assert counts["HMMA"] == 48 and counts["FADD"] <= 64 and counts.total() <= SLOTS * stated, counts


@needs_disassembler
def test_loop_of_the_gradient(tmp_path: Path) -> None:
    """No spills, and at most 1.15 times the four issue slots of a pair-element: four rows of 32 pairs at a time."""
    source = tmp_path / "signed_sums.cu"
    source.write_text(
        '#include "cuda/signed_kernel.h"\n'
        "template __global__ void dds::cuda::signed_sums<dds::cuda::SignedShape<float>>"
        "(const DDS_PARAMETER dds::cuda::SignedSums);\n"
    )
    names = min((names for _, names in loops(compiled(source, "90")) if names.count("FADD") >= 128), key=len)
    counts = Counter(names)
    assert not counts["LDL"] and not counts["STL"], counts
    assert counts["FADD"] == 128 and counts["FFMA"] == 384 and len(names) <= 1.15 * 512, counts


@needs_disassembler
def test_roofs_do_what_they_say(tmp_path: Path) -> None:
    """What does not change from step to step the compiler takes out of a loop, and a roof would come out too high."""
    source = tmp_path / "roof.cu"
    source.write_text('#include "cuda/roof.cu"\n')
    expected = {
        "DotStep": {"float": 64},
        "SquaredStep": {"float": 128},
        "AbsoluteStep": {"float": 128},
        "SignStep": {"float": 256},
        "14HalfDifference": {"HFMA2": 32},
        "HalfProduct": {"HMMA": 8},
        "Tf32Product": {"HMMA": 8},
        "HalfAbsoluteDifference": {"HFMA2": 32, "HMMA": 8},
    }
    found: dict[str, list[dict[str, int]]] = {name: [] for name in expected}
    for function, names in loops(compiled(source, "90")):
        counts = Counter("float" if name in ("FADD", "FFMA") else name for name in names)
        for name, wanted in expected.items():
            if name in function:
                found[name].append({kind: counts[kind] for kind in wanted})
    assert found == {name: [wanted] for name, wanted in expected.items()}
