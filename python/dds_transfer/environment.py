"""What results depend on besides files and settings: versions, and the machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import dds_ext

# Those that numbers, features and pictures come from; the last ones are optional.
PACKAGES = (
    *("torch", "numpy", "scipy", "pillow", "safetensors", "click", "jinja2", "rich"),
    *("matplotlib", "scikit-learn", "torchvision", "timm", "transformers", "captum"),
)


def environment() -> dict[str, Any]:
    """``python``, ``platform``, ``packages`` by name (None: not installed), and what ``dds_ext.info()`` says."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        **dds_ext.info(),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on, by name: dds_ext, Python, and those of ``PACKAGES`` that are installed."""
    installed = {name: found for name in PACKAGES if (found := _version(name))}
    return {"dds_ext": dds_ext.__version__, "python": platform.python_version(), **installed}


def environment_rows(found: dict[str, Any]) -> list[list[str]]:
    """Names and values of :func:`environment` for a table; packages that are missing are left out."""
    cuda = found["cuda"]
    rows = {
        "dds_ext": found["version"],
        "instruction set": f"{found['isa']} (this machine has {', '.join(found['isas'])})",
        "threads": str(found["threads"]),
        "CUDA part": "not built" if cuda is None else f"built for {', '.join(cuda['architectures'])}",
    }
    if cuda is not None:
        devices = [
            f"{device['name']} (sm_{''.join(map(str, device['capability']))})" for device in cuda.get("devices", [])
        ]
        rows["CUDA devices"] = cuda.get("error") or ", ".join(devices) or "none"
    rows |= {"Python": found["python"], "platform": found["platform"]}
    rows |= {name: number for name, number in found["packages"].items() if number}
    return [list(row) for row in rows.items()]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
