"""Which pretrained model to start from: features in; rankings, affinities and their agreement with the truth out.

Built on :mod:`dds_ext`, which computes the similarities. The command line is ``dds``; the same steps in Python::

    import dds_ext
    from dds_transfer import Table, evaluate, load_features, load_truth

    models = load_features(["features/"])
    names = [model.name for model in models]
    affinity = Table(names, names, dds_ext.affinity([model.X for model in models]))
    print(evaluate(affinity, load_truth("taskonomy-affinity")).mean.spearman)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dds_transfer.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import what is offered once something of it is asked for: torch takes seconds, and ``dds --help`` needs none."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(name)
    api = import_module("dds_transfer.api")

    if name != "__all__" and name not in api.__all__:
        raise AttributeError(f"module 'dds_transfer' has no attribute {name!r}")
    return getattr(api, name)


def __dir__() -> list[str]:
    api = import_module("dds_transfer.api")

    return [*globals(), *api.__all__]
