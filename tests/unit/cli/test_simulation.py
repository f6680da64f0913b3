"""Simulations over a CSV file: what they are dealt, what nodes refuse, and that nothing is computed twice over."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms import Table
from heliosdb.algorithms.gradient import GRADIENT
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.cli.simulation.command import Wanted, simulate
from heliosdb.cli.simulation.nodes import SimulatedNode, describe_source
from heliosdb.cli.simulation.settings import read_option_words, read_simulation
from heliosdb.cli.simulation.source import read_csv
from heliosdb.cli.simulation.splits import Split, deal, deal_by_value, node_names, read_split
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from heliosdb.parts.protocols import least_survivors
from heliosdb.privacy.neighbours import most_curious
from heliosdb.privacy.shares import Cohort
from tests.support.pooled import make_run, play

ROWS = 600
MODEL = {"algorithm": "logistic_regression", "features": "age,bmi", "target": "ill", "rounds": "3"}
NEWTON = MODEL | {"optimizer": "newton", "rounds": "20", "validation_split": "0"}


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    age, bmi = rng.normal(50, 10, ROWS).round(1), rng.normal(27, 4, ROWS).round(1)
    ill = rng.random(ROWS) < 1 / (1 + np.exp(-(age - 50) / 8 - (bmi - 27) / 5))
    ward, person = rng.choice(["north", "south", "west"], ROWS), rng.integers(0, 200, ROWS)
    path = tmp_path_factory.mktemp("simulation") / "patients.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "bmi", "ward", "person", "ill"])
        for row in zip(age, bmi, ward, person, ill, strict=True):
            writer.writerow([*row[:4], str(bool(row[4])).lower()])
    return path


def run(path: Path, options: dict[str, str], *, split: str = "iid", nodes: int | None = 5) -> dict[str, Any]:
    shown: list[str] = []
    well = simulate(Wanted(nodes, split, None, path, "", options), shown.append, as_json=True)
    (document,) = shown
    found: dict[str, Any] = json.loads(document) | {"well": well}
    return found


def refusal(
    path: Path, options: dict[str, str], *, split: str = "iid", nodes: int | None = 5
) -> FederatedError:
    with pytest.raises(FederatedError) as raised:
        run(path, options, split=split, nodes=nodes)
    return raised.value


# What a run comes to.


def test_a_simulated_newton_run_ends_where_the_pooled_rows_lead(patients: Path) -> None:
    rows = np.genfromtxt(patients, delimiter=",", skip_header=1, usecols=(0, 1))
    ill = np.genfromtxt(patients, delimiter=",", skip_header=1, usecols=4, dtype=str) == "true"
    whole = Table.from_rows(rows, ill.astype(float), np.arange(ROWS), np.zeros(ROWS, dtype=bool))
    pooled = play(make_run("logistic_regression", ("x0", "x1")), [whole])
    settings = read_simulation(NEWTON, 5)
    source = read_csv(patients, settings, None)
    parts = deal(Split("iid"), source.subjects, source.labels, 5, 1)
    dataset = describe_source(source, settings)
    nodes = [
        SimulatedNode(name, source.slice(part), dataset, 1)  # type: ignore[arg-type]
        for name, part in zip(node_names(5), parts, strict=True)
    ]

    from heliosdb.cli.simulation.command import select
    from heliosdb.cli.simulation.play import Play

    playing = Play(
        settings.run, nodes, select([n.name for n in nodes], dataset.description, settings), lambda _: None
    )
    outcome = playing.play()

    assert outcome.status == "converged"
    assert outcome.published is not None
    found = playing._course.algorithm.predict(playing._kept[outcome.published].state, playing._findings)
    ours = found.content["coefficients"]["scores"][0]["estimate"]
    assert ours == pytest.approx(pooled.column("estimate"), rel=1e-6)


def test_the_same_seed_gives_the_same_run_and_another_one_another(patients: Path) -> None:
    one, again, other = (run(patients, MODEL | {"seed": seed}) for seed in ("7", "7", "8"))
    for each in (one, again, other):
        for closed in each["rounds"]:
            del closed["seconds"]
    assert one == again
    assert one["rounds"] != other["rounds"]


def test_under_a_budget_the_run_ends_within_it(patients: Path) -> None:
    found = run(patients, MODEL | {"privacy_budget": "1.5"})
    spent = [closed["epsilon"] for closed in found["rounds"]]
    assert found["well"]
    assert spent == sorted(spent)
    assert 0 < spent[-1] <= 1.5
    assert all(node["accuracy"] is not None for node in found["nodes"] if node["took_part"])


@pytest.mark.parametrize(
    "rule", [{"aggregation": "median"}, {"aggregation": "scaffold"}, {"aggregation": "krum"}]
)
def test_rules_are_the_product_s_own(patients: Path, rule: dict[str, str]) -> None:
    found = run(patients, MODEL | rule, nodes=7)
    assert found["well"]
    assert [closed["nodes"] for closed in found["rounds"]] == [7, 7, 7, 7]


def test_hidden_updates_that_are_rounded_are_not_simulated(patients: Path) -> None:
    hidden = MODEL | {"secure_aggregation": "true", "quantization": "8", "max_update_norm": "1"}

    assert "hidden updates that are rounded are not simulated" in refusal(patients, hidden).message


def test_groups_of_a_secure_sum_are_those_of_a_plain_one(patients: Path) -> None:
    grouped = MODEL | {"aggregation": "median", "robust_groups": "3"}
    plain, secure = (
        run(patients, grouped | {"secure_aggregation": word}, nodes=10) for word in ("false", "true")
    )
    for each in (plain, secure):
        assert each["well"]
        for closed in each["rounds"]:
            del closed["seconds"]
    assert plain["rounds"] == secure["rounds"]
    error = refusal(patients, grouped | {"secure_aggregation": "true"}, nodes=8)
    assert error.message == "robust_groups 3 needs 9 nodes, and a round has at most 8"


def test_groups_share_noise_and_end_within_the_budget(patients: Path) -> None:
    options = {"aggregation": "median", "robust_groups": "3", "secure_aggregation": "true"}
    found = run(patients, MODEL | options | {"privacy_budget": "4"}, nodes=9)
    assert found["well"], found
    assert 0 < found["rounds"][-1]["epsilon"] <= 4


def test_simulated_nodes_add_as_much_noise_as_real_ones(
    patients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is told nothing counts on fewer than a third of all participants, in a group of three too."""
    shares, answer = dict[str, set[Fraction | None]](), SimulatedNode.answer

    def see(node: SimulatedNode, task: Task, share: Fraction | None = None) -> Update:
        shares.setdefault(task.key.step, set()).add(share)
        return answer(node, task, share)

    monkeypatch.setattr(SimulatedNode, "answer", see)
    options = {"aggregation": "median", "robust_groups": "3", "secure_aggregation": "true"}
    assert run(patients, MODEL | options | {"privacy_budget": "4"}, nodes=9)["well"]

    def real(nodes: int) -> Fraction:
        return Cohort(nodes, least_survivors(nodes)).share(most_curious(9))

    assert shares[GRADIENT] == {real(3)} == {Fraction(1)}
    assert shares[STATISTICS] == {real(9)} == {Fraction(1, 4)}


@pytest.mark.parametrize("selection", ["random(2)", "most_data(2)", "best_performance(2)"])
def test_rounds_ask_as_many_as_the_selection_says(patients: Path, selection: str) -> None:
    options = MODEL | {"node_selection": selection, "min_nodes_per_round": "2", "rounds": "5"}
    once, again = (run(patients, options) for _ in range(2))
    for one in (*once["rounds"], *again["rounds"]):
        del one["seconds"]
    assert once["rounds"] == again["rounds"]
    assert [one["nodes"] for one in once["rounds"]] == [5, 2, 2, 2, 2, 2]


def test_a_selection_of_more_than_there_are_is_refused(patients: Path) -> None:
    error = refusal(patients, MODEL | {"node_selection": "most_data(6)"})
    assert error.message == "node_selection most_data(6) asks 6 nodes of a round, and at most 5 can take part"


def test_nodes_refuse_by_the_rules_for_plain_answers_and_are_told_of(patients: Path) -> None:
    found = run(patients, MODEL, split="dirichlet(0.2)", nodes=20)
    small = [node for node in found["nodes"] if 0 < node["rows"] < 20]
    assert small
    assert all("fewer than min_rows = 20" in node["lost"] and not node["took_part"] for node in small)
    assert all(node["lost"] == "it was dealt no row" for node in found["nodes"] if not node["rows"])


def test_a_run_that_no_node_answers_fails_and_says_why(patients: Path) -> None:
    found = run(patients, MODEL | {"min_rows": "500"})
    assert not found["well"]
    assert found["status"] == "failed"
    assert "fewer than min_rows = 500" in found["message"]


def test_where_noise_leaves_no_figure_the_round_says_so(patients: Path) -> None:
    found = run(patients, MODEL | {"privacy_budget": "0.6"})
    assert [closed["loss"] for closed in found["rounds"][1:]] == [None] * 3
    assert any("are not measured" in note for note in found["rounds"][0]["notes"])


# How rows are dealt.


def test_a_split_by_a_column_has_a_node_for_each_value(patients: Path) -> None:
    found = run(patients, NEWTON, split="by(ward)", nodes=None)
    assert [node["value"] for node in found["nodes"]] == ["north", "south", "west"]
    assert sum(node["rows"] for node in found["nodes"]) == ROWS


def test_rows_of_one_subject_go_to_one_node(patients: Path) -> None:
    settings = read_simulation(MODEL | {"subject": "person"}, 6)
    source = read_csv(patients, settings, None)
    for split in (Split("iid"), Split("dirichlet", 0.5)):
        parts = deal(split, source.subjects, source.labels, 6, 1)
        owners = [set(source.subjects[part].tolist()) for part in parts]
        assert sum(map(len, owners)) == len(set(source.subjects.tolist()))
        assert sorted(np.concatenate(parts).tolist()) == list(range(ROWS))


def test_iid_parts_are_even_and_a_small_concentration_makes_labels_uneven() -> None:
    labels, subjects = np.arange(4000) % 2.0, np.arange(4000)
    even = deal(Split("iid"), subjects, labels, 8, 1)
    assert {part.size for part in even} == {500}

    def spread(concentration: float) -> float:
        parts = deal(Split("dirichlet", concentration), subjects, labels, 8, 1)
        return float(np.std([labels[part].mean() for part in parts if part.size]))

    assert spread(0.1) > 3 * spread(100.0)
    assert sum(part.size for part in deal(Split("dirichlet", 1e-300), subjects, labels, 8, 1)) == 4000


def test_a_target_of_many_values_is_dealt_by_tenths() -> None:
    labels = np.random.default_rng(0).normal(size=5000)
    labels[:50] = np.nan
    parts = deal(Split("dirichlet", 0.05), np.arange(5000), labels, 10, 1)
    means = [np.nanmean(labels[part]) for part in parts if part.size > 60]
    assert np.std(means) > 0.3


def test_values_are_dealt_in_their_order() -> None:
    distinct, parts = deal_by_value(np.array([5, -1, 5, 7]))
    assert distinct.tolist() == [-1, 5, 7]
    assert [part.tolist() for part in parts] == [[1], [0, 2], [3]]


@pytest.mark.parametrize("text", ["", "random", "iid(3)", "dirichlet", "dirichlet(x)", "dirichlet(0)", "dirichlet(nan)", "by()"])  # fmt: skip
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(FederatedError) as raised:
        read_split(text)
    assert raised.value.code is ErrorCode.INVALID_VALUE
    assert raised.value.hint is not None


# Options.


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"learnig_rate": "1"}, ErrorCode.INVALID_VALUE, "learnig_rate"),
        ({"rounds": "many"}, ErrorCode.INVALID_VALUE, "rounds"),
        ({"folds": "3"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"encryption": "none"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"exports": "true"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"async_aggregation": "true"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"aggregation_batch_size": "2"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"communication_protocol": "https"}, ErrorCode.NOT_SUPPORTED, "no effect on a simulation"),
        ({"aggregator": "a"}, ErrorCode.INVALID_VALUE, "aggregator"),
        ({"proximal_term": "1"}, ErrorCode.INVALID_VALUE, "has no effect on this run"),
        ({"aggregation": "trimmed_mena"}, ErrorCode.INVALID_VALUE, "trimmed_mena"),
        ({"aggregation": "our_own_rule"}, ErrorCode.NOT_SUPPORTED, "function of a database"),
        ({"features": "age,height"}, ErrorCode.UNDEFINED_COLUMN, "height"),
        ({"features": "age,ill"}, ErrorCode.INVALID_VALUE, "one of the features"),
        ({"feature_ranges": '{"age": [0, 100]}'}, ErrorCode.INVALID_VALUE, "without a privacy_budget"),
        ({"delta": "1e-6"}, ErrorCode.INVALID_VALUE, "without a privacy_budget"),
    ],
)
def test_what_cannot_be_simulated_is_one_clear_error(
    patients: Path, options: dict[str, str], code: ErrorCode, said: str
) -> None:
    error = refusal(patients, MODEL | options)
    assert error.code is code
    assert said in error.message


def test_nodes_and_a_split_by_a_column_exclude_each_other(patients: Path) -> None:
    assert refusal(patients, MODEL, split="by(ward)", nodes=3).code is ErrorCode.INVALID_VALUE


def test_what_the_model_lacks_is_named(patients: Path) -> None:
    assert "algorithm, target" in refusal(patients, {"features": "age"}).message


def test_options_are_read_from_words_and_what_is_none_is_refused() -> None:
    assert read_option_words(["--local-epochs", "2", "--target=ill", "--penalty", "-1"]) == {
        "local_epochs": "2",
        "target": "ill",
        "penalty": "-1",
    }
    for words in (["ill"], ["--rounds"], ["--rounds", "1", "--rounds=2"]):
        with pytest.raises(FederatedError) as raised:
            read_option_words(words)
        assert raised.value.code is ErrorCode.SYNTAX


def test_a_simulation_rounds_and_leaves_out_as_nodes_do(patients: Path) -> None:
    whole = run(patients, MODEL)["rounds"]
    same, coarse, part = (
        run(patients, MODEL | options)["rounds"]
        for options in ({"quantization": "16"}, {"quantization": "8"}, {"top_k": "1"})
    )
    losses = [[one["loss"] for one in rounds] for rounds in (whole, same, coarse, part)]
    assert len({tuple(found) for found in losses}) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-2)
    assert losses[3][-1] < losses[3][1]


# Files.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"age,bmi,ill\n1,2\n", "has 2 fields"),
        (b"age,bmi,ill\n", "no rows"),
        (b"age,bmi,ill\n\xff,2,true\n", "not a CSV file"),
        (b"", "no column"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    error = refusal(path, MODEL)
    assert said in error.message


def test_columns_of_a_file_are_what_all_their_fields_are(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("age,bmi,ill\n1,x,true\n,,false\n3,y,\n")
    settings = read_simulation(MODEL, 2)
    source = read_csv(path, settings, None)
    assert source.types == ("bigint", "text", "boolean")
    assert source.rows.values[:, 0].tolist() == [1.0, pytest.approx(np.nan, nan_ok=True), 3.0]
    assert sorted(source.rows.vocabularies["bmi"].values()) == ["x", "y"]
