"""Tables of sources x targets: affinities and measured transfer results, as CSV files and as the bundled truth."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dds_transfer.output import writing

# The 17 tasks of the DDS paper: Taskonomy's 20 without colorization, class_places and inpainting_whole.
TASKONOMY_TASKS = (
    "autoencoder",
    "curvature",
    "denoise",
    "edge2d",
    "edge3d",
    "keypoint2d",
    "keypoint3d",
    "reshade",
    "rgb2depth",
    "rgb2mist",
    "rgb2sfnorm",
    "room_layout",
    "segment25d",
    "segment2d",
    "vanishing_point",
    "segmentsemantic",
    "class_1000",
)

# Bundled truth by name; of the win rates, the file that the DDS authors' notebook reads.
TRUTHS = {
    "taskonomy-affinity": "taskonomy/affinity.csv",
    "taskonomy-winrate": "taskonomy/winrate_pixels_16k.csv",
    "pascal-voc": "dds/pascal_voc_miou.csv",
    "branching": "dds/branching.csv",
    "minitaskonomy-winrate": "minitaskonomy/winrate.csv",
    "minitaskonomy-affinity": "minitaskonomy/affinity.csv",
}


@dataclass(frozen=True)
class Table:
    """A number for each source and target.

    Attributes:
        sources: names of the rows.
        targets: names of the columns.
        values: (S, T) float64; of measured results NaN where there is none.
    """

    sources: list[str]
    targets: list[str]
    values: NDArray[np.float64]

    def part(self, sources: Sequence[str], targets: Sequence[str]) -> Table:
        """The table of these sources and targets, in this order."""
        rows = [self.sources.index(name) for name in sources]
        columns = [self.targets.index(name) for name in targets]
        return Table(list(sources), list(targets), self.values[np.ix_(rows, columns)])

    def column(self, target: str) -> dict[str, float]:
        """The numbers of one target by source, without those that are NaN; empty where there is no such target."""
        if target not in self.targets:
            return {}
        values = self.values[:, self.targets.index(target)].tolist()
        return {name: value for name, value in zip(self.sources, values, strict=True) if not math.isnan(value)}

    def finite(self, what: str) -> NDArray[np.float64]:
        """The numbers; ValueError that says where in ``what`` one is not finite."""
        bad = np.argwhere(~np.isfinite(self.values))
        if len(bad):
            i, j = bad[0]
            where = f"source {self.sources[i]!r}, target {self.targets[j]!r}"
            raise ValueError(f"the {what} holds {self.values[i, j]} at {where}; finite numbers are needed")
        return self.values

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, row by row, as JSON files have them; None for NaN."""
        return {"sources": self.sources, "targets": self.targets, "values": self._rows(None)}

    def write(self, path: str | Path) -> None:
        """Write as CSV: a first row of target names, then a row per source; NaN is an empty cell."""
        with writing(Path(path)) as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["source", *self.targets])
            rows.writerows([name, *values] for name, values in zip(self.sources, self._rows(""), strict=True))

    def _rows(self, blank: str | None) -> list[list[Any]]:
        return [[blank if math.isnan(value) else value for value in row] for row in self.values.tolist()]


def read_table(path: Path, blanks: bool = False) -> Table:
    """Read a CSV file with target names in the first row and a source name at the start of each other row.

    With ``blanks`` an empty cell is NaN, what was not measured. Raises ValueError naming line and column for a missing
    or non-numeric value, a row of the wrong length, or a name that is empty or comes twice.
    """
    rows = _rows(path)
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise ValueError(
            f"{path} has no table: a row of target names and a row per source are needed, with commas between"
        )
    targets = _names(rows[0][1][1:], "target", path)
    sources = _names([row[0] for _, row in rows[1:]], "source", path)
    values = []
    for line, row in rows[1:]:
        if len(row) != len(targets) + 1:
            raise ValueError(f"{path}, line {line}: {len(row)} columns where the first line has {len(targets) + 1}")
        values.append(
            [
                math.nan if blanks and not text.strip() else _number(text, path, line, target)
                for text, target in zip(row[1:], targets, strict=True)
            ]
        )
    return Table(sources, targets, np.array(values))


def load_truth(name: str) -> Table:
    """Measured transfer results: a bundled table by its name in ``TRUTHS``, or else a CSV file, empty where
    nothing was measured, which is NaN.

    The Taskonomy tables are cut to the 17 tasks of the DDS paper, as rows and as columns. ``pascal-voc`` has one
    column, the mIoU after transfer from each of 17 sources. ``branching`` has a 1 where the DDS paper's Table 5 finds
    the best of four blocks for a task and 0 elsewhere. ``minitaskonomy-winrate`` and
    ``minitaskonomy-affinity`` are this package's own experiment, 21 sources and 20 targets. ``data/README.md`` says
    where each comes from.
    """
    if name in TRUTHS:
        table = read_bundled(TRUTHS[name])
        return table.part(TASKONOMY_TASKS, TASKONOMY_TASKS) if name.startswith("taskonomy-") else table
    if not Path(name).exists():
        raise ValueError(f"no truth named {name!r}: neither a file nor one of {', '.join(TRUTHS)}")
    return read_table(Path(name), blanks=True)


def read_bundled(name: str) -> Table:
    """The table at this path in the package's ``data`` folder."""
    with resources.as_file(resources.files("dds_transfer") / "data" / name) as path:
        return read_table(path)


def read_types(path: Path) -> dict[str, str]:
    """Read the types of tasks from a CSV file: a row of task and type each, under a heading.

    Raises ValueError naming the line for a row of another form, or a task that comes twice.
    """
    types: dict[str, str] = {}
    for line, row in _rows(path)[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 or not all(cells):
            raise ValueError(f"{path}, line {line}: a task and its type are needed, it reads {','.join(row)!r}")
        if cells[0] in types:
            raise ValueError(f"{path}, line {line}: the task {cells[0]!r} comes twice")
        types[cells[0]] = cells[1]
    if not types:
        raise ValueError(f"{path} names no types: a heading and a row of task and type each are needed")
    return types


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with the numbers of their first lines."""
    found = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            lines, rows = 0, csv.reader(file)
            for row in rows:
                if row:
                    found.append((lines + 1, row))
                lines = rows.line_num
            return found
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no CSV file: {error}") from error


def _names(cells: Iterable[str], what: str, path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "" in names:
        raise ValueError(f"{path} has a {what} without a name, number {names.index('') + 1}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} names the {what} {twice!r} twice")
    return names


def _number(text: str, path: Path, line: int, target: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan  # Python's own 1_000 is nobody's
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}, line {line}, column {target!r}: {text!r} is not a finite number")
    return value
