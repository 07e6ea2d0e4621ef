"""Several seeds of the experiment: means and spread of their comparisons, gathered in one folder with pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from dds_transfer.minitaskonomy.comparison import Record, compare
from dds_transfer.minitaskonomy.experiment import TABLES, Experiment
from dds_transfer.minitaskonomy.methods import read_method
from dds_transfer.minitaskonomy.run import EDITION, read_cost
from dds_transfer.output import write_json, write_records


def collect(experiments: Sequence[Experiment], output: Path) -> None:
    """Write what is worth keeping of experiments that differ in their seed alone.

    ``summary.json``, the settings, what each run took, and all parts with means and spread by :func:`summarise`; a CSV
    file for each part; pictures; and in a folder for each seed the measured transfers, every method's similarities, and
    its own parts.

    Raises ValueError for experiments of different settings or equal seeds, or where a note of the cost is damaged.
    """
    from dds_transfer.minitaskonomy.figures import draw_all
    from dds_transfer.plots import save_figure

    seeds = [experiment.seed for experiment in experiments]
    if len(set(seeds)) < len(seeds) or len({experiment.settings for experiment in experiments}) > 1:
        raise ValueError("the experiments must be of different seeds and of the same settings")
    costs = []
    for experiment in experiments:
        workers, wall, cpu = read_cost(experiment.folder)
        costs.append({"seed": experiment.seed, "workers": workers, "wall_seconds": wall, "cpu_seconds": cpu})
    parts = [compare(experiment) for experiment in experiments]
    summary = {name: summarise([part[name] for part in parts]) for name in parts[0]}
    for experiment in experiments:
        _copy(experiment, output / f"seed{experiment.seed}")
    for name, records in summary.items():
        write_records(output / f"{name}.csv", records)
    for name, figure in draw_all(summary).items():
        save_figure(figure, output / f"{name}.png")
    about = {"edition": EDITION, "seeds": seeds, **asdict(experiments[0].settings), "drawn": experiments[0].drawn}
    write_json(output / "summary.json", {"settings": about, "costs": costs, **summary})


def summarise(records: Sequence[Sequence[Record]]) -> list[Record]:
    """One list of records from several whose keys are the same.

    Whole numbers and text say what a record is of. For every other figure there is its mean over the lists and, as
    ``<figure>_min`` and ``<figure>_max``, its range; of yes and no, the share of yes. A figure that a list does not
    have is left out of these; None where none has it.
    """
    by_key: dict[tuple[tuple[str, Any], ...], list[Record]] = {}
    for record in chain.from_iterable(records):
        key = tuple((name, value) for name, value in record.items() if _says_what(value))
        by_key.setdefault(key, []).append(record)
    summary = []
    for key, found in by_key.items():
        summary.append(dict(key))
        for name in (name for name in found[0] if name not in summary[-1]):
            known = [float(record[name]) for record in found if record[name] is not None]
            summary[-1][name] = fmean(known) if known else None
            if not isinstance(found[0][name], bool):
                summary[-1][f"{name}_min"], summary[-1][f"{name}_max"] = (
                    (min(known), max(known)) if known else (None, None)
                )
    return summary


def _says_what(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _copy(experiment: Experiment, folder: Path) -> None:
    """The tables and parts of one seed."""
    made = experiment.folder / "comparison"
    (folder / "similarities").mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copyfile(experiment.folder / f"{name}.csv", folder / f"{name}.csv")
    for path in made.glob("*.csv"):
        shutil.copyfile(path, folder / path.name)
    for path in (made / "similarities").glob("*.json"):
        read_method(path).table.write(folder / "similarities" / f"{path.stem}.csv")
