"""The option table and what is said about an option list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federated_sql import (
    NO_PARTS,
    FederatedError,
    Option,
    OptionKind,
    check_model,
    check_workspace,
    defaults,
    validate,
)
from federated_sql.option_values import OptionType, canonical, describe_allowed
from federated_sql.options import OPTIONS, Built, OptionSpec, specs
from federated_sql.search_option import list_trials
from heliosdb.parts.built import built_parts

BUILT = built_parts()
SPECS = [(kind, spec) for kind in OPTIONS for spec in specs(kind, BUILT).values()]


def refused(kind: OptionKind, name: str, value: Any) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        validate(kind, [Option(name, value, 7)], BUILT)
    assert caught.value.position == 7
    return caught.value


def only(kind: OptionKind, name: str, value: Any) -> Any:
    return validate(kind, [Option(name, value, 7)], BUILT)[name]


@pytest.mark.parametrize(("kind", "spec"), SPECS, ids=[f"{k.value}.{s.name}" for k, s in SPECS])
def test_every_default_and_every_built_value_is_in_its_own_range(kind: OptionKind, spec: OptionSpec) -> None:
    values = [] if spec.default is None else [spec.default]
    # A form with an argument, as random(k), stands for each of its values.
    built = [
        str(one).replace("(k)", "(7)") if one in spec.choices and spec.type is OptionType.POLICY else one
        for one in spec.built_values or ()
    ]
    for value in (*values, *built):
        typed = tuple(value) if isinstance(value, list) else value
        assert canonical(spec, Option(spec.name, typed)) == value  # type: ignore[arg-type]  # no dict defaults
        assert json.loads(json.dumps(value)) == value
    assert spec.meaning
    assert describe_allowed(spec)


@pytest.mark.parametrize(("kind", "spec"), SPECS, ids=[f"{k.value}.{s.name}" for k, s in SPECS])
def test_a_default_is_accepted_exactly_if_it_has_an_effect(kind: OptionKind, spec: OptionSpec) -> None:
    if spec.default is None:
        assert spec.name not in defaults(kind, BUILT)
        return
    typed: Any = tuple(spec.default) if isinstance(spec.default, list) else spec.default
    if spec.in_effect_by_default:
        assert only(kind, spec.name, typed) == defaults(kind, BUILT)[spec.name] == spec.default
    else:
        assert refused(kind, spec.name, typed).sqlstate == "0A000"
        assert spec.name not in defaults(kind, BUILT)


def test_training_overrides_are_the_models_options_without_its_definition() -> None:
    assert set(OPTIONS[OptionKind.MODEL]) - set(OPTIONS[OptionKind.TRAINING]) == {
        "algorithm",
        "features",
        "target",
        "dataset",
        "layers",
        "input_shape",
        "channels",
        "kernel",
        "groups",
        "sequence_by",
        "order_by",
        "sequence_length",
        "width",
        "depth",
        "bidirectional",
        "heads",
        "activation",
        "output_activation",
        "intended_use",
        "owner_contact",
        "prediction",
    }


@pytest.mark.parametrize(
    ("kind", "name", "typed", "value"),
    [
        (OptionKind.WORKSPACE, "privacy_budget", 1, 1.0),
        (OptionKind.WORKSPACE, "compliance_mode", "hipaa", "HIPAA"),
        (OptionKind.WORKSPACE, "compliance_mode", "NONE", "none"),
        (OptionKind.WORKSPACE, "encryption", "aes-256-gcm", "AES-256-GCM"),
        (OptionKind.WORKSPACE, "tcp_nodelay", "ON", True),
        (OptionKind.WORKSPACE, "node_selection", "ALL", "all"),
        (OptionKind.WORKSPACE, "node_selection", " Random( 05 ) ", "random(5)"),
        (OptionKind.WORKSPACE, "node_selection", "Best_Performance(4)", "best_performance(4)"),
        (OptionKind.NODE, "endpoint", "https://node.example.com:8443/", "https://node.example.com:8443"),
        (OptionKind.NODE, "endpoint", "https://[::1]:8443", "https://[::1]:8443"),
        (OptionKind.DATASET, "min_rows", 5, 5),
        (OptionKind.MODEL, "features", ("a", "b"), ["a", "b"]),
        (OptionKind.MODEL, "features", '["a", "b"]', ["a", "b"]),
        (OptionKind.MODEL, "aggregation", "FedAvg", "fedavg"),
        (OptionKind.MODEL, "validation_split", 0, 0.0),
        (OptionKind.MODEL, "gradient_sparsification", 0, 0.0),
        (OptionKind.MODEL, "seed", 2**63 - 1, 2**63 - 1),
        (OptionKind.MODEL, "feature_ranges", '{"age": [0, 120]}', {"age": [0.0, 120.0]}),
        (OptionKind.TRAINING, "learning_rate", 1e-5, 1e-5),
    ],
)
def test_a_value_gets_its_canonical_form(kind: OptionKind, name: str, typed: Any, value: Any) -> None:
    result = only(kind, name, typed)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "name", "typed", "allowed"),
    [
        (OptionKind.WORKSPACE, "privacy_budget", 0, "a number greater than 0"),
        (OptionKind.WORKSPACE, "privacy_budget", "0.5", "a number greater than 0"),
        (OptionKind.WORKSPACE, "privacy_budget", float("inf"), "a number greater than 0"),
        (OptionKind.WORKSPACE, "privacy_budget", 10**400, "a number greater than 0"),
        (OptionKind.WORKSPACE, "delta", 0.1, "a number greater than 0 and less than 0.1"),
        (OptionKind.WORKSPACE, "min_nodes", 3.0, "an integer at least 1 and at most 10000"),
        (OptionKind.WORKSPACE, "min_nodes", True, "an integer at least 1 and at most 10000"),
        (OptionKind.WORKSPACE, "min_nodes", "many", "an integer at least 1 and at most 10000"),
        (OptionKind.WORKSPACE, "tcp_nodelay", 1, "true or false"),
        (OptionKind.WORKSPACE, "tls_version", 1.3, "one of '1.3', '1.2'"),
        (OptionKind.WORKSPACE, "compliance_mode", "SOX", "one of 'none', 'HIPAA', 'GDPR', 'BOTH'"),
        (OptionKind.WORKSPACE, "quantization", 4, "one of 8, 16, 32"),
        (OptionKind.WORKSPACE, "node_selection", "random", "'random(k)'"),
        (OptionKind.WORKSPACE, "node_selection", "random(0)", "'random(k)'"),
        (OptionKind.WORKSPACE, "node_selection", "all(3)", "'random(k)'"),
        (OptionKind.WORKSPACE, "data_residency", "", "a string"),
        (OptionKind.NODE, "endpoint", "http://node.example.com:8443", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://node.example.com", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://user@node.example.com:1", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://node.example.com:99999", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://node.example.com:8443/path", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://:8443", "https://host:port"),
        (OptionKind.NODE, "endpoint", "https://node.example.com:8443 ", "https://host:port"),
        (OptionKind.MODEL, "features", "age", "an array of different strings"),
        (OptionKind.MODEL, "features", (), "an array of different strings"),
        (OptionKind.MODEL, "features", ("a", "a"), "an array of different strings"),
        (OptionKind.MODEL, "features", ("a", 1), "an array of different strings"),
        (OptionKind.MODEL, "features", '["a"', "an array of different strings"),
        (OptionKind.MODEL, "features", '["\\u0000"]', "an array of different strings"),
        (OptionKind.MODEL, "features", '["\\ud800"]', "an array of different strings"),
        (OptionKind.MODEL, "rounds", 100_001, "an integer at least 1 and at most 100000"),
        (OptionKind.MODEL, "aggregation", "fedagv", "or a custom aggregation function"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [1, 0]}', "a JSON object of ranges"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [0, NaN]}', "a JSON object of ranges"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [0, 1e151]}', "with ends from -1e+150 to 1e+150"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [0, 1e-200]}', "at least 1e-150"),
        (
            OptionKind.MODEL,
            "feature_ranges",
            '{"a": [1e9, 1000000000.5]}',
            "1e-09 of the larger end's magnitude",
        ),
        (OptionKind.WORKSPACE, "privacy_budget", 1.1e6, "at most 1000000"),
        (OptionKind.WORKSPACE, "noise_multiplier", 0.001, "at least 0.01"),
        (OptionKind.WORKSPACE, "clipping_threshold", 1e-7, "at least 1e-06"),
        (OptionKind.MODEL, "learning_rate", 1e-13, "at least 1e-12"),
        (OptionKind.TRAINING, "max_update_norm", 0, "greater than 0 and at most 1000000000"),
        (OptionKind.TRAINING, "max_update_norm", 1e10, "greater than 0 and at most 1000000000"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [0, 1], "a": [0, 2]}', "a JSON object of ranges"),
        (OptionKind.MODEL, "feature_ranges", '{"a": [0, 1e999]}', "a JSON object of ranges"),
        (OptionKind.MODEL, "feature_ranges", "{}", "a JSON object of ranges"),
        (OptionKind.MODEL, "feature_ranges", "[" * 100_000, "a JSON object of ranges"),
        (OptionKind.MODEL, "layers", "[64, -1]", "an array of integers"),
        (OptionKind.MODEL, "validation_split", 0.51, "a number at least 0 and at most 0.5"),
        (OptionKind.WORKSPACE, "encryption", "DES", "Allowed: 'AES-256-GCM'."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    kind: OptionKind, name: str, typed: Any, allowed: str
) -> None:
    error = refused(kind, name, typed)
    assert error.sqlstate == "22023"
    assert f'"{name}"' in error.message
    assert error.detail is not None
    assert allowed in error.detail
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("kind", "name", "typed"),
    [
        (OptionKind.WORKSPACE, "tls_version", "1.2"),
        (OptionKind.WORKSPACE, "audit_logging", False),
        (OptionKind.WORKSPACE, "tcp_nodelay", False),
        (OptionKind.WORKSPACE, "batch_communication", False),
        (OptionKind.NODE, "sla_tier", "gold"),
        (OptionKind.MODEL, "sequence_by", "patient_id"),
        (OptionKind.MODEL, "sequence_length", 48),
    ],
)
def test_what_is_known_but_not_built_says_so_and_is_not_accepted(
    kind: OptionKind, name: str, typed: Any
) -> None:
    error = refused(kind, name, typed)
    assert error.sqlstate == "0A000"
    assert f'"{name}"' in error.message


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (OptionKind.WORKSPACE, "privcy_budget", 'Did you mean "privacy_budget"?'),
        (OptionKind.WORKSPACE, "learning_rate", '"learning_rate" is an option of a model.'),
        (OptionKind.NODE, "min_rows", '"min_rows" is an option of a dataset.'),
        (OptionKind.NODE, "qqqqqq", None),
        (OptionKind.WORKSPACE, "epsilon", 'Did you mean "privacy_budget"?'),
        (OptionKind.WORKSPACE, "differential_privacy", 'Did you mean "privacy_budget"?'),
        (OptionKind.DATASET, "epsilon", 'Did you mean "max_epsilon"?'),
        (OptionKind.WORKSPACE, "homomorphic_encryption", None),
    ],
)
def test_an_unknown_option_is_an_error_with_the_nearest_known_one(
    kind: OptionKind, name: str, hint: str | None
) -> None:
    error = refused(kind, name, 1)
    assert (error.sqlstate, error.message) == ("22023", f'unrecognized parameter "{name}"')
    assert error.hint == hint


def test_a_models_definition_cannot_be_changed_for_one_run() -> None:
    error = refused(OptionKind.TRAINING, "features", ("a",))
    assert error.sqlstate == "22023"
    assert error.hint == "Use ALTER FEDERATED MODEL ... SET."


@pytest.mark.parametrize(
    ("kind", "name", "typed"),
    [
        (OptionKind.MODEL, "features", ("a", "ü" * 32)),
        (OptionKind.MODEL, "target", "a" * 64),
        (OptionKind.MODEL, "feature_ranges", '{"%s": [0, 1]}' % ("a" * 64)),
        (OptionKind.DATASET, "subject", "a" * 64),
    ],
)
def test_a_column_name_that_postgresql_would_cut_is_refused(kind: OptionKind, name: str, typed: Any) -> None:
    error = refused(kind, name, typed)
    assert error.sqlstate == "42602"
    assert f'"{name}"' in error.message
    assert error.detail is not None
    assert "64 bytes; at most 63" in error.detail


def test_a_column_name_may_have_63_bytes() -> None:
    assert validate(OptionKind.MODEL, [Option("target", "a" * 63)], BUILT) == {"target": "a" * 63}


@pytest.mark.parametrize(
    ("name", "typed", "hint"),
    [
        ("algorithm", "logistic", "Did you mean 'logistic_regression'?"),
        ("aggregation", "medain", "Did you mean 'median'?"),
        ("optimizer", "Newtn", "Did you mean 'newton'?"),
        ("algorithm", "lst", "Did you mean 'lstm'?"),
        ("optimizer", "q", None),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_nearest(name: str, typed: str, hint: str | None) -> None:
    assert refused(OptionKind.MODEL, name, typed).hint == hint


def test_a_misspelt_option_of_a_search_is_answered_with_the_nearest() -> None:
    assert (
        refused(OptionKind.TRAINING, "search", '{"learning_rat": [1]}').hint
        == 'Did you mean "learning_rate"?'
    )
    assert refused(OptionKind.TRAINING, "search", '{"seed": [1, 2]}').hint is None


def test_one_feature_without_brackets_is_shown_with_them() -> None:
    assert refused(OptionKind.MODEL, "features", "age").hint == "An array is written in brackets: ['age']."
    assert refused(OptionKind.MODEL, "features", '["age"').hint is None


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"min_nodes": 1000}, "max_nodes is 100 unless set."),
        ({"max_nodes": 1}, "min_nodes is 2 unless set."),
        ({"min_nodes": 3, "max_nodes": 2}, None),
        ({"node_selection": "random(1)"}, "min_nodes_per_round is min_nodes unless set."),
        ({"node_selection": "random(1)", "min_nodes_per_round": 2}, None),
    ],
)
def test_a_conflict_with_a_default_names_the_default(options: dict[str, Any], hint: str | None) -> None:
    with pytest.raises(FederatedError) as caught:
        check_workspace(options)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "options",
    [
        {"min_nodes": 101},
        {"min_nodes": 3, "max_nodes": 2},
        {"max_nodes": 1},
        {"min_nodes_per_round": 5, "max_nodes": 4},
        {"node_selection": "random(1)"},
        {"node_selection": "random(2)", "min_nodes": 3},
        {"node_selection": "random(4)", "min_nodes_per_round": 5},
        {"stragglers_timeout": 301},
        {"async_aggregation": True},
        {"async_aggregation": True, "aggregation_batch_size": 0},
        {"async_aggregation": True, "aggregation_batch_size": 101},
        {"aggregation_batch_size": 5, "max_nodes": 4},
        {"privacy_budget": 0.5, "privacy_per_round": 0.6},
        {"privacy_per_round": 0.6},
        {"noise_multiplier": 1.0},
        {"clipping_threshold": 1.0},
        {"delta": 1e-5},
        {"trust_model": "local"},
        {"noise_mechanism": "laplacian"},
        {"subjects_overlap": True},
        {"adaptive_clipping": True},
        {"compliance_mode": "HIPAA", "audit_logging": False},
        {"compliance_mode": "BOTH", "audit_logging": False},
        {"compliance_mode": "GDPR", "tls_version": "1.2"},
        {"compliance_mode": "GDPR", "audit_logging": False},
        {"compliance_mode": "HIPAA", "retention_days": 2189},
        {"compliance_mode": "BOTH", "retention_days": 2189},
        {"compliance_mode": "HIPAA", "certificate_validation": False},
    ],
)
def test_workspace_options_that_do_not_fit_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(FederatedError) as caught:
        check_workspace(options)
    assert caught.value.sqlstate == "22023"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_nodes": 2, "max_nodes": 2},
        {"node_selection": "random(2)"},
        {"node_selection": "random(2)", "min_nodes": 5, "min_nodes_per_round": 2},
        {"privacy_budget": 0.5, "privacy_per_round": 0.5, "delta": 1e-6, "noise_multiplier": 1.0},
        {"compliance_mode": "HIPAA", "audit_logging": True},
        {"compliance_mode": "HIPAA", "retention_days": 2190},
        {"compliance_mode": "GDPR", "retention_days": 30},
        {"audit_logging": False, "tls_version": "1.2"},
        {"async_aggregation": True, "aggregation_batch_size": 20, "min_nodes_per_round": 50},
        {"aggregation_batch_size": 10},
        {"noise_mechanism": "gaussian", "subjects_overlap": False, "adaptive_clipping": False},
        {"privacy_budget": 0.5, "noise_mechanism": "laplacian", "subjects_overlap": True},
    ],
)
def test_workspace_options_that_fit_pass(options: dict[str, Any]) -> None:
    check_workspace(options)


def test_model_options_that_do_not_fit_together_are_refused() -> None:
    check_model({"features": ["a", "b"], "target": "c", "feature_ranges": {"a": [0.0, 1.0], "c": [0.0, 1.0]}})
    check_model({})
    with pytest.raises(FederatedError, match="cannot be one of the features"):
        check_model({"features": ["a", "b"], "target": "a"})
    with pytest.raises(FederatedError, match='"d", which is neither'):
        check_model({"features": ["a"], "target": "c", "feature_ranges": {"d": [0.0, 1.0]}})


def test_without_parts_their_options_have_no_effect_and_others_keep_theirs() -> None:
    assert "local_epochs" not in defaults(OptionKind.MODEL, NO_PARTS)
    assert defaults(OptionKind.MODEL, NO_PARTS)["rounds"] == 50
    for name, value in (("local_epochs", 1), ("algorithm", "logistic_regression"), ("compression", "none")):
        with pytest.raises(FederatedError, match=f'option "{name}" is not supported yet') as caught:
            validate(OptionKind.MODEL, [Option(name, value)], NO_PARTS)
        assert caught.value.sqlstate == "0A000"
    # What is done anyway needs no part.
    assert validate(OptionKind.MODEL, [Option("optimizer", "sgd")], NO_PARTS) == {"optimizer": "sgd"}


def test_a_part_makes_its_options_and_its_name_work() -> None:
    built = Built(
        frozenset({"trees"}),
        {"algorithm": ("random_forest", "oracle"), "optimizer": ("adam",), "secure_aggregation": (True,)},
    )
    given = {"trees": 7, "algorithm": "Oracle", "optimizer": "adam", "secure_aggregation": True}
    options = [Option(name, value) for name, value in given.items()]
    assert validate(OptionKind.MODEL, options, built) == {**given, "algorithm": "oracle"}
    assert validate(OptionKind.MODEL, [Option("optimizer", "sgd")], built) == {"optimizer": "sgd"}
    assert defaults(OptionKind.MODEL, built)["trees"] == 100
    with pytest.raises(FederatedError) as caught:
        validate(OptionKind.MODEL, [Option("algorithm", "lstm")], built)
    assert caught.value.hint == "Supported: 'random_forest', 'oracle'."
    assert specs(OptionKind.MODEL, built)["secure_aggregation"].built_values is None


def test_a_custom_aggregation_that_is_registered_is_no_unknown_name() -> None:
    built = Built(values={"aggregation": ("fedavg", "weighted_median")})
    option = Option("aggregation", "Weighted_Median")
    assert validate(OptionKind.MODEL, [option], built) == {"aggregation": "weighted_median"}


def test_parts_change_no_option_that_is_none_of_theirs() -> None:
    built = Built(frozenset({"rounds", "sla_tier"}), {"tls_version": ("1.2",)})
    assert specs(OptionKind.WORKSPACE, built)["tls_version"].built_values == ("1.3",)
    assert not specs(OptionKind.NODE, built)["sla_tier"].built


def test_a_search_holds_the_values_that_its_options_would_take() -> None:
    text = '{"learning_rate": [1, 0.5], "aggregation": ["FedAvg"], "keep_best": [true, "off"]}'

    assert only(OptionKind.TRAINING, "search", text) == {
        "learning_rate": [1.0, 0.5],
        "aggregation": ["fedavg"],
        "keep_best": [True, False],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"learning_rat": [1]}', 'option "search": "learning_rat" is not an option that a run may set'),
        ('{"features": [["a"]]}', 'option "search": "features" is not an option that a run may set'),
        ('{"folds": [2, 3]}', 'option "search": "folds" cannot be tried by a search'),
        ('{"weights": ["a", "b"]}', 'option "search": "weights" cannot be tried by a search'),
        ('{"rounds": [3, 3]}', 'option "search" names a value of "rounds" twice'),
        ('{"rounds": [0]}', 'invalid value for option "rounds": 0'),
        ('{"rounds": []}', 'invalid value for option "search": \'{"rounds": []}\''),
        ('{"rounds": 3}', 'invalid value for option "search": \'{"rounds": 3}\''),
        ("{}", "invalid value for option \"search\": '{}'"),
        ('["rounds"]', 'invalid value for option "search": \'["rounds"]\''),
    ],
)
def test_a_search_that_no_run_could_try_is_refused(text: str, message: str) -> None:
    assert refused(OptionKind.TRAINING, "search", text).message == message


def test_a_search_has_no_more_than_a_hundred_trials() -> None:
    fits = {"rounds": list(range(1, 11)), "batch_size": list(range(1, 11))}
    assert only(OptionKind.TRAINING, "search", json.dumps(fits)) == fits
    fits["rounds"].append(11)
    assert "at most 100 combinations" in str(refused(OptionKind.TRAINING, "search", json.dumps(fits)).detail)


def test_every_combination_is_a_trial_the_last_option_changing_fastest() -> None:
    assert list_trials({"rounds": [1, 2], "seed_like": ["a", "b"]}) == [
        {"rounds": 1, "seed_like": "a"},
        {"rounds": 1, "seed_like": "b"},
        {"rounds": 2, "seed_like": "a"},
        {"rounds": 2, "seed_like": "b"},
    ]


def test_folds_take_the_place_of_validation_split() -> None:
    check_model({"folds": 5})
    with pytest.raises(FederatedError, match="exclude each other"):
        check_model({"folds": 5, "validation_split": 0.2})
