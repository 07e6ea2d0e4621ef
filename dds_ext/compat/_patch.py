"""Puts drop-ins in the place of other packages' functions, counts what they serve, and takes them out again."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any

PACKAGES = ("sklearn", "scipy", "rsatoolbox", "net2brain")
"""Names of the packages that `patch` knows."""


@dataclass
class Calls:
    """How often a function was called. A call within another replaced function's, in the same thread, is not counted:
    what an original does inside is a part of its one call.
    """

    served: int = 0
    """Calls that the engine answered."""
    passed_on: int = 0
    """Calls that were left to the original."""
    reason: str | None = field(default=None, compare=False)
    """Why the last of those was."""


@dataclass
class _Package:
    """The stand-ins of one package. They are made once, so that patches may overlap, in one thread or several."""

    name: str
    pairs: list[tuple[Callable[..., Any], Callable[..., Any]]] = field(default_factory=list)
    """The originals and what stands in for them."""
    names: list[str] = field(default_factory=list)
    listeners: list[dict[str, Calls]] = field(default_factory=list)
    """The counts of the patches in force."""
    imported: set[str] = field(default_factory=set)
    """The script's names of stand-ins that it had from `dds_ext.compat` itself, and keeps."""
    before: set[str] = field(default_factory=set)
    """The modules that were there before the patches in force."""

    def load(self) -> None:
        if not self.pairs:
            drop_ins = importlib.import_module(f"dds_ext.compat._{self.name}").DROP_INS
            self.names = [d.name for d in drop_ins]
            self.pairs = [(d.original, d.function(self.note)) for d in drop_ins]

    def note(self, name: str, refusal: str | None) -> None:
        with _LOCK:
            for counts in self.listeners:
                if refusal is None:
                    counts[name].served += 1
                else:
                    counts[name].passed_on += 1
                    counts[name].reason = refusal

    def begin(self, counts: dict[str, Calls]) -> None:
        counts.update({name: Calls() for name in self.names})
        if not self.listeners:
            stand_ins = {id(stand_in) for _, stand_in in self.pairs}
            self.imported = {key for key, value in vars(sys.modules["__main__"]).items() if id(value) in stand_ins}
            self.before = set(sys.modules)
        self.listeners.append(counts)
        _replace(self._own_modules(), {id(original): stand_in for original, stand_in in self.pairs})

    def end(self, counts: dict[str, Calls]) -> None:
        self.listeners = [c for c in self.listeners if c is not counts]
        if not self.listeners:
            late = {name for name in set(sys.modules) - self.before if not name.startswith("dds_ext.")}
            by = {id(stand_in): original for original, stand_in in self.pairs}
            _replace(self._own_modules() | late, by, self.imported)

    def _own_modules(self) -> set[str]:
        return {name for name in list(sys.modules) if name == self.name or name.startswith(self.name + ".")}


_LOCK = threading.RLock()
_LOADED = {name: _Package(name) for name in PACKAGES}


def loaded(package: str) -> _Package:
    """The package with its stand-ins, imported and made if they are not yet."""
    with _LOCK:
        _LOADED[package].load()
    return _LOADED[package]


def _replace(modules: Set[str], by: Mapping[int, Callable[..., Any]], spared: Set[str] = frozenset()) -> None:
    """Puts objects in the place of others, those of the given ids, in the modules and in `__main__`, of whose names
    some are spared.

    A module refers to a function by names and in tables, such as scikit-learn's PAIRWISE_KERNEL_FUNCTIONS; in
    `__main__` names alone are replaced.
    """
    for name in modules | {"__main__"}:
        tables = [getattr(sys.modules.get(name), "__dict__", {})]  # what stands in sys.modules may be no module
        tables += [t for t in tables[0].values() if isinstance(t, dict) and name != "__main__"]
        for table in tables:
            for key, value in list(table.items()):
                if id(value) in by and not (name == "__main__" and key in spared):
                    table[key] = by[id(value)]


class patch:
    """Puts the drop-ins of `dds_ext.compat` in the place of the functions they stand for.

    Parameters
    ----------
    packages : which packages' functions: "sklearn", "scipy", "rsatoolbox", "net2brain".

    Every reference in the package's own modules is replaced, tables of functions included, and every name in the script
    itself (`__main__`), whatever it is called; all other modules keep what they imported before. An original is kept in
    a list or a dict of the script, and is the `__wrapped__` of what stands in for it. Called as a function the patch
    holds until `undo`; as a context manager until the block ends::

        with dds_ext.compat.patch("rsatoolbox") as counts:
            result = rsatoolbox.inference.eval_bootstrap_pattern(models, data, method="spearman")
        counts["rsatoolbox.inference.eval_bootstrap_pattern"].served  # 1

    Undoing puts back the very objects that were there, and puts the originals in the names and tables of all modules
    imported in between, those included that such a module had from `dds_ext.compat`. Patches may overlap: a package is
    restored when the last of them ends. What is put in place are the functions of `dds_ext.compat`
    themselves, and pickles refer to them there: an estimator fitted under a patch can be saved and loaded without it.
    While a patch holds, an original that was kept from before cannot be pickled: its name leads to another function.

    Attributes
    ----------
    counts : mapping from the name of a function, as "rsatoolbox.rdm.compare", to its `Calls` during this patch.
        Calls of the functions of `dds_ext.compat` count too; calls within a call do not.

    Raises
    ------
    ValueError : an unknown package, or none.
    ModuleNotFoundError : the package is not installed.
    """

    def __init__(self, *packages: str) -> None:
        if not packages:
            raise ValueError(f"name the packages to patch: {', '.join(PACKAGES)}")
        for package in packages:
            if package not in _LOADED:
                raise ValueError(f"unknown package {package!r}; choose from {', '.join(PACKAGES)}")
        counts: dict[str, Calls] = {}
        self._counts, self._packages = counts, [_LOADED[p] for p in dict.fromkeys(packages)]
        self.counts: Mapping[str, Calls] = MappingProxyType(counts)
        with _LOCK:
            for package in packages:
                loaded(package)
            for p in self._packages:
                p.begin(counts)

    def undo(self) -> None:
        """Takes the drop-ins out again; a second time it does nothing."""
        with _LOCK:
            for package in self._packages:
                package.end(self._counts)
            self._packages = []

    def __enter__(self) -> Mapping[str, Calls]:
        """The counts."""
        return self.counts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undoes the patch."""
        self.undo()
