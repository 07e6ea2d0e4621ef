"""What the terminal shows: tables on standard output, progress and notes on standard error."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

Record = Mapping[str, Any]
LISTED = 10  # names in a message
# what is read at the moment in this thread, for a library's warning about it
subject: ContextVar[str] = ContextVar("subject", default="")


def show_records(title: str, records: Sequence[Record], total: Record | None = None) -> None:
    """Print records of equal keys as a table, ``total`` as its last row under a line."""
    table = _filled(list(records[0]), [list(record.values()) for record in records])
    if total:
        table.add_section()
        table.add_row(*map(cell, total.values()))
    _show(title, table)


def table_text(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A title over a table, as text of any width."""
    file = io.StringIO()
    _console(file=file, width=1000).print(_filled(columns, rows))
    return f"{title}\n\n{file.getvalue()}".rstrip()


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a title over a table."""
    _show(title, _filled(columns, rows))


def show_pivot(title: str, records: Sequence[Record], down: str, across: str, figure: str) -> None:
    """Print one figure of the records by two of their keys, the highest in bold, with ``figure_sd`` if they have it."""
    best = max((record[figure] for record in records if record[figure] is not None), default=None)

    def marked(record: Record) -> Text:
        spread = record.get(f"{figure}_sd")
        text = cell(record[figure]) + ("" if spread is None else f" ±{spread:.3f}")
        return Text(text, style="bold" if record[figure] == best else "")

    _show_crossed(title, records, down, across, marked)


def show_pairs(title: str, records: Sequence[Record], down: str, across: str, figures: tuple[str, str]) -> None:
    """Print two figures of the records side by side in each cell, by two of their keys."""
    _show_crossed(title, records, down, across, lambda record: Text("  ".join(cell(record[name]) for name in figures)))


def _show_crossed(
    title: str, records: Sequence[Record], down: str, across: str, show: Callable[[Record], Text]
) -> None:
    columns = list(dict.fromkeys(record[across] for record in records))
    table = _table()
    table.add_column(down, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for name in dict.fromkeys(record[down] for record in records):
        table.add_row(name, *(show(record) for record in records if record[down] == name))
    _show(title, table)


def show_tree(title: str, leaves: Sequence[str], merges: Sequence[tuple[float, list[str], list[str]]]) -> None:
    """Print a tree of named leaves, given what is joined at which height, the last join at the top."""
    nodes: dict[tuple[str, ...], Tree] = {(name,): Tree(Text(name)) for name in leaves}
    for height, left, right in merges:
        node = nodes[tuple(left + right)] = Tree(Text(f"{height:.3f}", style="dim"))
        node.children = [nodes[tuple(left)], nodes[tuple(right)]]
    _show(title, node)


def listed(things: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(things) - LISTED} more"] if len(things) > LISTED else []
    return "; ".join([*things[:LISTED], *more])


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


def _filled(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = _table()
    for name, value in zip(columns, rows[0], strict=True):
        table.add_column(name.replace("_", " "), justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def cell(value: Any) -> str:
    """A value as tables show it: three decimals, and a dash for what is not defined."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _show(title: str, content: RenderableType) -> None:
    # A pipe has no width that a table must fit.
    console = _console(width=None if sys.stdout.isatty() else 1000)
    console.print(title, "", content, "", sep="\n", soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the program; rich would end it with an error."""
        raise BrokenPipeError


def _console(**settings: Any) -> Console:
    return _Console(markup=False, highlight=False, **settings)  # names of files and models are no markup
