"""The SDK against a whole federation: the page as it stands, and what it promises."""

from __future__ import annotations

import asyncio
import doctest
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from heliosdb import (
    AsyncFederatedLearning,
    FederatedLearning,
    FederatedLearningError,
    FederatedLearningWarning,
    TrainingError,
)
from heliosdb.sdk import client
from tests.integration.coordinator.support import WORKSPACE, World
from tests.integration.sdk.conftest import NODES

PAGE = Path(__file__).resolve().parents[3] / "docs/python.md"
DEADLINE = 600.0


def dsn(federation: World, user: str = "an_admin") -> str:
    return federation.cluster.dsn(federation.database, user=user)


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def here(federation: World, text: str) -> str:
    """The page's text with this machine's addresses in it; no other word of it is changed."""
    made = text.replace("postgresql://analyst@coordinator.example/heliosdb", dsn(federation))
    for site in federation.sites:
        made = made.replace(
            f"https://{site.name.replace('_', '-')}.example:8443", f"https://localhost:{site.port}"
        )
        made = made.replace(
            f"/etc/heliosdb/{site.name}.pem", str(federation.federation.directory / f"{site.name}.pem")
        )
    return made


@pytest.fixture(scope="module")
def page(federation: World) -> Iterator[dict[str, Any]]:
    """What the page's names are after all of its code was run, in the order in which it stands there."""
    mpl.use("Agg")
    # A path on the database server is read with the rights of who may read files there.
    with federation.catalog() as catalog:
        catalog.execute("GRANT pg_read_server_files TO an_admin")
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, block in enumerate(blocks()):
            exec(compile(here(federation, block), f"{PAGE.name}, block {number}", "exec"), names)
    yield names
    names["fl"].close()


def test_the_page_does_what_it_says(page: dict[str, Any]) -> None:
    assert page["run"].status in ("converged", "completed")
    assert 0.5 < page["probability"] < 1
    assert page["outcome"] in ("converged", "completed")
    assert page["last"].global_loss < 0.6
    assert page["table"]["round_number"].tolist() == list(range(len(page["history"])))
    assert [axes.get_ylabel() for axes in (page["loss_axes"], page["accuracy_axes"])] == ["loss", "accuracy"]
    assert page["figures"]["global_accuracy"] > 0.6
    assert set(page["effects"]) == {"(intercept)", "age", "pressure"}
    assert all(error > 0 for _, error in page["effects"].values())
    assert page["scored"].columns.tolist() == ["patient", "age", "pressure", "prediction"]
    assert page["scored"]["prediction"].between(0, 1).all()
    assert page["before"] != page["now"]
    assert [(tags, current) for _, tags, current in page["kept"] if tags] == [(["before-winter"], True)]
    assert page["names"] == ["effects", "risk"]
    assert page["states"] == dict.fromkeys(NODES, "active")
    assert page["left"] is None
    assert all(0 < probability < 1 for probability in page["both"])
    assert page["told"][0] == "42703"
    assert page["told"][1:] == (
        'federated model "risk" has no feature "height"',
        "Its features are age, pressure.",
    )


def test_examples_in_docstrings_do_what_they_say(page: dict[str, Any], federation: World) -> None:
    names = {"FederatedLearning": FederatedLearning, "dsn": dsn(federation), "model": page["model"]}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    tests = [
        test
        for one in (client.FederatedLearning, client.Workspace, client.Model)
        for test in finder.find(one, globs=dict(names))
        if test.examples
    ]
    assert len(tests) >= 2
    for test in tests:
        assert runner.run(test).failed == 0, test.name


def test_rights_are_the_databases(page: dict[str, Any], federation: World) -> None:
    with FederatedLearning(dsn(federation, "an_analyst"), workspace=WORKSPACE, progress=False) as analyst:
        model = analyst.model("risk")
        assert model.predict({"age": 55.0, "pressure": 140.0}) == page["model"].predict(
            {"age": 55.0, "pressure": 140.0}
        )
        assert len(model.history()) > 0
        assert [run.model_name for run in model.runs()] == ["risk"] * len(model.runs())
        assert analyst.workspaces()[0].workspace_name == WORKSPACE
        assert model.info().options["features"] == ["age", "pressure"]
        for call in (
            lambda: model.train(rounds=2),
            lambda: analyst.create_workspace("another"),
            lambda: analyst.create_model("another", "logistic_regression", ["age"], "outcome"),
            lambda: analyst.register_node("x", "https://localhost:1", "x.pem"),
            model.drop,
            model.stop,
            lambda: model.promote(1),
        ):
            with pytest.raises(FederatedLearningError) as refused:
                call()
            assert refused.value.sqlstate == "42501"


def test_errors_are_the_languages_own(page: dict[str, Any]) -> None:
    fl, model = page["fl"], page["model"]
    for call, sqlstate, said in (
        (lambda: model.train(rounds=0), "22023", "rounds"),
        (lambda: model.train(roundz=3), "22023", "roundz"),
        (lambda: fl.create_model("risk", "logistic_regression", ["age"], "outcome"), "42710", "risk"),
        (lambda: fl.model("nobody").train(), "42704", "nobody"),
        (lambda: fl.model("nobody").history(), "42704", "nobody"),
        (lambda: fl.model("nobody").status(), "42704", "nobody"),
        (lambda: fl.workspace("nobody").status(), "42704", "nobody"),
        (lambda: fl.workspace("nobody").budget(), "42704", "nobody"),
        (lambda: model.history(99), "42704", "no run 99"),
        (model.stop, "55000", "risk"),
        (lambda: model.tag("x", "1"), "22023", "by its number"),
        (lambda: fl.model("nobody").wait(), "42704", "nobody"),
    ):
        with pytest.raises(FederatedLearningError, match=said) as refused:
            call()
        assert refused.value.sqlstate == sqlstate, refused.value


def test_folds_are_followed_to_their_end(page: dict[str, Any]) -> None:
    """The first of five folds holds out those whom runs without folds hold out: no rows differ by a few."""
    before = len(page["model"].runs())
    with pytest.warns(FederatedLearningWarning, match="5 runs are queued") as told:
        run = page["model"].train(rounds=1, folds=5, progress=False)
    # It points to the line that called.
    assert told[0].filename == __file__
    assert run.status in ("converged", "completed")
    assert [one.fold for one in page["model"].runs()[before:]] == [0, 1, 2, 3, 4]


def test_a_training_that_fails_is_an_error_with_its_reason(page: dict[str, Any], federation: World) -> None:
    model = page["fl"].create_model("lost", "logistic_regression", ["age", "height"], "outcome")
    with pytest.warns(match="height"), pytest.raises(TrainingError) as failed:
        model.train(rounds=2, timeout=DEADLINE)
    assert failed.value.run.status == "failed"
    assert "height" in str(failed.value)
    model.drop()


def test_ctrl_c_leaves_the_run_going_and_says_so(page: dict[str, Any], federation: World) -> None:
    script = (
        "import signal, sys\nfrom heliosdb import FederatedLearning\n"
        # Whoever began the tests in the background has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "FederatedLearning(sys.argv[1]).model('risk').train(rounds=5000, convergence_threshold=1e-12,"
        " early_stopping_rounds=5000, progress=True)"
    )
    typed = subprocess.Popen(
        [sys.executable, "-c", script, dsn(federation) + " application_name=following"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The process has asked how the run stands, and waits.
    asyncio.run(
        federation.reached(
            "EXISTS (SELECT FROM federated.run WHERE status = 'running')"
            " AND EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'following' AND state = 'idle'"
            " AND query LIKE '%%_series_status%%')"
        )
    )
    typed.send_signal(signal.SIGINT)
    _, said = typed.communicate(timeout=DEADLINE)
    assert typed.returncode != 0
    assert "The training of risk goes on" in said
    model = page["model"]
    assert model.status().status == "running"
    model.stop()
    assert model.wait(DEADLINE) == "stopped"


async def test_a_cancelled_task_leaves_the_run_going(page: dict[str, Any], federation: World) -> None:
    async with AsyncFederatedLearning(dsn(federation), progress=False) as fl:
        model = fl.model("risk")
        task = asyncio.create_task(
            model.train(rounds=5000, convergence_threshold=1e-12, early_stopping_rounds=5000)
        )
        await federation.reached("EXISTS (SELECT FROM federated.run WHERE status = 'running')")
        # Others' calls take their turns meanwhile.
        assert 0 < await model.predict({"age": 50.0}) < 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        standing = await model.status()
        assert standing is not None
        assert standing.status == "running"
        waiting = asyncio.create_task(model.wait(DEADLINE))
        # Who waits keeps nobody else from the connection.
        await model.stop()
        assert await waiting == "stopped"


def test_a_lost_connection_is_opened_again(page: dict[str, Any], federation: World) -> None:
    fl = page["fl"]
    with federation.catalog() as catalog:
        catalog.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'heliosdb-python'"
        )
    with pytest.raises(FederatedLearningError) as lost:
        fl.models()
    assert lost.value.sqlstate in ("57P01", "08001", "08006", "08003")
    assert len(fl.models()) >= 2


def test_models_and_workspaces_come_and_go(page: dict[str, Any]) -> None:
    fl = page["fl"]
    second = fl.create_workspace("second", min_nodes=2, privacy_budget=1.5, delta=1e-6)
    assert second.budget().total_epsilon == 1.5
    assert second.status().status == "incomplete"
    odd = second.create_model('odd "name"', "logistic_regression", ["it's", 'a "b"'], "\\")
    assert odd.info().options["features"] == ["it's", 'a "b"']
    odd.set(rounds=7)
    assert odd.info().options["rounds"] == 7
    assert odd.status() is None
    with pytest.raises(FederatedLearningError, match="has never been in training"):
        odd.wait()
    assert [one.model_name for one in second.models()] == ['odd "name"']
    odd.drop()
    second.drop()
    assert "second" not in [one.workspace_name for one in fl.workspaces()]


def test_a_certificate_may_be_a_file_on_this_machine(page: dict[str, Any], federation: World) -> None:
    workspace = page["fl"].create_workspace("third", min_nodes=2)
    site = federation.sites[0]
    pem = federation.federation.directory / f"{site.name}.pem"
    node = workspace.register_node(
        site.name, f"https://localhost:{site.port}", pem, contact="it@hospital-a.example"
    )
    assert (node.workspace, node.node_name) == ("third", site.name)
    assert [one.node_name for one in workspace.nodes()] == [site.name]
    workspace.unregister_node(site.name)
    workspace.drop()
