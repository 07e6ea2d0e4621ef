"""Writing results so that a file is either whole or not there."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def writing(path: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A new file that takes the place of ``path`` only once it is complete.

    It is written under a temporary name in the same folder, so that the move is one step; if the block raises, it is
    removed and what was at ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") if binary else open(temporary, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        if str(error.filename) != str(temporary):
            raise
        # the user knows nothing of the temporary name
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of equal keys as CSV, a row each under a row of the keys; None becomes an empty cell."""
    with writing(path) as file:
        rows = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(records)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON; a NaN is refused, since JSON has none."""
    with writing(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
