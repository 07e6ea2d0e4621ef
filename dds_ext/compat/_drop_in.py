"""A drop-in: a fast way beside the function it replaces, which answers for everything the fast way does not serve."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class NotServed(Exception):
    """What a fast way raises for a call that it leaves to the original, with the reason."""


_REFUSALS = (NotServed, ValueError)
"""How a fast way refuses a call: itself, or by the engine's or the package's checks of the values. Anything else, such
as a TypeError or MemoryError, is a failure, and the caller's to see.
"""

_running = threading.local()


@dataclass(frozen=True)
class DropIn:
    """A function of another package, and the fast way to its answers.

    `fast` has the original's signature. A call that does not fit it, or that it refuses by NotServed or ValueError, is
    passed on to the original with the arguments as they came: so errors, warnings and rare options are the original's
    own. A call with an iterator, which can be read only once, is passed on unread.
    """

    name: str
    """Where its users find it, as "sklearn.metrics.pairwise.rbf_kernel"."""
    original: Callable[..., Any]
    fast: Callable[..., Any]

    def function(self, note: Callable[[str, str | None], None]) -> Callable[..., Any]:
        """What takes the original's place.

        Of each call that is not made within another drop-in's, in the same thread, `note` is told the name and why it
        is passed on, or None where it was served. The function is pickled by reference, as that of `dds_ext.compat`.
        """
        signature = inspect.signature(self.fast)

        @functools.wraps(self.original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outermost = not getattr(_running, "inside", False)
            _running.inside = True
            try:
                refusal = None
                try:
                    try:
                        signature.bind(*args, **kwargs)
                    except TypeError as error:
                        raise NotServed(str(error)) from error
                    if any(isinstance(a, Iterator) for a in (*args, *kwargs.values())):
                        raise NotServed("an iterator, which can be read only once: give a list")
                    result = self.fast(*args, **kwargs)
                except _REFUSALS as error:  # the original says what is wrong, in its words and of its type
                    refusal = str(error)
                if outermost:
                    note(self.name, refusal)
                return result if refusal is None else self.original(*args, **kwargs)
            finally:
                _running.inside = not outermost

        call.__doc__ = self.fast.__doc__
        call.__module__ = "dds_ext.compat"
        call.__name__ = call.__qualname__ = self.name.rpartition(".")[2]
        return call
