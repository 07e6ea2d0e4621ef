"""What the terminal shows: tables on standard output, progress and notes on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Record = Mapping[str, Any]


def show_records(title: str, records: Sequence[Record], total: Record | None = None) -> None:
    """Print records of equal keys as a table, ``total`` as its last row under a line."""
    rows = [*records, total] if total else records
    table = _table()
    for name, value in records[0].items():
        table.add_column(name.replace("_", " "), justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()), end_section=row is records[-1])
    _show(title, table)


def show_pivot(title: str, records: Sequence[Record], down: str, across: str, figure: str) -> None:
    """Print one figure of the records by two of their keys, the highest in bold, with ``figure_sd`` if they have it."""
    columns = list(dict.fromkeys(record[across] for record in records))
    table = _table()
    table.add_column(down, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    best = max((record[figure] for record in records if record[figure] is not None), default=None)
    for name in dict.fromkeys(record[down] for record in records):
        cells = []
        for record in (record for record in records if record[down] == name):
            spread = record.get(f"{figure}_sd")
            text = _cell(record[figure]) + ("" if spread is None else f" ±{spread:.3f}")
            cells.append(Text(text, style="bold" if record[figure] == best else ""))
        table.add_row(name, *cells)
    _show(title, table)


def show_notes(notes: Sequence[str]) -> None:
    """Print notes on standard error, so that they stay out of a pipe."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@contextmanager
def working(what: str, steps: int | None = None) -> Iterator[Callable[[], None]]:
    """A progress bar while the block runs, if standard error is a terminal.

    ``steps`` is how often the block will call the function it is given; None shows that work goes on, and for how long.
    """
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    counter = [MofNCompleteColumn()] if steps else []
    with Progress(*columns, *counter, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=steps)
        yield lambda: progress.advance(task)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _show(title: str, table: Table) -> None:
    # Names of files and models are no markup; and a pipe has no width that a table must fit.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 1000)
    console.print(title, "", table, "", sep="\n", soft_wrap=True)
