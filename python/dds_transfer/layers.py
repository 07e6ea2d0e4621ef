"""Which layer of a model to branch from, for which kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import dds_ext
from dds_transfer.resampling import Array, Matrix
from dds_transfer.results import Result
from dds_transfer.selection import Measure, measure_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The four clusters of Taskonomy (Zamir et al., CVPR 2018), for its tasks on single images. The DDS paper's Figure 4
# colours the first three.
TASK_TYPES = {
    **dict.fromkeys(
        ("autoencoder", "colorization", "denoise", "edge2d", "inpainting_whole", "keypoint2d", "segment2d"), "2D"
    ),
    **dict.fromkeys(
        ("curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"), "3D"
    ),
    **dict.fromkeys(("class_1000", "class_places", "segmentsemantic"), "semantic"),
    **dict.fromkeys(("room_layout", "vanishing_point"), "geometric"),
}


@dataclass(frozen=True, eq=False, repr=False)
class LayerRanking(Result):
    """Similarity of a model's blocks to the representations of tasks, and the block to branch from for each type.

    Attributes:
        model: the model's name.
        measure, options: as in :class:`dds_transfer.Ranking`.
        images: number of images n.
        blocks: B names, in the model's order.
        types: the type of each of the T tasks, by the task's name.
        scores: (B, T) similarities.
    """

    model: str
    measure: str
    options: dict[str, Any]
    images: int
    blocks: list[str]
    types: dict[str, str]
    scores: Matrix

    @property
    def tasks(self) -> dict[str, list[str]]:
        """The tasks of each type; Taskonomy's types first."""
        names = dict.fromkeys([*TASK_TYPES.values(), *self.types.values()])
        groups = {name: [task for task, kind in self.types.items() if kind == name] for name in names}
        return {name: tasks for name, tasks in groups.items() if tasks}

    @property
    def similarity(self) -> dict[str, Matrix]:
        """For each type, (B,) mean similarity of the blocks to its tasks."""
        return {name: self.scores[:, self._of(name)].mean(axis=1) for name in self.tasks}

    @property
    def selectivity(self) -> dict[str, Matrix]:
        """For each type, (B,) mean similarity of the blocks to its tasks less that to all other tasks.

        Empty where all tasks are of one type.
        """
        if len(self.tasks) == 1:
            return {}
        return {name: mean - self.scores[:, ~self._of(name)].mean(axis=1) for name, mean in self.similarity.items()}

    @property
    def recommended(self) -> dict[str, str]:
        """For each type, the block to branch from: the most selective one, or if none is selective the most similar."""
        figures = self.similarity
        figures |= {name: values for name, values in self.selectivity.items() if values.max() > 0}
        return {name: self.blocks[int(values.argmax())] for name, values in figures.items()}

    @property
    def title(self) -> str:
        """Model, measure and number of images."""
        return f"Blocks of {self.model}: mean similarity to tasks of a type by {self.measure}, {self.images} images"

    @property
    def records(self) -> list[dict[str, Any]]:
        """``type``, ``task``, ``block``, ``similarity``, and whether the block is ``recommended`` for the type."""
        tasks, recommended = list(self.types), self.recommended
        return [
            {
                "type": name,
                "task": task,
                "block": block,
                "similarity": float(self.scores[i, tasks.index(task)]),
                "recommended": block == recommended[name],
            }
            for name, members in self.tasks.items()
            for task in members
            for i, block in enumerate(self.blocks)
        ]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """A row per type: its number of tasks, its similarity to each block, the most similar and the best block."""
        rows = [
            [name, len(self.tasks[name]), *means.tolist(), self.blocks[int(means.argmax())], self.recommended[name]]
            for name, means in self.similarity.items()
        ]
        return ["type", "tasks", *self.blocks, "most similar", "branch from"], rows

    def to_dict(self) -> dict[str, Any]:
        """All similarities, their means by type, the recommendation, and how they were obtained."""

        def by_block(figures: Matrix) -> dict[str, float]:
            return dict(zip(self.blocks, figures.tolist(), strict=True))

        selectivity = self.selectivity
        return {
            "model": self.model,
            "measure": self.measure,
            "options": self.options,
            "images": self.images,
            "types": [
                {
                    "type": name,
                    "recommended": self.recommended[name],
                    "similarity": by_block(means),
                    "selectivity": by_block(selectivity[name]) if selectivity else None,
                }
                for name, means in self.similarity.items()
            ],
            "tasks": [
                {"task": task, "type": name, "similarity": by_block(column)}
                for (task, name), column in zip(self.types.items(), self.scores.T, strict=True)
            ],
        }

    def _of(self, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(T,) whether a task is of this type."""
        return np.array([kind == name for kind in self.types.values()])

    def _draw(self) -> Figure:
        from dds_transfer.plots import draw_layers

        return draw_layers(self)


def rank_layers(
    model_features: Mapping[str, Array],
    task_features: Mapping[str, Array],
    measure: Measure = "dds",
    *,
    types: Mapping[str, str] = TASK_TYPES,
    name: str = "the model",
) -> LayerRanking:
    """Which block of a pretrained model to branch from, for each type of task, as in section 5 of the DDS paper.

    Each block is compared with the representation of each task: the features, on the same images, of a network that
    was trained for the task. The block recommended for a type is the most selective one: similar to the type's tasks
    and not to the others. So the paper reads its Figure 4, where the tasks are sorted under each block. Mere similarity
    would favour blocks that resemble everything: in the figures that the paper's authors published, the third block of
    an ImageNet model is the most similar to semantic tasks, but even more so to 3D tasks; the fourth is the most
    selective for them, and the one that served them best.

    Selectivity is only as good as the other tasks are a fair sample: with two or three tasks, look at the similarities.
    Where all tasks are of one type, or no block is more similar to a type than to the other tasks, the most similar
    block is recommended.

    Args:
        model_features: (n, d) or (n, C, *spatial) features of B blocks, by name, in the model's order.
        task_features: features of T task networks on the same n images in the same order, by name; d may differ.
        measure: as for :func:`dds_transfer.rank_models`.
        types: the type of a task by its name; by default the clusters of Taskonomy's tasks (Zamir et al., CVPR 2018):
            2D, 3D, semantic and (low-dimensional) geometric. A task that is not named is a type of its own.
        name: what to call the model.

    Raises:
        ValueError: what ``dds_ext.affinity`` refuses; blocks are its sources, tasks its targets.
        TypeError: an option that ``dds_ext.affinity`` does not have.

    Equivalent to, for the similarity of a block to a type::

        np.mean([dds_ext.dds(block, task) for task in tasks_of_the_type])
    """
    label, options = measure_options(measure)
    scores = dds_ext.affinity(model_features, task_features, **options)
    n = len(next(iter(model_features.values())))
    kinds = {task: types.get(task, task) for task in task_features}
    return LayerRanking(name, label, options, n, list(model_features), kinds, np.asarray(scores))
