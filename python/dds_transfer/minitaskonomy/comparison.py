"""Rankings of sources and the measured transfers of one experiment: who foretells them, and from what.

Every part is a list of flat records, kept in the experiment's folder as it ends, as ``comparison/PART.json`` and
``.csv``. The measured transfers are those of the tables that :func:`.run.write_truth` writes.

The sources that are compared are the 20 trained networks. The untrained control took part in the tournament that the
truth comes from; how a ranking fares that must place it too stands beside, under ``with_control``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import dds_ext
from dds_transfer.evaluation import evaluate
from dds_transfer.extraction import extract_features
from dds_transfer.grid import FIGURES, agreement, compute_grid
from dds_transfer.layers import TASK_TYPES, LayerRanking, rank_layers
from dds_transfer.minitaskonomy.dataset import load_split
from dds_transfer.minitaskonomy.experiment import SEED, TRUTHS, Experiment
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.methods import (
    Features,
    all_methods,
    label_features,
    on_draws,
    photographs,
    similarities,
    trained_only,
)
from dds_transfer.minitaskonomy.run import BRANCHED, encoded, ranking_features
from dds_transfer.minitaskonomy.training import load_encoder
from dds_transfer.minitaskonomy.transfer import constant_loss
from dds_transfer.output import write_json, write_records
from dds_transfer.resampling import draw_rows
from dds_transfer.tables import Table, read_table
from dds_transfer.taxonomy import compare_similarities
from dds_transfer.terminal import working

Record: TypeAlias = dict[str, Any]

GRID_DRAWS = 20  # the whole grid costs 50 times one measure
# Of the encoders, where their convolutions' outputs are, rectified but for the last one's.
DEPTHS = {f"convolution {i + 1}": name for i, name in enumerate(("1", "3", "5", "7", "8"))}
LABELS = "labels"


def compare(experiment: Experiment) -> dict[str, list[Record]]:
    """All parts, by name; those that are kept already are read."""
    (experiment.folder / "comparison").mkdir(exist_ok=True)
    return {name: _kept(experiment, name, make) for name, make in PARTS.items()}


def _kept(experiment: Experiment, name: str, make: Callable[[Experiment], list[Record]]) -> list[Record]:
    path = experiment.folder / "comparison" / f"{name}.json"
    if not path.exists():
        with working(f"{experiment.folder}: {name}"):
            records = make(experiment)
        write_records(path.with_suffix(".csv"), records)
        write_json(path, records)
    found: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _agreement(experiment: Experiment) -> list[Record]:
    """Each method and truth: mean correlations, intervals over draws of images, regret, time."""
    records = []
    for name, method in all_methods(experiment).items():
        for truth in TRUTHS:
            trained = experiment.trained[truth]
            mean = evaluate(method.table.part(list(TASKS), list(TASKS)), trained).mean
            drawn = [agreement(values, trained, []) for values in method.draws]
            figures = {figure: getattr(mean, figure) for figure in (*FIGURES, "kendall", "kendall_off_diagonal")}
            for figure in ("spearman", "spearman_off_diagonal"):
                for end, share in (("low", 0.025), ("high", 0.975)):
                    known = [value for found in drawn if (value := found[figure]) is not None]
                    figures[f"{figure}_{end}"] = float(np.quantile(known, share)) if known else None
            records.append(
                {
                    "method": name,
                    "truth": truth,
                    **figures,
                    "spearman_with_control": evaluate(
                        method.table, experiment.truths[truth]
                    ).mean.spearman_off_diagonal,
                    "regret": mean.regret,
                    "relative_regret": mean.relative_regret,
                    "seconds": method.seconds,
                    "cpu_seconds": method.cpu_seconds,
                }
            )
    return records


def _targets(experiment: Experiment) -> list[Record]:
    """Each method, truth and target: correlation off the diagonal and regret."""
    return [
        {
            "method": name,
            "truth": truth,
            "target": target,
            "type": TASK_TYPES[target],
            "spearman_off_diagonal": found.spearman_off_diagonal,
            "relative_regret": found.relative_regret,
        }
        for name, method in all_methods(experiment).items()
        for truth, table in experiment.trained.items()
        for target, found in evaluate(method.table.part(list(TASKS), list(TASKS)), table).targets.items()
    ]


def _at_k(experiment: Experiment) -> list[Record]:
    """Each method, truth and K: what the first K sources are worth."""
    return [
        {"method": name, "truth": truth, **asdict(entry)}
        for name, method in all_methods(experiment).items()
        for truth, table in experiment.trained.items()
        for entry in evaluate(method.table.part(list(TASKS), list(TASKS)), table).mean.at_k
    ]


def _control(experiment: Experiment) -> list[Record]:
    """Where the untrained control stands, of 21 sources, by the truth and by each method; the mean over targets."""
    tables = experiment.truths | {
        name: method.table for name, method in all_methods(experiment).items() if name not in ("random", "identity")
    }
    return [
        {"table": name, "place": float((table.values > table.values[-1]).sum(axis=0).mean() + 1)}
        for name, table in tables.items()
    ]


def _learned(experiment: Experiment) -> list[Record]:
    """Each target: mean losses of its own network's readout, of the best source's, of the control's, and of a constant;
    and the share of the sources whose readouts are worse than the constant."""
    found = read_table(experiment.folder / "losses.csv")
    train, test = (
        load_split(experiment.folder, split, experiment.settings.images(split)) for split in ("transfer", "test")
    )
    records = []
    for target in TASKS:
        by_source = found.column(target)
        constant = constant_loss(target, train.label(target), test.label(target))
        trained = [by_source[source] for source in TASKS]
        records.append(
            {
                "target": target,
                "own": by_source[target],
                "best": min(trained),
                "control": by_source[found.sources[-1]],
                "constant": constant,
                "worse_share": fmean(float(loss > constant) for loss in trained),
            }
        )
    return records


def _lead(experiment: Experiment) -> list[Record]:
    """Each other method and truth: how far DDS is ahead in the correlation off the diagonal, mean over targets.

    With the 95% interval of a bootstrap over the targets.
    """
    known = [record for record in _kept(experiment, "targets", _targets) if record["spearman_off_diagonal"] is not None]
    rows = np.random.RandomState(SEED).randint(len(TASKS), size=(10_000, len(TASKS)))
    records = []
    for truth in TRUTHS:
        by_method: dict[str, dict[str, float]] = {}
        for record in known:
            if record["truth"] == truth:
                by_method.setdefault(record["method"], {})[record["target"]] = record["spearman_off_diagonal"]
        complete = {name: found for name, found in by_method.items() if len(found) == len(TASKS)}
        dds = complete.pop("dds", None)
        if dds is None:
            continue
        for name, found in complete.items():
            ahead = np.array([dds[target] - found[target] for target in TASKS])
            low, high = np.quantile(ahead[rows].mean(axis=1), (0.025, 0.975))
            records.append(
                {
                    "method": name,
                    "truth": truth,
                    "ahead": float(ahead.mean()),
                    "low": float(low),
                    "high": float(high),
                }
            )
    return records


def _grid(experiment: Experiment) -> list[Record]:
    """Each normalisation, f and truth: mean correlations over draws of images, as in the DDS paper's Table 2."""
    features = trained_only(ranking_features(experiment.folder, experiment.settings))
    rows = draw_rows(len(features[BRANCHED]), experiment.drawn, min(experiment.settings.draws, GRID_DRAWS), SEED)
    truths = experiment.trained

    def reduce(matrix: NDArray[np.float64]) -> dict[str, dict[str, float | None]]:
        return {name: agreement(matrix, truth, []) for name, truth in truths.items()}

    records = compute_grid(features, None, rows, dds_ext.NORMALIZATIONS, reduce, lambda: None)
    # compute_grid names what its figures are of a source
    return [{"truth" if key == "source" else key: value for key, value in record.items()} for record in records]


def _images(experiment: Experiment) -> list[Record]:
    """Each measure, number of images and truth: the mean correlation over draws, and its deviation.

    Last of all the images, of which there is one draw, without a deviation.
    """
    n = experiment.settings.ranking
    features = ranking_features(experiment.folder, experiment.settings)
    sizes = [n >> k for k in range(n.bit_length(), 0, -1) if n >> k >= 4]
    draws = {size: draw_rows(n, size, experiment.settings.draws, SEED) for size in sizes} | {n: [np.arange(n)]}
    records = []
    for measure in dds_ext.MEASURES:
        for size, rows in draws.items():
            drawn = on_draws(features, measure, rows)
            for name, truth in experiment.trained.items():
                each = [agreement(values, truth, [])["spearman_off_diagonal"] for values in drawn]
                found = [value for value in each if value is not None]
                records.append(
                    {
                        "measure": measure,
                        "images": size,
                        "truth": name,
                        "spearman_off_diagonal": fmean(found),
                        "spearman_off_diagonal_sd": stdev(found) if len(found) > 1 else None,
                    }
                )
    return records


def _robustness(experiment: Experiment) -> list[Record]:
    """Each measure and variant of what it sees: correlation with the truth, and with the measure's own main result.

    Variants are earlier checkpoints, smaller encoders, and images of other distributions; the truth stays that of the
    finished encoders. ``same_similarities`` is Spearman's correlation of the two tables off the diagonal, as the RSA
    paper compares them, ``same_ranking`` that of the sources of a target, mean over targets.
    """
    folder, settings = experiment.folder, experiment.settings
    usual = ranking_features(folder, settings)
    variants: dict[str, Callable[[], Features]] = {
        "finished": lambda: usual,
        "half of the training": lambda: ranking_features(folder, settings, stage="half"),
        "tenth of the training": lambda: ranking_features(folder, settings, stage="tenth"),
        "small encoders": lambda: ranking_features(folder, settings, architecture="small"),
        "rooms at night": lambda: ranking_features(folder, settings, style="night"),
        "photographs": lambda: encoded(folder, photographs(settings.ranking)),
    }
    records = []
    for variant, make in variants.items():
        features = trained_only(make())
        for measure in dds_ext.MEASURES:
            main, table = similarities(trained_only(usual), measure), similarities(features, measure)
            records.append(
                {
                    "measure": measure,
                    "variant": variant,
                    **_off_diagonal(table, experiment),
                    "same_similarities": compare_similarities(main, table).spearman,
                    "same_ranking": evaluate(table, main).mean.spearman_off_diagonal,
                }
            )
    return records


def _depth(experiment: Experiment) -> list[Record]:
    """Each measure and depth: how alike tasks are there, and the correlation with the truth.

    The depths are the five convolutions of the encoders, and the labels themselves. ``within`` and ``between`` are
    mean similarities of different tasks of one type and of two, ``as_labels`` Spearman's correlation with the
    similarities of the labels.
    """
    data = experiment.images()
    images = data.input("image")
    encoders = {task: load_encoder(experiment.folder, "encoder", task) for task in TASKS}
    tables: dict[str, dict[str, Table]] = {}
    for depth in (*DEPTHS, LABELS):
        if depth == LABELS:
            features = {task: label_features(data, task) for task in TASKS}
        else:
            layer = {"": DEPTHS[depth]}
            features = {task: extract_features(encoder, images, layer)[""] for task, encoder in encoders.items()}
        tables[depth] = {measure: similarities(features, measure) for measure in ("dds", "rsa")}
    types = np.array([TASK_TYPES[task] for task in TASKS])
    same, different = types[:, None] == types, ~np.eye(len(types), dtype=bool)
    return [
        {
            "measure": measure,
            "depth": depth,
            "within": float(table.values[same & different].mean()),
            "between": float(table.values[~same].mean()),
            **_off_diagonal(table, experiment),
            "as_labels": compare_similarities(tables[LABELS][measure], table).spearman,
        }
        for depth in (*DEPTHS, LABELS)
        for measure, table in tables[depth].items()
    ]


def _branching(experiment: Experiment) -> list[Record]:
    """Each measure, type of task and block of the ResNet: similarity, selectivity, and the measured win rate.

    ``recommended`` is the block that the measure would branch from, ``best`` the one that served the type best.
    """
    truth = read_table(experiment.folder / "branching_winrate.csv")
    records = []
    for measure, ranking in _block_rankings(experiment).items():
        for name, tasks in ranking.tasks.items():
            wins = truth.part(ranking.blocks, tasks).values.mean(axis=1)
            for i, block in enumerate(ranking.blocks):
                records.append(
                    {
                        "measure": measure,
                        "type": name,
                        "block": block,
                        "similarity": float(ranking.similarity[name][i]),
                        "selectivity": float(ranking.selectivity[name][i]),
                        "winrate": float(wins[i]),
                        "recommended": block == ranking.recommended[name],
                        "best": i == int(wins.argmax()),
                    }
                )
    return records


def _branching_agreement(experiment: Experiment) -> list[Record]:
    """Each measure: its correlation over the four blocks with the measured win rates, mean over tasks.

    And two regrets: of the block that is most similar to each task, and of the one that is recommended for its type,
    the most selective.
    """
    truth = read_table(experiment.folder / "branching_winrate.csv")
    records = []
    for measure, ranking in _block_rankings(experiment).items():
        chosen = [[block == ranking.recommended[kind] for kind in ranking.types.values()] for block in ranking.blocks]
        similar, selective = (
            evaluate(Table(ranking.blocks, list(ranking.types), values), truth).mean
            for values in (ranking.scores, np.array(chosen, np.float64))
        )
        records.append(
            {
                "measure": measure,
                "spearman": similar.spearman,
                "relative_regret": similar.relative_regret,
                "relative_regret_recommended": selective.relative_regret,
            }
        )
    return records


@lru_cache(maxsize=1)
def _block_rankings(experiment: Experiment) -> dict[str, LayerRanking]:
    blocks = extract_features(load_encoder(experiment.folder, "resnet", BRANCHED), experiment.images().input("image"))
    tasks = trained_only(ranking_features(experiment.folder, experiment.settings))
    return {measure: rank_layers(blocks, tasks, measure, name="ResNet") for measure in dds_ext.MEASURES}


def _off_diagonal(table: Table, experiment: Experiment) -> dict[str, float | None]:
    """Spearman's correlation with each truth, the diagonal left out."""
    return {
        f"spearman_{name}": agreement(table.values, truth, [])["spearman_off_diagonal"]
        for name, truth in experiment.trained.items()
    }


PARTS: dict[str, Callable[[Experiment], list[Record]]] = {
    "agreement": _agreement,
    "targets": _targets,
    "at_k": _at_k,
    "control": _control,
    "learned": _learned,
    "lead": _lead,
    "grid": _grid,
    "images": _images,
    "robustness": _robustness,
    "depth": _depth,
    "branching": _branching,
    "branching_agreement": _branching_agreement,
}
