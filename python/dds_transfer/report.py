"""A report: one HTML page that stands by itself. Needs matplotlib, the extra ``plot``; import it where one is made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dds_transfer.environment import environment, environment_rows
from dds_transfer.evaluation import Evaluation
from dds_transfer.layers import LayerRanking
from dds_transfer.output import writing
from dds_transfer.plots import draw_affinity, draw_taxonomy, page_svg
from dds_transfer.selection import Ranking
from dds_transfer.tables import Table
from dds_transfer.taxonomy import Taxonomy
from dds_transfer.terminal import cell

_AGREEMENT = (
    *("target", "sources", "spearman", "spearman_off_diagonal", "kendall", "kendall_off_diagonal"),
    *("regret", "relative_regret"),
)


@dataclass(frozen=True)
class _Numbers:
    """A table of the page; one that is folded opens at a click."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    folded: bool = False


@dataclass(frozen=True)
class _Section:
    title: str
    answer: str
    sentences: list[str]
    picture: Markup | None
    tables: list[_Numbers]
    map: bool = False  # whether the picture has a cell for each pair: on a phone it scrolls rather than shrinks


@dataclass(frozen=True, kw_only=True)
class Report:
    """Results, and what is needed to repeat them; every part may be left out, but not all results.

    Attributes:
        ranking: which source to start from.
        layers: which block to branch from.
        agreement: of ``affinity`` with measured transfer.
        truth: what to call that.
        measured: it, for the ranking's target, by source; shown beside the ranking.
        affinity: similarity of every model to every other.
        taxonomy: the tree of these models; needs ``affinity``.
        settings: of the computation, beside those that the ranking and the layers know themselves.
        command: the command line.
        inputs: SHA-256 digests of the files, by path; :func:`digests` computes them.
        environment: of :func:`dds_transfer.environment.environment`.
        written: when, by default now.
    """

    ranking: Ranking | None = None
    layers: LayerRanking | None = None
    agreement: Evaluation | None = None
    truth: str = "measured transfer"
    measured: Mapping[str, float] = field(default_factory=dict)
    affinity: Table | None = None
    taxonomy: Taxonomy | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=environment)
    written: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self) -> None:
        """Raise ValueError if there is nothing to report, or a tree without its table."""
        if self.ranking is None and self.layers is None and self.agreement is None and self.affinity is None:
            raise ValueError("a report needs a ranking, layers, an agreement or an affinity table")
        if self.taxonomy is not None and self.affinity is None:
            raise ValueError("a report of a taxonomy needs the affinity table that it was made from")

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON files have it; a part that was left out is None."""
        parts = {name: getattr(self, name) for name in ("ranking", "layers", "agreement", "affinity", "taxonomy")}
        return {
            **{name: part and part.to_dict() for name, part in parts.items()},
            "truth": self.truth if self.agreement else None,
            "measured": dict(self.measured) or None,
            "settings": dict(self.settings),
            "command": self.command,
            "inputs": dict(self.inputs),
            "environment": dict(self.environment),
            "written": self.written.isoformat(timespec="seconds"),
        }

    def html(self) -> str:
        """The page. It loads nothing: pictures are part of it, and its own policy forbids the rest."""
        makers: list[tuple[Any, Callable[[Any], _Section]]] = [
            (self.ranking, self._ranking),
            (self.layers, _layers),
            (self.agreement, self._agreement),
            (self.affinity, self._affinity),
        ]
        sections = [make(part) for part, make in makers if part is not None]
        pages = Environment(
            loader=PackageLoader("dds_transfer"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        pages.filters["cell"] = _cell
        return pages.get_template("report.html").render(
            title=self._title(),
            sections=sections,
            command=self.command,
            repeat=self._repeat(),
            written=self.written.strftime("%Y-%m-%d %H:%M %Z"),
        )

    def write(self, path: str | Path) -> None:
        """Write :meth:`html` to a file."""
        page = self.html()
        with writing(Path(path)) as file:
            file.write(page)

    def _title(self) -> str:
        if self.ranking is not None:
            return f"Where to start from for {self.ranking.target}"
        return "Where to branch from" if self.layers is not None and self.affinity is None else "How models relate"

    def _ranking(self, ranking: Ranking) -> _Section:
        draws = ranking.bootstrap
        best = ranking.sources[0]
        sentences = []
        if draws is not None:
            share = dict(zip(ranking.sources, draws.first_share.tolist(), strict=True))
            others = [f"{name} in {_percent(part)}" for name, part in share.items() if part > 0 and name != best]
            sentences.append(f"It comes first in {_percent(share[best])} of the draws of images; " + _others(others))
        sentences += [_sentence(note) for note in ranking.notes]
        sentences.append("A similarity is a first ranking, not a measured transfer: train the two or three best.")
        known = any(name in self.measured for name in ranking.sources)
        records = ranking.beside(self.measured) if known else ranking.records
        return _Section(
            "Which source",
            f"Start from {best}: of {len(ranking.sources)} sources it is the most similar to {ranking.target}.",
            sentences,
            Markup(page_svg(ranking.plot, "ranking")),
            [_Numbers(ranking.title, _words(records[0]), [list(record.values()) for record in records])],
        )

    def _agreement(self, agreement: Evaluation) -> _Section:
        rows = [{"target": name, **asdict(found)} for name, found in agreement.targets.items()]
        if len(rows) > 1:
            rows.append({"target": "mean", **asdict(agreement.mean)})
        mean = agreement.mean
        answer = ""
        sentences = [
            f"Correlation of the similarities with {self.truth} over the sources of each target, with the target itself"
            " as a source and without (off diagonal); and the regret, what is lost by taking the most similar source "
            "instead of the best one, in the units of the measured transfer and relative to a random choice."
        ]
        if mean.spearman_off_diagonal is not None:
            mean_of = f"mean over {len(agreement.targets)} targets" if len(agreement.targets) > 1 else rows[0]["target"]
            answer = f"Spearman's correlation, {mean_of}: {cell(mean.spearman_off_diagonal)} off diagonal."
        at_k = [asdict(entry) for entry in mean.at_k]
        return _Section(
            f"Agreement with {self.truth}",
            answer,
            sentences + [_sentence(note) for note in agreement.notes],
            None,
            [
                _Numbers("By target", _words(_AGREEMENT), [[row[name] for name in _AGREEMENT] for row in rows]),
                _Numbers("The first K sources", _words(at_k[0]), [list(entry.values()) for entry in at_k], folded=True),
            ],
        )

    def _affinity(self, affinity: Table) -> _Section:
        tree = self.taxonomy
        sentences = ["Similarity of each source (row) to each target (column)."]
        if tree is not None:
            sentences.append(
                "The tree joins first what is most alike; rows stand in its order, and colours show the rank of a "
                "source for the target."
            )
            if tree.cophenetic_correlation is not None:
                kept = cell(tree.cophenetic_correlation)
                sentences.append(f"The tree keeps the distances with a cophenetic correlation of {kept}.")
        rows = [[name, *values] for name, values in zip(affinity.sources, affinity.values.tolist(), strict=True)]
        joins = [[height, ", ".join(left), ", ".join(right)] for height, left, right in tree.merges()] if tree else []
        tables = [_Numbers("All similarities", ["source", *affinity.targets], rows, folded=True)]
        if joins:
            tables.append(_Numbers("What the tree joins", ["distance", "one side", "other side"], joins, folded=True))
        return _Section(
            "Every model against every other",
            "",
            sentences,
            Markup(
                page_svg(lambda: draw_taxonomy(tree, affinity, "") if tree else draw_affinity(affinity, ""), "affinity")
            ),
            tables,
            map=True,
        )

    def _repeat(self) -> list[_Numbers]:
        settings: dict[str, Any] = {}
        for part in (self.layers, self.ranking):
            if part is not None:
                known = part.to_dict()
                settings |= {name: value for name, value in known.items() if not isinstance(value, list)}
        settings = {**self.settings, **settings}
        tables = [_Numbers("Settings", ["setting", "value"], [[_word(k), _plain(v)] for k, v in settings.items()])]
        if self.inputs:
            tables.append(_Numbers("Files", ["file", "SHA-256"], [list(item) for item in self.inputs.items()]))
        tables.append(_Numbers("Versions and machine", ["", ""], environment_rows(dict(self.environment))))
        return [table for table in tables if table.rows]


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of the content of each file, in hexadecimal, by its path; each file once."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found[str(path)] = digest.hexdigest()
    return found


def _layers(layers: LayerRanking) -> _Section:
    recommended = [f"{block} for {name}" for name, block in layers.recommended.items()]
    return _Section(
        "Which block",
        f"Branch from {', '.join(recommended)}.",
        [],
        Markup(page_svg(layers.plot, "layers")),
        [_Numbers(layers.title, *_named(layers.table()))],
    )


def _cell(value: Any) -> Markup:
    """As in a terminal; a long name may break behind an underscore."""
    return Markup(str(escape(cell(value))).replace("_", "_<wbr>"))


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _others(others: list[str]) -> str:
    return f"{', '.join(others)}." if others else "no other source does in any."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share == 0 or share >= 0.005 else "less than 1%"


def _named(table: tuple[list[str], list[list[Any]]]) -> tuple[list[str], list[list[Any]]]:
    columns, rows = table
    return _words(columns), rows


def _words(names: Iterable[str]) -> list[str]:
    return [_word(name) for name in names]


def _word(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_word(str(name))} {_plain(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
