"""A finished experiment, as the comparison of methods sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dds_transfer.minitaskonomy.dataset import Dataset, load_split
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.run import Settings, read_settings
from dds_transfer.tables import Table, read_table

TRUTHS = ("winrate", "affinity")
TABLES = ("losses", *TRUTHS, "branching_losses", "branching_winrate")  # that a finished experiment has
IMAGES = 200  # in a draw, as in the DDS paper
SEED = 1993  # of the draws: the DDS authors'


@dataclass(frozen=True, eq=False)
class Experiment:
    """A finished experiment.

    Attributes:
        folder: where :func:`.run.run` kept it.
        seed: its seed.
        settings: its sizes.
        truths: the measured transfers, (21, 20) with the control, by ``TRUTHS``.
    """

    folder: Path
    seed: int
    settings: Settings
    truths: dict[str, Table]

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


def load_experiment(folder: Path) -> Experiment:
    """The experiment in a folder; ValueError where it is not finished, or not of this edition."""
    try:
        seed, settings = read_settings(folder)
        for name in TABLES:
            (folder / f"{name}.csv").stat()
        truths = {name: read_table(folder / f"{name}.csv") for name in TRUTHS}
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no finished experiment, {Path(error.filename).name} is missing; "
            f"python -m dds_transfer.minitaskonomy -o {folder} starts or goes on with it"
        ) from error
    return Experiment(folder, seed, settings, truths)
