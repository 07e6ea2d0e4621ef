"""Writing results so that a file is either whole or not there."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

STDOUT = Path("-")  # the command line's name for standard output


@contextmanager
def writing(path: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A new file that takes the place of ``path`` only once it is complete.

    It is written under a temporary name in the same folder, so that the move is one step; if the block raises, it is
    removed and what was at ``path`` stays. A link's target is replaced, not the link; a file's mode is kept; what is no
    file, a device or a pipe, is written to as it is.
    """
    mode, encoding = ("wb", None) if binary else ("w", "utf-8")
    newline = None if binary else ""
    if path.exists() and not path.is_file():
        with open(path, mode, encoding=encoding, newline=newline) as file:
            yield file
        return
    target = path.resolve()
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    except OSError as error:  # the user knows nothing of the temporary name
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with open(handle, mode, encoding=encoding, newline=newline) as file:
            yield file
        os.chmod(temporary, target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename != temporary:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` only once it is complete; the block is given where to fill it.

    It has a temporary name in the same parent until then; if the block raises, it is removed and what was at ``path``
    stays.
    """
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".", suffix=".tmp"))
    except OSError as error:  # the user knows nothing of the temporary name
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)  # a folder cannot replace one that is not empty
        new.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """What the process takes from the modes of new files; there is no way to ask but to set it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of equal keys as CSV, a row each under a row of the keys; None becomes an empty cell."""
    with writing(path) as file:
        rows = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(records)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON; a NaN is refused, since JSON has none. The path ``-`` is standard output."""
    text = json.dumps(content, indent=2, allow_nan=False)  # before anything is printed
    # The process's own: a command sends to standard error what it prints besides.
    with nullcontext(sys.__stdout__) if path == STDOUT else writing(path) as file:
        print(text, file=file)
