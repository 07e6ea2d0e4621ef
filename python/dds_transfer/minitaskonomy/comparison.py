"""Rankings of sources and the measured transfers of one experiment: who foretells them, and from what.

Every part is a list of flat records, kept in the experiment's folder as it ends, as ``comparison/PART.json`` and
``.csv``. The measured transfers are those of the tables that :func:`.run.write_truth` writes.

The sources that are compared are the 20 trained networks. The untrained control took part in the tournament that the
truth comes from; how a ranking fares that must place it too stands beside, under ``with_control``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import dds_ext
from dds_transfer.attribution import METHODS, attribution_affinity
from dds_transfer.evaluation import evaluate
from dds_transfer.extraction import extract_features
from dds_transfer.grid import FIGURES, agreement, compute_grid
from dds_transfer.layers import TASK_TYPES, rank_layers
from dds_transfer.minitaskonomy.dataset import Dataset, load_split
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.networks import SIZE
from dds_transfer.minitaskonomy.run import BRANCHED, SOURCES, Settings, encoded, ranking_features
from dds_transfer.minitaskonomy.training import load_encoder
from dds_transfer.output import write_json, write_records
from dds_transfer.resampling import draw_rows
from dds_transfer.tables import Table, read_table
from dds_transfer.taxonomy import compare_similarities
from dds_transfer.terminal import working

Record: TypeAlias = dict[str, Any]
Features: TypeAlias = Mapping[str, NDArray[Any]]

TRUTHS = ("winrate", "affinity")
DRAWS = 100
GRID_DRAWS = 20  # the whole grid costs 50 times one measure
IMAGES = 200  # in a draw, as in the DDS paper
SEED = 1993  # of the draws: the DDS authors'
BLOCK = 8  # images whose attribution maps are compared at once
# Of the encoders, where their convolutions' outputs are, rectified but for the last one's.
DEPTHS = {f"convolution {i + 1}": name for i, name in enumerate(("1", "3", "5", "7", "8"))}
LABELS = "labels"


@dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    Attributes:
        folder: where :func:`.run.run` kept it.
        seed: its seed.
        settings: its sizes.
        truths: the measured transfers, (21, 20) with the control, by ``TRUTHS``.
        draws: how often images are drawn.
    """

    folder: Path
    seed: int
    settings: Settings
    truths: dict[str, Table]
    draws: int = DRAWS

    @property
    def trained(self) -> dict[str, Table]:
        """The measured transfers from the trained networks alone, (20, 20)."""
        return {name: table.part(list(TASKS), list(TASKS)) for name, table in self.truths.items()}

    @property
    def drawn(self) -> int:
        """The number of images in a draw."""
        return min(IMAGES, self.settings.ranking // 2)

    def images(self, style: str = "day") -> Dataset:
        """What rankings are computed from."""
        return load_split(self.folder, "ranking", self.settings.ranking, style)


def load_experiment(folder: Path, draws: int = DRAWS) -> Experiment:
    """The experiment in a folder; ValueError where it is not finished."""
    try:
        about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        truths = {name: read_table(folder / f"{name}.csv") for name in TRUTHS}
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no finished experiment, {Path(error.filename).name} is missing; "
            f"python -m dds_transfer.minitaskonomy -o {folder} starts or goes on with it"
        ) from error
    return Experiment(folder, about.pop("seed"), Settings(**about), truths, draws)


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


# The methods.


@dataclass(frozen=True)
class Method:
    """What a method says, and what it costs.

    Attributes:
        table: (21, 20), its similarity of every source to every target.
        draws: (20, 20) each, the same of the trained networks from draws of images.
        seconds, cpu_seconds: from images to the table, on the wall clock and summed over the cores.
    """

    table: Table
    draws: list[NDArray[np.float64]]
    seconds: float
    cpu_seconds: float


def measured(experiment: Experiment, measure: str) -> Method:
    """One of ``dds_ext.MEASURES``, on the encoders' features."""
    wall, cpu = time.perf_counter(), time.process_time()
    features = ranking_features(experiment.folder, experiment.settings)
    table = similarities(features, measure)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = draw_rows(experiment.settings.ranking, experiment.drawn, experiment.draws, SEED)
    return Method(table, _on_draws(features, measure, rows), wall, cpu)


def attributed(experiment: Experiment, method: str) -> Method:
    """One of the attribution methods, on the same outputs of the same encoders.

    The affinity is a mean over images; it is computed for blocks of 8 images, and a draw is one of blocks. Images are
    in no order, so the mean of a draw is distributed as that of as many single images, but for the share of all images
    that it takes.
    """
    encoders = {source: load_encoder(experiment.folder, "encoder", source) for source in SOURCES}
    images = experiment.images().input("image")
    wall, cpu = time.perf_counter(), time.process_time()
    blocks = [
        attribution_affinity(encoders, images[i : i + BLOCK], method, batch_size=BLOCK).table
        for i in range(0, len(images), BLOCK)
    ]
    values = np.stack([block.values for block in blocks])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sizes = np.array([len(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK)], np.float64)
    whole = Table(list(SOURCES), list(SOURCES), np.average(values, axis=0, weights=sizes))
    count = max(1, experiment.drawn // BLOCK)
    drawn = draw_rows(len(blocks), count, experiment.draws, SEED) if count < len(blocks) else []
    n = len(TASKS)
    return Method(
        whole.part(list(SOURCES), list(TASKS)), [values[rows].mean(axis=0)[:n, :n] for rows in drawn], wall, cpu
    )


def similarities(features: Features, measure: str) -> Table:
    """The similarity of every source to every task by one of ``dds_ext.MEASURES``."""
    targets = {name: features[name] for name in TASKS}
    return Table(list(features), list(TASKS), dds_ext.affinity(features, targets, **dds_ext.MEASURES[measure]))


def _on_draws(features: Features, measure: str, draws: Iterable[NDArray[np.intp]]) -> list[NDArray[np.float64]]:
    """(20, 20) similarities of the trained networks on each draw of images."""
    return [
        dds_ext.affinity({name: features[name][rows] for name in TASKS}, **dds_ext.MEASURES[measure]) for rows in draws
    ]


def _methods(experiment: Experiment) -> dict[str, Method]:
    """Every method by name, those that cost time kept.

    Beside the methods proper there are ``random``, a random ranking, and ``identity``, which knows nothing but that a
    network suits its own task best.
    """
    known: dict[str, Callable[[Experiment, str], Method]] = {
        **dict.fromkeys(dds_ext.MEASURES, measured),
        **dict.fromkeys(METHODS, attributed),
    }
    methods = {}
    for name, make in known.items():
        path = experiment.folder / "comparison" / "similarities" / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            method = make(experiment, name)
            write_json(
                path, {**vars(method), "table": method.table.to_dict(), "draws": [d.tolist() for d in method.draws]}
            )
        methods[name] = read_method(path)
    shape = (len(TASKS), len(TASKS))
    tied = Table(list(SOURCES), list(TASKS), np.zeros((len(SOURCES), len(TASKS))))  # ties count as broken at random
    random = np.random.default_rng(experiment.seed)
    methods["random"] = Method(tied, [random.random(shape) for _ in range(experiment.draws)], 0.0, 0.0)
    own = Table(list(SOURCES), list(TASKS), np.eye(len(SOURCES), len(TASKS)))
    methods["identity"] = Method(own, [], 0.0, 0.0)
    return methods


def read_method(path: Path) -> Method:
    """A method as it is kept."""
    found = json.loads(path.read_text(encoding="utf-8"))
    table = found.pop("table")
    return Method(
        Table(table["sources"], table["targets"], np.array(table["values"])),
        [np.array(drawn) for drawn in found.pop("draws")],
        **found,
    )


def _agreement(experiment: Experiment) -> list[Record]:
    """Each method and truth: mean correlations, intervals over draws of images, regret, time."""
    records = []
    for name, method in _methods(experiment).items():
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
        for name, method in _methods(experiment).items()
        for truth, table in experiment.trained.items()
        for target, found in evaluate(method.table.part(list(TASKS), list(TASKS)), table).targets.items()
    ]


def _at_k(experiment: Experiment) -> list[Record]:
    """Each method, truth and K: what the first K sources are worth."""
    return [
        {"method": name, "truth": truth, **asdict(entry)}
        for name, method in _methods(experiment).items()
        for truth, table in experiment.trained.items()
        for entry in evaluate(method.table.part(list(TASKS), list(TASKS)), table).mean.at_k
    ]


def _control(experiment: Experiment) -> list[Record]:
    """Where the untrained control stands, of 21 sources, by the truth and by each method; the mean over targets."""
    tables = experiment.truths | {
        name: method.table for name, method in _methods(experiment).items() if name not in ("random", "identity")
    }
    return [
        {"table": name, "place": float((table.values > table.values[-1]).sum(axis=0).mean() + 1)}
        for name, table in tables.items()
    ]


# From what they are computed.


def _grid(experiment: Experiment) -> list[Record]:
    """Each normalisation, f and truth: mean correlations over draws of images, as in the DDS paper's Table 2."""
    features = _trained(ranking_features(experiment.folder, experiment.settings))
    rows = draw_rows(len(features[BRANCHED]), experiment.drawn, min(experiment.draws, GRID_DRAWS), SEED)
    truths = experiment.trained

    def reduce(matrix: NDArray[np.float64]) -> dict[str, dict[str, float | None]]:
        return {name: agreement(matrix, truth, []) for name, truth in truths.items()}

    records = compute_grid(features, None, rows, dds_ext.NORMALIZATIONS, reduce, lambda: None)
    # compute_grid names what its figures are of a source
    return [{"truth" if key == "source" else key: value for key, value in record.items()} for record in records]


def _images(experiment: Experiment) -> list[Record]:
    """Each measure, number of images and truth: the mean correlation over draws, and its deviation."""
    n = experiment.settings.ranking
    features = ranking_features(experiment.folder, experiment.settings)
    sizes = [n >> k for k in range(n.bit_length(), 0, -1) if n >> k >= 4]
    records = []
    for measure in dds_ext.MEASURES:
        for size in sizes:
            drawn = _on_draws(features, measure, draw_rows(n, size, experiment.draws, SEED))
            for name, truth in experiment.trained.items():
                each = [agreement(values, truth, [])["spearman_off_diagonal"] for values in drawn]
                found = [value for value in each if value is not None]
                records.append(
                    {
                        "measure": measure,
                        "images": size,
                        "truth": name,
                        "spearman_off_diagonal": fmean(found),
                        "spearman_off_diagonal_sd": stdev(found),
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
        features = _trained(make())
        for measure in dds_ext.MEASURES:
            main, table = similarities(_trained(usual), measure), similarities(features, measure)
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
    """Each measure: its correlation over the four blocks with the measured win rates, and regret, mean over tasks."""
    truth = read_table(experiment.folder / "branching_winrate.csv")
    records = []
    for measure, ranking in _block_rankings(experiment).items():
        mean = evaluate(Table(ranking.blocks, list(ranking.types), ranking.scores), truth).mean
        records.append({"measure": measure, "spearman": mean.spearman, "relative_regret": mean.relative_regret})
    return records


def _block_rankings(experiment: Experiment) -> dict[str, Any]:
    blocks = extract_features(load_encoder(experiment.folder, "resnet", BRANCHED), experiment.images().input("image"))
    tasks = _trained(ranking_features(experiment.folder, experiment.settings))
    return {measure: rank_layers(blocks, tasks, measure, name="ResNet") for measure in dds_ext.MEASURES}


def label_features(data: Dataset, task: str) -> NDArray[np.float32]:
    """(n, ...) the labels of a task as features; classes as one number each that is 0 or 1."""
    label = data.label(task)
    if TASKS[task].loss == "cross_entropy":
        label = F.one_hot(label, TASKS[task].channels)
    values: NDArray[np.float32] = label.float().numpy()
    return values


def photographs(n: int) -> Tensor:
    """(n, 3, 64, 64) in [0, 1]: parts of scikit-learn's two photographs, 128 pixels wide, at half their resolution."""
    try:
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError as error:
        message = "the photographs are scikit-learn's: pip install 'dds_ext[examples]'"
        raise ModuleNotFoundError(message, name=error.name) from error

    pictures = [torch.from_numpy(picture / 255.0).float() for picture in load_sample_images().images]
    random, side = np.random.default_rng(SEED), 2 * SIZE
    parts = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        top, left = (int(random.integers(length - side + 1)) for length in picture.shape[:2])
        parts.append(picture[top : top + side, left : left + side])
    return F.avg_pool2d(torch.stack(parts).permute(0, 3, 1, 2), 2)


def _trained(features: Features) -> dict[str, NDArray[Any]]:
    return {task: features[task] for task in TASKS}


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
    "grid": _grid,
    "images": _images,
    "robustness": _robustness,
    "depth": _depth,
    "branching": _branching,
    "branching_agreement": _branching_agreement,
}
