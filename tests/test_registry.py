"""Every name of the compiled registry has its definition in the reference, and the other way round."""

from __future__ import annotations

import torch

import dds_ext
from dds_ext import reference


def test_names() -> None:
    """Adding a metric or a normalisation without its reference function fails here."""
    assert set(dds_ext.METRICS) == set(reference.METRICS)
    assert set(dds_ext.NORMALIZATIONS) == set(reference.NORMALIZATIONS)
    assert set(dds_ext.CENTERINGS) == set(reference.CENTERINGS)
    assert set(dds_ext.COMPARISONS) == set(reference.COMPARISONS)
    for names in (dds_ext.METRICS, dds_ext.NORMALIZATIONS, dds_ext.CENTERINGS, dds_ext.COMPARISONS):
        assert isinstance(names, tuple) and len(set(names)) == len(names)


def test_names_of_the_paper_are_there() -> None:
    assert set(dds_ext.METRICS) == {
        "linear",
        "laplacian",
        "rbf",
        "pearson",
        "euclidean",
        "cosine",
        "manhattan",
        "sqeuclidean",
    }
    assert set(dds_ext.NORMALIZATIONS) == {"none", "center", "zscore", "batch", "instance", "layer", "group"}
    assert dds_ext.CENTERINGS == ("none", "double", "unbiased")
    assert dds_ext.COMPARISONS == ("cosine", "pearson", "spearman", "kendall")
    assert {"dds", "rsa", "cka-linear", "cka-rbf"} <= set(dds_ext.MEASURES)


def test_info(isa: str) -> None:
    info = dds_ext.info()
    assert set(info) == {"version", "isa", "isas", "threads", "cuda"}
    assert info["isa"] == isa and isa in info["isas"]
    assert info["isas"][0] == "scalar"
    assert info["threads"] == torch.get_num_threads()
    assert isinstance(info["version"], str)


def test_everything_public_is_documented() -> None:
    for name in dds_ext.__all__:
        thing = getattr(dds_ext, name)
        if callable(thing):
            assert thing.__doc__, name
