"""Which pretrained model to start from: features in; rankings, affinities and their agreement with the truth out.

Built on :mod:`dds_ext`, which computes the similarities. The command line is ``dds``; the same steps in Python::

    import dds_ext
    from dds_transfer import Table, evaluate, load_features, load_truth

    models = load_features(["features/"])
    names = [model.name for model in models]
    affinity = Table(names, names, dds_ext.affinity([model.X for model in models]))
    print(evaluate(affinity, load_truth("taskonomy-affinity")).mean.spearman)
"""

from dds_transfer.evaluation import Agreement, Evaluation, evaluate
from dds_transfer.features import Features, load_features
from dds_transfer.tables import Table, load_truth

__all__ = ["Agreement", "Evaluation", "Features", "Table", "evaluate", "load_features", "load_truth"]
