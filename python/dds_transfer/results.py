"""What the results of the selections have in common: a table in a terminal and in a notebook, CSV, JSON, a picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dds_transfer.output import write_json, write_records
from dds_transfer.terminal import cell, table_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Result(ABC):
    """A result that shows itself as a table wherever it is printed."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the table shows, in a line."""

    @property
    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The rows of the CSV file, by the names of its columns."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The records and the settings they were obtained with, as :meth:`to_json` writes them."""

    @abstractmethod
    def _draw(self) -> Figure:
        """The picture that :meth:`plot` returns."""

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Headings and rows of the printed table; the records, where no other form reads better."""
        return list(self.records[0]), [list(record.values()) for record in self.records]

    def to_csv(self, path: str | Path) -> None:
        """Write :attr:`records` as CSV, a row each under a row of names; what is not defined is an empty cell."""
        write_records(Path(path), self.records)

    def to_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` as JSON."""
        write_json(Path(path), self.to_dict())

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the result, as a matplotlib figure; with a ``path`` also save it in the format of its ending.

        Raises ModuleNotFoundError where matplotlib, the extra ``plot``, is missing.
        """
        from dds_transfer import plots

        figure = self._draw()
        if path is not None:
            plots.save_figure(figure, Path(path))
        return figure

    def __str__(self) -> str:
        """The title over the table."""
        return table_text(self.title, *self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        columns, rows = self.table()
        body = [_html_row("td", [cell(value) for value in row]) for row in rows]
        return "\n".join(
            [
                "<table>",
                f"<caption>{escape(self.title)}</caption>",
                f"<thead>{_html_row('th', [name.replace('_', ' ') for name in columns])}</thead>",
                "<tbody>",
                *body,
                "</tbody>",
                "</table>",
            ]
        )


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in cells)}</tr>"
