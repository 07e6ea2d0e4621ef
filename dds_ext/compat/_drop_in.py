"""A drop-in: a fast way beside the function it replaces, which answers for everything the fast way does not serve."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class NotServed(Exception):
    """What a fast way raises for a call that it leaves to the original."""


@dataclass(frozen=True)
class DropIn:
    """A function of another package, and the fast way to its answers.

    `fast` has the original's signature. A call that it refuses, by NotServed or any other error, is passed on to the
    original with the arguments as they came: so errors, warnings and rare options are the original's own.
    """

    name: str
    """Where its users find it, as "sklearn.metrics.pairwise.rbf_kernel"."""
    original: Callable[..., Any]
    fast: Callable[..., Any]

    def function(self, note: Callable[[str, bool], None] | None = None) -> Callable[..., Any]:
        """What takes the original's place; `note` is told the name and whether the call was served, after each call."""
        signature = inspect.signature(self.fast)

        @functools.wraps(self.original)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                signature.bind(*args, **kwargs)
                result = self.fast(*args, **kwargs)
            except Exception:  # the original says what is wrong, in its words and of its type
                served = False
            else:
                served = True
            if note is not None:
                note(self.name, served)
            return result if served else self.original(*args, **kwargs)

        call.__doc__ = self.fast.__doc__
        if note is None:  # imported from dds_ext.compat, by which name pickle finds it again
            call.__module__, call.__name__ = "dds_ext.compat", self.name.rpartition(".")[2]
            call.__qualname__ = call.__name__
        return call
