"""What ``dds_transfer`` offers; the package fetches it from here when it is first asked for something."""

from dds_transfer.activations import load_activations
from dds_transfer.attribution import TimedAffinity, attribution_affinity, attribution_maps, dds_affinity
from dds_transfer.blocks import block_hooks
from dds_transfer.evaluation import Agreement, AtK, Evaluation, evaluate
from dds_transfer.extraction import extract_features
from dds_transfer.features import Features, load_features
from dds_transfer.images import Images, Preprocessing, load_images
from dds_transfer.layers import TASK_TYPES, LayerRanking, rank_layers
from dds_transfer.models import load_model, preprocessing_of
from dds_transfer.reproduction import reproduce
from dds_transfer.selection import Bootstrap, Ranking, Stability, rank_models, stability
from dds_transfer.tables import Table, load_truth
from dds_transfer.taxonomy import (
    Correlation,
    Taxonomy,
    compare_similarities,
    compare_taxonomies,
    task_taxonomy,
)
from dds_transfer.tournament import ahp_affinity, ahp_weights, win_rates

__all__ = [
    "TASK_TYPES",
    "Agreement",
    "AtK",
    "Bootstrap",
    "Correlation",
    "Evaluation",
    "Features",
    "Images",
    "LayerRanking",
    "Preprocessing",
    "Ranking",
    "Stability",
    "Table",
    "Taxonomy",
    "TimedAffinity",
    "ahp_affinity",
    "ahp_weights",
    "attribution_affinity",
    "attribution_maps",
    "block_hooks",
    "compare_similarities",
    "compare_taxonomies",
    "dds_affinity",
    "evaluate",
    "extract_features",
    "load_activations",
    "load_features",
    "load_images",
    "load_model",
    "load_truth",
    "preprocessing_of",
    "rank_layers",
    "rank_models",
    "reproduce",
    "stability",
    "task_taxonomy",
    "win_rates",
]
