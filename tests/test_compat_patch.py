"""Patching: every reference is replaced, counted, and put back."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import multiprocessing
import pickle
import pydoc
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import rsatoolbox.inference.evaluate
import rsatoolbox.inference.noise_ceiling
import scipy.sparse
import sklearn.gaussian_process.kernels
import sklearn.metrics
from scipy.spatial import distance
from sklearn.metrics import pairwise
from sklearn.svm import SVC

from dds_ext import compat
from dds_ext.compat import _rsatoolbox, _scipy, _sklearn
from dds_ext.compat._drop_in import DropIn, NotServed

X = np.random.default_rng(0).normal(size=(20, 9))
DROP_INS = {d.name: d for module in (_sklearn, _scipy, _rsatoolbox) for d in module.DROP_INS}


def namespaces() -> Iterator[tuple[str, dict[Any, Any]]]:
    """The names of all modules of the packages, and the tables in them."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in compat.PACKAGES:
            yield name, vars(module)
            yield from ((f"{name}.{key}", v) for key, v in list(vars(module).items()) if isinstance(v, dict))


def references() -> dict[tuple[str, str], int]:
    return {(name, str(key)): id(value) for name, table in namespaces() for key, value in list(table.items())}


@pytest.mark.parametrize("name", DROP_INS)
def test_signature_is_the_originals(name: str) -> None:
    drop_in = DROP_INS[name]
    ours = inspect.signature(drop_in.fast).parameters
    theirs = inspect.signature(drop_in.original).parameters
    assert list(ours) == [p for p in theirs if p in ours]
    assert set(theirs) - set(ours) <= {"force_all_finite"}
    for parameter in ours:
        assert ours[parameter].default == theirs[parameter].default
        assert ours[parameter].kind == theirs[parameter].kind
    function = getattr(compat, name.rpartition(".")[2])
    assert inspect.signature(function) == inspect.signature(drop_in.original)
    assert name.rpartition(".")[2] in function.__doc__
    assert pickle.loads(pickle.dumps(function)) is function
    assert function.__doc__.splitlines()[0] in pydoc.render_doc(function, renderer=pydoc.plaintext)


def test_every_function_is_listed() -> None:
    listed = set(compat.__all__) - {"Calls", "PACKAGES", "patch", "dist"}
    assert listed == {name.rpartition(".")[2] for name in DROP_INS}
    with pytest.raises(AttributeError, match="nothing"):
        compat.nothing  # noqa: B018


def test_replaces_every_reference_and_restores_them() -> None:
    def own() -> set[tuple[str, str]]:
        """Where a package refers to an original of its own."""
        originals = {(d.name.split(".")[0], id(d.original)) for d in DROP_INS.values()}
        return {where for where, what in references().items() if (where[0].split(".")[0], what) in originals}

    before = references()
    assert len(own()) >= len(DROP_INS)
    with compat.patch("sklearn", "scipy", "rsatoolbox"):
        assert own() == set()
        assert sklearn.metrics.pairwise.PAIRWISE_KERNEL_FUNCTIONS["laplacian"] is pairwise.laplacian_kernel
        assert rsatoolbox.inference.evaluate.compare is rsatoolbox.rdm.compare
        assert rsatoolbox.inference.noise_ceiling.compare is rsatoolbox.rdm.compare
        assert compat.pdist is distance.pdist
    assert references() == before


def test_leaves_other_packages_alone() -> None:
    held = sklearn.gaussian_process.kernels.cdist
    with compat.patch("scipy"):
        assert sklearn.gaussian_process.kernels.cdist is held
        assert distance.cdist is not held


def test_counts_what_is_served_and_what_is_passed_on() -> None:
    with compat.patch("sklearn") as counts:
        sklearn.metrics.pairwise_kernels(X, metric="laplacian")
        pairwise.rbf_kernel(X)
        pairwise.rbf_kernel(X, gamma=0)
        with pytest.raises(ValueError, match="NaN"):
            pairwise.rbf_kernel(X * np.nan)
    pairwise.rbf_kernel(X)
    assert counts["sklearn.metrics.pairwise.laplacian_kernel"] == compat.Calls(served=1)
    assert counts["sklearn.metrics.pairwise.rbf_kernel"] == compat.Calls(served=1, passed_on=2)
    assert counts["sklearn.metrics.pairwise.linear_kernel"] == compat.Calls()


def test_counts_name_the_last_reason() -> None:
    with compat.patch("scipy") as counts:
        distance.pdist(X, "chebyshev")
        assert counts["scipy.spatial.distance.pdist"].reason == "metric 'chebyshev'"
        distance.pdist(X, "canberra")
        distance.pdist(X)
    assert counts["scipy.spatial.distance.pdist"].reason == "metric 'canberra'"
    assert counts["scipy.spatial.distance.cdist"].reason is None


def test_counts_the_outermost_call_of_a_thread() -> None:
    """cosine_distances is called by pairwise_distances on sparse input, both passed on."""
    with compat.patch("sklearn") as counts:
        for _ in range(2):
            sklearn.metrics.pairwise_distances(scipy.sparse.csr_matrix(X), metric="cosine")
            with pytest.raises(ValueError, match="NaN"):
                sklearn.metrics.pairwise_distances(X * np.nan)
        pairwise.cosine_distances(X)
    used = {name: c for name, c in counts.items() if c != compat.Calls()}
    assert used == {
        "sklearn.metrics.pairwise.pairwise_distances": compat.Calls(passed_on=4),
        "sklearn.metrics.pairwise.cosine_distances": compat.Calls(served=1),
    }


@pytest.mark.parametrize("error", [NotServed("so"), ValueError("so")])
def test_a_refusal_is_passed_on(error: Exception) -> None:
    notes: list[Any] = []
    assert failing(error).function(lambda *told: notes.append(told))() == "the original's"
    assert notes == [("package.f", "so")]


@pytest.mark.parametrize(
    "error", [MemoryError, KeyboardInterrupt, RuntimeError, AttributeError, KeyError, TypeError, ZeroDivisionError]
)
def test_a_failure_is_not_passed_on(error: type[BaseException]) -> None:
    notes: list[Any] = []
    with pytest.raises(error):
        failing(error()).function(lambda *told: notes.append(told))()
    assert failing(ValueError()).function(lambda *told: notes.append(told))() == "the original's"
    assert notes == [("package.f", "")]  # the failed call is not counted, and the next is an outermost one again


def failing(error: BaseException) -> DropIn:
    def fast() -> str:
        raise error

    return DropIn("package.f", lambda: "the original's", fast)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_plain_calls_are_all_served(dtype: Any) -> None:
    A = (X * 9).astype(dtype)
    with compat.patch("sklearn", "scipy") as counts:
        for name in DROP_INS:
            if name.startswith("sklearn") and "pairwise_distances" not in name:
                getattr(pairwise, name.rpartition(".")[2])(A, A[:4])
                getattr(pairwise, name.rpartition(".")[2])(A)
        for metric in ("cityblock", "euclidean", "sqeuclidean", "cosine", "correlation"):
            pairwise.pairwise_distances(A, metric=metric)
            distance.pdist(A, metric)
            distance.cdist(A, A[:3], metric)
    assert {name: c.passed_on for name, c in counts.items() if c.passed_on} == {}
    assert all(c.served for c in counts.values())


def test_an_estimator_with_a_drop_in_can_be_saved(tmp_path: Path) -> None:
    labels = np.arange(len(X)) % 2
    imported = SVC(kernel=compat.laplacian_kernel).fit(X, labels)
    with compat.patch("sklearn"):
        patched = SVC(kernel=pairwise.laplacian_kernel).fit(X, labels)
        inside = pickle.dumps(patched)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(patched, protocol)).kernel is compat.laplacian_kernel
    joblib.dump(imported, tmp_path / "svc")
    for loaded in (joblib.load(tmp_path / "svc"), pickle.loads(inside)):
        # sums of 20 kernel values of at most 1, weighted by at most C = 1: 20 roundings of 1.1e-16 of 20
        np.testing.assert_allclose(loaded.decision_function(X), imported.decision_function(X), rtol=0, atol=5e-14)


def test_drop_ins_go_to_other_processes() -> None:
    with compat.patch("scipy"):
        patched = distance.pdist
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for function in (compat.pdist, patched):
            np.testing.assert_array_equal(pool.map(function, [X]), [compat.pdist(X)])


def test_overlapping_patches() -> None:
    original = distance.pdist
    first = compat.patch("scipy")
    second = compat.patch("scipy", "scipy")
    first.undo()
    assert distance.pdist is not original
    distance.pdist(X)
    assert [p.counts["scipy.spatial.distance.pdist"].served for p in (first, second)] == [0, 1]
    second.undo()
    second.undo()
    assert distance.pdist is original


def test_restores_after_an_error_and_in_modules_imported_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    late = types.ModuleType("scipy.late")
    with pytest.raises(RuntimeError), compat.patch("scipy"):
        vars(late)["pdist"] = distance.pdist
        monkeypatch.setitem(sys.modules, "scipy.late", late)
        raise RuntimeError
    assert vars(late)["pdist"] is distance.pdist is _scipy.distance.pdist
    assert not inspect.unwrap(distance.pdist).__module__.startswith("dds_ext")


def test_restores_modules_of_others_imported_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = distance.pdist
    source = "from scipy.spatial.distance import pdist as distances\nTABLE = {'own': distances}\n"
    for name in ("imported_meanwhile", "imported_meanwhile_too"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "no_module", None)
    outer = compat.patch("scipy")
    first = importlib.import_module("imported_meanwhile")
    with compat.patch("scipy", "sklearn"):
        second = importlib.import_module("imported_meanwhile_too")
        monkeypatch.setitem(sys.modules, "no_module_either", None)
        assert second.distances is distance.pdist is not original
        assert distance.pdist.__wrapped__ is original
    assert second.distances is distance.pdist is not original
    outer.undo()
    for module in (first, second):
        assert module.distances is module.TABLE["own"] is distance.pdist is original
    assert compat.pdist is not original


def test_threads() -> None:
    original = distance.pdist
    wanted = original(X)

    def work() -> None:
        for _ in range(30):
            with compat.patch("scipy") as counts:
                np.testing.assert_allclose(distance.pdist(X), wanted, rtol=1e-13)
                assert counts["scipy.spatial.distance.pdist"].served >= 1

    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert distance.pdist is original


def test_unknown_packages() -> None:
    with pytest.raises(ValueError, match="choose from sklearn, scipy"):
        compat.patch("numpy")
    with pytest.raises(ValueError, match="name the packages"):
        compat.patch()
    before = references()
    with pytest.raises(ModuleNotFoundError, match="net2brain"):
        compat.patch("scipy", "net2brain")
    assert references() == before


def run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,  # not the sources' folder, whose dds_ext may not be built
    ).stdout


def test_imports_nothing_before_it_is_asked_for() -> None:
    assert (
        run("import sys, dds_ext.compat; print({'sklearn', 'rsatoolbox', 'net2brain'} & set(sys.modules))") == "set()\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("net2brain") is not None, reason="net2brain is installed")
def test_functions_of_packages_that_are_not_installed() -> None:
    script = """
        import dds_ext.compat
        print(hasattr(dds_ext.compat, "dist"), "dist" in dds_ext.compat.__all__)
        take = "from dds_ext.compat import "
        for line in ("dds_ext.compat.dist", take + "dist", take + "pdist, dist"):
            try:
                exec(line)
            except Exception as error:
                print(type(error).__name__, error)
        import sys
        sys.modules["net2brain"] = None  # how an import is kept from working
        print(hasattr(dds_ext.compat, "dist"))
        from dds_ext.compat import *
        print(pdist is dds_ext.compat.pdist, calc_rdm is dds_ext.compat.calc_rdm)
    """
    told = "dds_ext.compat.dist stands for a function of net2brain, which is not installed: install net2brain"
    assert run(script).splitlines() == [
        "False False",
        f"AttributeError {told}",
        f"ModuleNotFoundError {told}",
        f"ModuleNotFoundError {told}",
        "False",
        "True True",
    ]


def test_a_script_s_own_names_are_replaced() -> None:
    script = """
        from scipy.spatial.distance import pdist
        import numpy as np, dds_ext.compat
        original, kept = pdist, [pdist]
        p = dds_ext.compat.patch("scipy")
        pdist(np.eye(3))
        print(original is pdist, kept[0] is pdist.__wrapped__, kept[0] is pdist)
        p.undo()
        print(p.counts["scipy.spatial.distance.pdist"].served, original is pdist is kept[0])
    """
    assert run(script).splitlines() == ["True True False", "1 True"]


def test_a_script_keeps_what_it_imported_from_here() -> None:
    script = """
        from dds_ext.compat import patch, pdist
        from scipy.spatial import distance
        import numpy as np
        ours = [pdist]
        with patch("scipy"), patch("scipy"):
            from scipy.spatial.distance import cdist
        print(pdist is ours[0], cdist is distance.cdist, pdist is distance.pdist)
    """
    assert run(script) == "True True False\n"
