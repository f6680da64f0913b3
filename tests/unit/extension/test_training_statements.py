"""What START and STOP FEDERATED TRAINING check, queue, refuse and warn of: with a server that runs nothing."""

from __future__ import annotations

import json

import pytest

from federated_sql import OptionKind, defaults
from heliosdb.extension import door
from heliosdb.extension.version import CATALOG_VERSION
from heliosdb.parts.built import built_parts
from tests.unit.extension.accepting_server import MODEL, MODEL_OPTIONS, NODE, refused, run, server
from tests.unit.extension.fake_plpy import Answer


def test_start_locks_checks_and_queues_what_was_given_for_this_run() -> None:
    plpy = server()

    assert run(plpy, "START FEDERATED TRAINING m WITH (rounds = 3, learning_rate = 1)") is None

    assert plpy.names == [
        "may_act_as", "hold_workspace", "lock_model", "list_nodes", "insert_run", "notify_coordinator", "is_served",
        "list_private_nodes",
    ]  # fmt: skip
    model, overrides, *alone = dict(plpy.called)["insert_run"]
    assert model == 7
    assert json.loads(str(overrides)) == {"rounds": 3, "learning_rate": 1.0}
    assert alone == [None, None, None, False, None, None]
    assert plpy.said == []


def test_start_queues_every_trial_of_a_search_and_each_fold_of_it() -> None:
    plpy = server(insert_run=lambda *_: [{"run_id": "r"}])
    search = """'{"learning_rate": [0.1, 1], "rounds": [3]}'"""

    assert run(plpy, f"START FEDERATED TRAINING m WITH (folds = 2, search = {search})") is None

    queued = [values for name, values in plpy.called if name == "insert_run"]
    tried = [json.loads(str(overrides)) for _, overrides, *_ in queued]
    asked = {"folds": 2, "search": {"learning_rate": [0.1, 1.0], "rounds": [3]}}
    assert tried == [
        *([asked | {"learning_rate": rate, "rounds": 3} for rate in (0.1, 0.1, 1.0, 1.0)]),
        asked,
    ]
    assert len({series for _, _, series, *_ in queued}) == 1
    assert [(trial, fold, waits) for *_, trial, fold, waits, _, _ in queued] == [
        (1, 0, False), (1, 1, True), (2, 0, True), (2, 1, True), (None, None, True),
    ]  # fmt: skip
    said = "5 runs are queued, one after another: 2 trials of 2 folds, and one of the best trial"
    assert plpy.said == [("notice", said)]


@pytest.mark.parametrize(
    ("options", "nodes", "said"),
    [
        (
            "aggregation = 'krum'",
            4,
            "krum withstands no hostile node: for one it needs 5 updates, and a round has at most 4",
        ),
        (
            "aggregation = 'bulyan'",
            6,
            "bulyan withstands no hostile node: for one it needs 7 updates, and a round has at most 6",
        ),
        ("aggregation = 'krum'", 5, None),
        ("aggregation = 'krum', byzantine_nodes = 0", 4, None),
        ("aggregation = 'median'", 3, None),
    ],
)
def test_start_says_that_a_rule_against_hostile_nodes_withstands_none(
    options: str, nodes: int, said: str | None
) -> None:
    plpy = server(list_nodes=[NODE | {"name": f"n{i}"} for i in range(nodes)])

    assert run(plpy, f"START FEDERATED TRAINING m WITH ({options})") is None

    assert plpy.said == ([] if said is None else [("notice", f"aggregation {said}")])


def test_start_looks_at_each_trial_as_at_a_run_of_its_own() -> None:
    search = """'{"learning_rate": [0.1], "aggregation": ["fedavg", "fltrust"]}'"""

    error = refused(server(), f"START FEDERATED TRAINING m WITH (search = {search})")

    assert (error["sqlstate"], error["message"]) == (
        "55000",
        "aggregation fltrust needs the option root_node",
    )


def test_start_takes_no_option_that_no_part_of_the_run_reads() -> None:
    statement = "START FEDERATED TRAINING m WITH (rounds = 3, trees = 5)"
    error = refused(server(), statement)
    assert (error["sqlstate"], error["message"]) == ("22023", 'option "trees" has no effect on this run')
    assert error["position"] == str(statement.index("trees") + 1)


@pytest.mark.parametrize("option", ["threshold = 5", "aggregation_protocol = 'shamir'"])
def test_an_option_of_secure_sums_says_what_it_is_of(option: str) -> None:
    error = refused(server(), f"START FEDERATED TRAINING m WITH ({option})")
    assert (error["message"], error["detail"]) == (
        f'option "{option.partition(" ")[0]}" has no effect on this run',
        "It is of secure_aggregation, which is not chosen.",
    )
    assert "set secure_aggregation = true" in error["hint"]


def _of(algorithm: str, **options: object) -> dict[str, object]:
    return {**MODEL, "options": json.dumps({**MODEL_OPTIONS, "algorithm": algorithm, **options})}


@pytest.mark.parametrize(
    ("algorithm", "options", "unread"),
    [
        ("random_forest", {"weights": "w"}, "weights"),
        ("random_forest", {"penalty": 0.5}, "penalty"),
        ("random_forest", {"batch_size": 8}, "batch_size"),
        ("neural_network", {"weights": "w"}, "weights"),
        ("cox_regression", {"event": "died", "optimizer": "newton", "weights": "w"}, "weights"),
        ("cox_regression", {"event": "died", "optimizer": "newton", "offset": "o"}, "offset"),
        ("linear_regression", {"event": "died"}, "event"),
        ("logistic_regression", {"layers": [4, 1]}, "layers"),
        ("logistic_regression", {"trim_ratio": 0.1}, "trim_ratio"),
    ],
)
def test_start_takes_no_model_of_which_an_option_would_be_ignored(
    algorithm: str, options: dict[str, object], unread: str
) -> None:
    error = refused(server(lock_model=[_of(algorithm, **options)]), "START FEDERATED TRAINING m")
    assert (error["sqlstate"], error["message"]) == ("22023", f'option "{unread}" has no effect on this run')
    assert error["hint"].startswith(f"ALTER FEDERATED MODEL m RESET ({unread}), or")


def test_what_a_model_has_for_another_choice_than_the_runs_is_no_error() -> None:
    prox = _of("logistic_regression", aggregation="fedprox", proximal_term=0.1)
    assert run(server(lock_model=[prox]), "START FEDERATED TRAINING m WITH (aggregation = 'median')") is None
    ready = _of("logistic_regression", proximal_term=0.1)
    chosen = "START FEDERATED TRAINING m WITH (aggregation = 'fedprox')"
    assert run(server(lock_model=[ready]), chosen) is None


def test_newton_takes_no_option_of_descent_beside_it() -> None:
    both = _of("logistic_regression", optimizer="newton", learning_rate=0.5)
    error = refused(server(lock_model=[both]), "START FEDERATED TRAINING m")
    assert error["message"] == 'option "learning_rate" has no effect under optimizer newton'

    descent = _of("logistic_regression", learning_rate=0.5)
    assert run(server(lock_model=[descent]), "START FEDERATED TRAINING m WITH (optimizer = 'newton')") is None


def test_a_part_of_no_penalty_is_refused() -> None:
    error = refused(
        server(lock_model=[_of("logistic_regression", l1_ratio=0.5)]), "START FEDERATED TRAINING m"
    )
    assert (error["sqlstate"], error["message"]) == (
        "22023",
        'option "l1_ratio" has no effect without a penalty',
    )

    both = _of("logistic_regression", l1_ratio=0.5, penalty=0.1)
    assert run(server(lock_model=[both]), "START FEDERATED TRAINING m") is None


def test_the_snapshot_of_a_run_has_the_defaults_of_what_is_built() -> None:
    """The catalog's own trigger joins them with the rows of model and workspace and with what START gives."""
    described = json.loads(door.describe_options(CATALOG_VERSION))

    assert described["workspace"] == defaults(OptionKind.WORKSPACE, built_parts())
    assert described["model"] == defaults(OptionKind.MODEL, built_parts())
    assert described["model"].items() >= {
        "aggregation": "fedavg", "local_epochs": 1, "gradient_sparsification": 0.0,
        "secure_aggregation": False, "optimizer": "sgd", "trees": 100, "channels": [8, 16], "activation": "relu",
    }.items()  # fmt: skip
    assert described["workspace"]["node_selection"] == "all"
    assert not {"top_k", "compression", "threshold", "layers"} & described["model"].keys()
    assert {"rounds", "learning_rate"} <= set(described["training"])


@pytest.mark.parametrize(
    ("changed", "sqlstate", "told"),
    [
        ({"lock_model": []}, "42704", 'federated model "m" does not exist'),
        ({"lock_model": [{**MODEL, "options": "{}"}]}, "55000",
         'federated model "m" is incomplete: algorithm, features, target not set'),
        ({"lock_model": [{**MODEL, "policy": '{"privacy_budget": 2.0}'}], "consumed_epsilon": [{"consumed": 2.0}]},
         "UF001", 'the privacy budget of federated workspace "w" is spent'),
    ],
)  # fmt: skip
def test_start_is_refused(changed: dict[str, Answer], sqlstate: str, told: str) -> None:
    error = refused(server(**changed), "START FEDERATED TRAINING m")

    assert (error["sqlstate"], error["message"]) == (sqlstate, told)
    assert sqlstate == "42704" or error["hint"]


def test_a_model_that_is_in_training_is_not_started_twice_nor_dropped() -> None:
    plpy = server(insert_run=[])
    error = run(plpy, "START FEDERATED TRAINING m")
    assert error is not None
    assert error["sqlstate"] == "55006"
    assert "notify_coordinator" not in plpy.names

    plpy = server(active_run=[{}])
    assert refused(plpy, "DROP FEDERATED MODEL m")["sqlstate"] == "55006"
    assert refused(plpy, "ALTER FEDERATED MODEL m RENAME TO k")["sqlstate"] == "55006"


@pytest.mark.parametrize(
    ("options", "selection", "sqlstate", "told"),
    [
        ({}, "most_data(4)", "55000", "node_selection most_data(4) asks 4 nodes of a round, and at most 3 can take part"),
        ({}, "random(4)", "55000", "node_selection random(4) asks 4 nodes of a round, and at most 3 can take part"),
        ({"algorithm": "random_forest", "target_classes": ["0", "1"]}, "best_performance(2)", "22023",
         "node_selection best_performance(2) compares the parameters that nodes send, and random_forest adds sums up"),
        ({"algorithm": "random_forest", "target_classes": ["0", "1"]}, "most_data(3)", None, None),
        ({}, "best_performance(3)", None, None),
    ],
)  # fmt: skip
def test_start_refuses_a_selection_that_could_not_be_held(
    options: dict[str, object], selection: str, sqlstate: str | None, told: str | None
) -> None:
    nodes = [{**NODE, "name": name} for name in ("n", "o", "p")]
    model = {**MODEL, "options": json.dumps({**MODEL_OPTIONS, **options})}
    model["policy"] = json.dumps({"node_selection": selection})

    error = run(server(lock_model=[model], list_nodes=nodes), "START FEDERATED TRAINING m")

    assert (error and error["sqlstate"], error and error["message"]) == (sqlstate, told)
    assert error is None or error["hint"]


def test_a_run_that_will_wait_is_said_to_wait() -> None:
    plpy = server(is_served=[{"is_served": False}], list_nodes=[NODE])

    assert run(plpy, "START FEDERATED TRAINING m") is None

    assert [kind for kind, _ in plpy.said] == ["warning", "warning"]
    assert "no coordinator serves this database yet" in plpy.said[0][1]
    assert "has 1 node where a run needs 2; it waits 300 seconds" in plpy.said[1][1]


def test_a_budget_of_which_hardly_anything_is_left_is_said() -> None:
    for consumed, expected in ((1.97, ["warning"]), (1.95, []), (0.0, [])):
        plpy = server(
            lock_model=[{**MODEL, "policy": '{"privacy_budget": 2.0}'}],
            consumed_epsilon=[{"consumed": consumed}],
        )
        assert run(plpy, "START FEDERATED TRAINING m") is None
        assert [kind for kind, _ in plpy.said] == expected
    assert run(server(lock_model=[MODEL]), "START FEDERATED TRAINING m") is None


def test_tables_that_have_spent_from_a_budget_are_named_before_a_run_without_one() -> None:
    plpy = server(list_private_nodes=[{"name": "n"}, {"name": "o"}])
    assert run(plpy, "START FEDERATED TRAINING m") is None
    assert plpy.said == [
        (
            "warning",
            'this run has no privacy budget, and of federated workspace "w" these nodes have answered under one: n, o;'
            " a table that has spent from a budget gives no answer without noise",
        )
    ]
    private = {**MODEL, "policy": '{"privacy_budget": 2.0}'}
    assert (
        run(server(lock_model=[private], list_private_nodes=[{"name": "n"}]), "START FEDERATED TRAINING m")
        is None
    )


def test_stop_asks_the_run_to_stop_and_wakes_the_coordinator() -> None:
    plpy = server()
    assert run(plpy, "STOP FEDERATED TRAINING m") is None
    assert plpy.names == ["may_act_as", "lock_model", "request_stop", "notify_coordinator"]

    error = run(server(request_stop=[]), "STOP FEDERATED TRAINING m")
    assert error is not None
    assert (error["sqlstate"], error["message"]) == ("55000", 'federated model "m" is not in training')


def met(kind: str, *values: str) -> dict[str, object]:
    """A node that said that it shares age and ill."""
    declared = [{"column": "ill", "values": values}] if values else []
    said = {"name": "d", "columns": ["age", "ill"], "types": ["integer", kind]}
    return {**NODE, "datasets": json.dumps([{**said, "plain_answers": False, "declared": declared}])}


@pytest.mark.parametrize(
    ("root", "sqlstate", "message"),
    [
        (None, "55000", "aggregation fltrust needs the option root_node"),
        ("elsewhere", "42704", 'root_node "elsewhere" is no registered node of the workspace'),
        (
            "o",
            "55000",
            'federated model "m" cannot be trained: the run needs node "o", which would be left out',
        ),
    ],
)
def test_start_refuses_a_root_node_that_could_not_be_asked(
    root: str | None, sqlstate: str, message: str
) -> None:
    nodes = [met("boolean"), {**met("date"), "name": "o"}]
    trusting = json.dumps({**MODEL_OPTIONS, "aggregation": "fltrust", "root_node": root})
    at = {"list_nodes": nodes, "lock_model": [{**MODEL, "options": trusting}]}
    error = refused(server(**at), "START FEDERATED TRAINING m")
    assert (error["sqlstate"], error["message"]) == (sqlstate, message)
    assert error["hint"]
    assert run(server(**at), "START FEDERATED TRAINING m WITH (root_node = 'n')") is None


PRIVATE = {**MODEL, "policy": json.dumps({"privacy_budget": 1.0})}


def test_start_refuses_a_budget_for_classes_that_no_node_declares_and_takes_those_that_are() -> None:
    start = "START FEDERATED TRAINING m"
    nodes = [met("numeric"), {**met("boolean"), "name": "o"}]

    error = refused(server(list_nodes=nodes, lock_model=[PRIVATE]), start)
    assert error["sqlstate"] == "55000"
    assert error["message"].startswith(
        'federated model "m" cannot be trained: the classes of the target "ill"'
    )
    assert error["detail"].startswith('n: column "ill" of dataset "d" is of type numeric')
    assert "target_classes = ['0', '1']" in error["hint"]

    assert (
        run(server(list_nodes=nodes, lock_model=[PRIVATE]), f"{start} WITH (target_classes = ['0', '1'])")
        is None
    )
    declared = [met("integer", "0", "1"), {**met("boolean"), "name": "o"}]
    assert run(server(list_nodes=declared, lock_model=[PRIVATE]), start) is None
    assert run(server(list_nodes=nodes), start) is None


def test_start_refuses_bins_under_a_budget_and_of_what_has_none() -> None:
    nodes = [met("boolean"), {**met("boolean"), "name": "o"}]
    binned = {**MODEL, "options": json.dumps({**MODEL_OPTIONS, "feature_transforms": ["bins(age, 10)"]})}
    assert run(server(list_nodes=nodes, lock_model=[binned]), "START FEDERATED TRAINING m") is None

    private = [{**binned, "policy": PRIVATE["policy"]}]
    error = refused(server(list_nodes=nodes, lock_model=private), "START FEDERATED TRAINING m")
    assert error["sqlstate"] == "0A000"
    assert (
        "feature_transforms = ['bins(age, 10)'] is not supported under a privacy_budget" in error["message"]
    )
    assert error["hint"]

    texts = [{**one, "datasets": str(one["datasets"]).replace('"integer"', '"text"')} for one in nodes]
    error = refused(server(list_nodes=texts, lock_model=[binned]), "START FEDERATED TRAINING m")
    assert error["sqlstate"] == "22023"
    assert 'bins(age, 10), and "age" is of kind category' in error["message"]


def test_start_says_where_the_classes_of_an_integer_are_counted_under_a_budget_and_how_not_to() -> None:
    start = "START FEDERATED TRAINING m"
    nodes = [met("integer"), {**met("boolean"), "name": "o"}]

    plpy = server(list_nodes=nodes, lock_model=[PRIVATE])
    assert run(plpy, start) is None
    assert plpy.said == [
        (
            "notice",
            'the classes of the target "ill" are not declared at n: a small part of the privacy budget goes to'
            " counting whether it is 0 or 1, and none where target_classes, or a CHECK at each of these nodes,"
            " says so",
        )
    ]

    for silent, statement in (
        (server(list_nodes=nodes, lock_model=[PRIVATE]), f"{start} WITH (target_classes = ['0', '1'])"),
        (server(list_nodes=nodes), start),
    ):
        assert run(silent, statement) is None
        assert silent.said == []


def test_start_tells_of_nodes_that_would_be_left_out() -> None:
    plpy = server(list_nodes=[met("boolean"), {**met("date"), "name": "o"}])

    assert run(plpy, "START FEDERATED TRAINING m") is None

    reason = 'column ill of dataset "d" is of type date, no number and no label'
    assert plpy.said == [("notice", f'node "o" would be left out of the run: {reason}')]


def test_nodes_that_the_same_keeps_out_are_told_of_once() -> None:
    plpy = server(list_nodes=[{**met("date"), "name": name} for name in ("n", "o")])

    assert run(plpy, "START FEDERATED TRAINING m") is None

    reason = 'column ill of dataset "d" is of type date, no number and no label'
    assert plpy.said == [("notice", f'nodes "n", "o" would be left out of the run: {reason}')]


def test_start_refuses_ranges_of_some_columns_only() -> None:
    private = server(lock_model=[PRIVATE])

    error = refused(private, """START FEDERATED TRAINING m WITH (feature_ranges = '{"ill": [0, 1]}')""")

    assert (error["sqlstate"], error["message"]) == ("22023", "feature_ranges does not name age")
    assert error["hint"] == "Give the range of every column, a boolean one's is [0, 1], or of none."


def network(**options: object) -> dict[str, object]:
    """A model of a neural network."""
    given = {**json.loads(str(MODEL["options"])), "algorithm": "neural_network", **options}
    return {**MODEL, "options": json.dumps(given)}


def equipped(kind: str, *extras: str, name: str = "n") -> dict[str, object]:
    """A node that said what is installed there."""
    return {**met(kind), "name": name, "extras": list(extras)}


@pytest.mark.parametrize(
    ("options", "kind", "told", "hint"),
    [
        ({"layers": [4, 3]}, "boolean", "layers ends with 3 units, and output_activation sigmoid needs 1", "softmax"),
        ({"layers": [4, 3], "output_activation": "softmax"}, "boolean",
         'cannot be trained: layers ends with 3 units, and the target "ill" has 2 classes', "let layers end with 1"),
        ({"layers": [4, 2], "output_activation": "softmax", "target_classes": ["1", "2", "3"]}, "integer",
         'layers ends with 2 units, and the target "ill" has 3 classes', "let layers end with 3"),
        ({"target_classes": ["1", "2", "3"]}, "integer",
         'output_activation sigmoid tells two classes apart, and the target "ill" has 3 classes', "softmax"),
        ({"layers": [65536, 65536, 1]}, "boolean", "parameters, more than 50000000", "fewer or smaller"),
        ({"layers": [2], "output_activation": "linear"}, "integer", "output_activation linear needs 1", "end with 1"),
    ],
)  # fmt: skip
def test_start_refuses_layers_that_do_not_fit_the_target(
    options: dict[str, object], kind: str, told: str, hint: str
) -> None:
    plpy = server(lock_model=[network(**options)], list_nodes=[equipped(kind, "neural")])
    error = refused(plpy, "START FEDERATED TRAINING m")
    assert error["sqlstate"] == "22023"
    assert told in error["message"]
    assert hint in error["hint"]


def test_start_takes_layers_that_fit_or_whose_target_is_not_known_yet() -> None:
    softmax = {"layers": [4, 3], "output_activation": "softmax"}
    for options, kind in (({}, "boolean"), (softmax, "text"), ({"output_activation": "linear"}, "numeric")):
        plpy = server(lock_model=[network(**options)], list_nodes=[equipped(kind, "neural")])
        assert run(plpy, "START FEDERATED TRAINING m") is None


def test_start_takes_a_network_under_a_budget() -> None:
    private = {**network(), "policy": PRIVATE["policy"]}
    plpy = server(lock_model=[private], list_nodes=[equipped("boolean", "neural")])
    assert run(plpy, "START FEDERATED TRAINING m") is None


def test_start_names_nodes_that_lack_what_a_network_needs() -> None:
    nodes = [
        equipped("boolean", "neural"),
        equipped("boolean", name="o"),
        equipped("boolean", "neural", name="p"),
    ]
    plpy = server(lock_model=[network()], list_nodes=nodes)
    assert run(plpy, "START FEDERATED TRAINING m") is None
    assert [text for _, text in plpy.said] == [
        'node "o" would be left out of the run: lacks the extra "neural"'
        " (pip install 'heliosdb-federated-learning[neural]')"
    ]
    assert run(server(list_nodes=nodes), "START FEDERATED TRAINING m") is None

    error = refused(server(lock_model=[network()], list_nodes=nodes[:2]), "START FEDERATED TRAINING m")
    assert error["sqlstate"] == "55000"
    assert error["message"] == 'federated model "m" cannot be trained: too few nodes have the extra "neural"'
    assert '"o"' in error["detail"]
    assert "pip install 'heliosdb-federated-learning[neural]'" in error["hint"]


@pytest.mark.parametrize("option", ["target_accuracy = 0.9", """search = '{"rounds": [1, 2]}'"""])
def test_what_needs_figures_is_refused_where_nothing_is_held_out(option: str) -> None:
    statement = f"START FEDERATED TRAINING m WITH (validation_split = 0, {option})"

    error = refused(server(), statement)

    name = option.partition(" ")[0]
    assert (error["sqlstate"], error["message"]) == (
        "22023",
        f"{name} has no effect where validation_split is 0",
    )


def test_promote_is_refused_where_folds_leave_no_version() -> None:
    error = refused(server(), "START FEDERATED TRAINING m WITH (folds = 2, promote = false)")
    assert (error["sqlstate"], error["message"]) == (
        "22023",
        "promote has no effect where folds leave no version",
    )
    search = "search = '{\"rounds\": [1, 2]}'"
    assert run(server(), f"START FEDERATED TRAINING m WITH (folds = 2, promote = false, {search})") is None
