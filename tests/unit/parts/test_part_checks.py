"""What a run names is there, and is read, before anything is spent on it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.checks import check_parts, check_rule, check_selection, describe_coding
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.loading import load_parts
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.selections import SELECTIONS, SomeNodes, read_selection
from heliosdb.parts.strategies import STRATEGIES

OPTIONS: dict[str, Any] = {
    "algorithm": "linear_regression",
    "features": ["age"],
    "target": "outcome",
    "rounds": 3,
    "aggregation": "fedavg",
    "local_epochs": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
    "compression": "none",
    "secure_aggregation": False,
}
POLICY: dict[str, Any] = {
    "round_timeout": 300,
    "delta": 1e-5,
    "clipping_threshold": 1.0,
    "min_nodes": 2,
    "max_nodes": 10,
}


def options(**changed: Any) -> TrainingOptions:
    return parse_options({**OPTIONS, **changed})


def policy(node_selection: str = "all") -> Policy:
    return parse_policy({**POLICY, "node_selection": node_selection}, WorkspaceName("w"))


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are there without being imported, and what a test registers is gone after it."""
    for registry in (ALGORITHMS, STRATEGIES, PROTOCOLS, CODECS, SELECTIONS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_loaded", dict.fromkeys(registry.names(), object()))


def test_a_run_whose_parts_are_there_passes() -> None:
    check_parts(options(), policy())
    check_parts(options(algorithm="Logistic_Regression", aggregation="FedAvg"), policy("random(3)"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"algorithm": "oracle"}, 'algorithm "oracle"'),
        ({"aggregation": "medain"}, 'aggregation "medain"'),
        ({"compression": "gzip"}, 'codec "gzip"'),
        ({"secure_aggregation": True, "aggregation_protocol": "smpc"}, 'sum protocol "smpc"'),
    ],
)
def test_a_part_that_is_not_there_is_named(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(FederatedError, match=f"The {named} is not supported") as caught:
        check_parts(options(**changed), policy())
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": "fast"},
        {"learning_rate": 1e4},
        {"batch_size": 0},
        {"batch_size": True},
        {"secure_aggregation": True},
    ],
)
def test_settings_that_cannot_be_read_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(FederatedError) as caught:
        check_parts(options(**changed), policy())
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("changed", "private", "code", "said"),
    [
        ({}, False, ErrorCode.WRONG_STATE, "fltrust needs the option root_node"),
        (
            {"aggregation": "median", "algorithm": "cox_regression", "optimizer": "newton"},
            False,
            ErrorCode.INVALID_VALUE,
            "aggregation median has no effect",
        ),
        ({"root_node": "east"}, True, ErrorCode.NOT_SUPPORTED, "fltrust is not supported under a privacy"),
        (
            {"root_node": "east", "algorithm": "random_forest"},
            False,
            ErrorCode.INVALID_VALUE,
            "has no effect on",
        ),
        (
            {"root_node": "east", "optimizer": "newton"},
            False,
            ErrorCode.INVALID_VALUE,
            "under optimizer newton",
        ),
    ],
)
def test_a_rule_that_cannot_work_is_refused_before_a_node_is_asked(
    changed: dict[str, Any], private: bool, code: ErrorCode, said: str
) -> None:
    with pytest.raises(FederatedError, match=said) as caught:
        check_parts(
            options(**{"aggregation": "fltrust", **changed}),
            replace(policy(), privacy_budget=1.0 if private else None),
        )
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("changed", "private", "code", "said"),
    [
        ({}, True, ErrorCode.NOT_SUPPORTED, "not supported under a privacy_budget"),
        (
            {"aggregation": "scaffold"},
            False,
            ErrorCode.INVALID_VALUE,
            "scaffold corrects steps of one length",
        ),
        ({"optimizer": "newton"}, False, ErrorCode.INVALID_VALUE, "no effect on optimizer newton"),
        (
            {"algorithm": "gradient_boosting"},
            False,
            ErrorCode.INVALID_VALUE,
            "no effect on gradient_boosting",
        ),
    ],
)
def test_where_nodes_have_no_learning_rate_of_their_own_none_is_asked_for(
    changed: dict[str, Any], private: bool, code: ErrorCode, said: str
) -> None:
    rules = replace(policy(), privacy_budget=1.0 if private else None)
    check_parts(options(**changed), rules)
    with pytest.raises(FederatedError, match=said) as caught:
        check_parts(options(**changed, adaptive_learning=True), rules)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("most_data", ErrorCode.INVALID_VALUE),
        ("most_data(0)", ErrorCode.INVALID_VALUE),
        ("best_performance(1)", ErrorCode.INVALID_VALUE),
        ("nobody", ErrorCode.NOT_SUPPORTED),
        ("random", ErrorCode.INVALID_VALUE),
        ("all(3)", ErrorCode.INVALID_VALUE),
        ("random(0)", ErrorCode.INVALID_VALUE),
        ("random(-1)", ErrorCode.INVALID_VALUE),
        ("random(99999)", ErrorCode.INVALID_VALUE),
        ("random(1e3)", ErrorCode.INVALID_VALUE),
        ("", ErrorCode.INVALID_VALUE),
        ("(" * 100_000, ErrorCode.INVALID_VALUE),
    ],
)
def test_a_selection_that_cannot_be_read_is_refused(text: str, code: ErrorCode) -> None:
    with pytest.raises(FederatedError) as caught:
        check_parts(options(), replace(policy(), node_selection=text))
    assert caught.value.code is code
    assert len(caught.value.message) < 200


def test_what_is_wrong_with_a_selection_names_it() -> None:
    with pytest.raises(FederatedError) as caught:
        read_selection("best_performance(1)")
    assert caught.value.message == "node_selection best_performance(1): k 1 is outside 2 … 10000"


def test_what_a_run_does_not_tell_ranks_nobody() -> None:
    hidden = options(secure_aggregation=True, aggregation_protocol="shamir")
    sums = options(algorithm="random_forest", target_classes=["0", "1"])
    newton = options(algorithm="logistic_regression", optimizer="newton")

    for run, text, said in (
        (hidden, "most_data(2)", "ranks nodes by their own answers, which secure_aggregation hides"),
        (hidden, "best_performance(2)", "ranks nodes by their own answers, which secure_aggregation hides"),
        (
            sums,
            "best_performance(2)",
            "compares the parameters that nodes send, and random_forest adds sums up",
        ),
        (newton, "best_performance(2)", "and optimizer newton adds sums up"),
    ):
        with pytest.raises(FederatedError, match=said) as caught:
            check_selection(run, text)
        assert caught.value.code is ErrorCode.INVALID_VALUE

    check_selection(hidden, "random(2)")
    check_selection(sums, "most_data(2)")
    check_selection(options(), "best_performance(2)")


@pytest.mark.parametrize("text", ["random(4)", "most_data(4)", "best_performance(4)"])
def test_no_more_nodes_are_chosen_than_there_can_be(text: str) -> None:
    check_selection(options(), text, nodes=4)
    check_selection(options(), "all", nodes=0)
    with pytest.raises(
        FederatedError, match="asks 4 nodes of a round, and at most 3 can take part"
    ) as caught:
        check_selection(options(), text, nodes=3)
    assert caught.value.code is ErrorCode.WRONG_STATE


def test_a_selections_argument_is_read_from_its_text() -> None:
    assert read_selection("random(5)")[1] == SomeNodes(5)
    assert read_selection("all")[0].name == "all"


def test_a_part_whose_module_is_broken_shows_when_the_run_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STRATEGIES, "_loaded", {})
    STRATEGIES.register("broken_mean", "heliosdb.no_such_module:KRUM")
    with pytest.raises(FederatedError, match='"broken_mean" cannot be loaded here') as caught:
        check_parts(options(aggregation="broken_mean"), policy())
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


SPARSE = {"gradient_sparsification": 0.9}
HIDDEN = {"secure_aggregation": True, "aggregation_protocol": "shamir"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *[
            (
                {"aggregation": rule, **SPARSE},
                f"aggregation {rule} must see whole updates, and gradient_spars",
            )
            for rule in ("median", "trimmed_mean", "krum", "multi_krum", "bulyan", "geometric_median")
        ],
        ({"aggregation": "median", "top_k": 3}, "must see whole updates, and top_k sends"),
        ({"aggregation": "median_of_mine", "top_k": 3}, "aggregation median_of_mine must see whole updates"),
        ({"aggregation": "scaffold", **SPARSE}, "aggregation scaffold must see whole updates"),
        (
            {"aggregation": "scaffold", "quantization": 8},
            "values that are not rounded, and quantization is 8",
        ),
        ({"top_k": 3, **SPARSE}, "top_k and gradient_sparsification exclude each other"),
        ({"algorithm": "random_forest", **SPARSE}, "gradient_sparsification has no effect on random_forest"),
        ({"algorithm": "random_forest", "quantization": 16}, "quantization has no effect on random_forest"),
        (
            {**HIDDEN, "quantization": 8},
            "quantization = 8 with secure_aggregation needs max_update_norm",
        ),
        (
            {**HIDDEN, "quantization": 8, "max_update_norm": 1.0, "top_k": 3},
            "top_k is not possible where shamir hides updates",
        ),
        ({**HIDDEN, **SPARSE}, "gradient_sparsification is not possible where shamir hides updates"),
        ({**HIDDEN, "max_update_norm": 1.0}, "max_update_norm cannot be held"),
        ({**HIDDEN, "max_update_norm": 1.0, "quantization": 32}, "max_update_norm cannot be held"),
        ({"optimizer": "newton", "top_k": 3}, "top_k has no effect on optimizer newton, which adds sums up"),
    ],
)
def test_less_than_a_rule_needs_of_updates_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(FederatedError, match=said) as caught:
        check_parts(options(**changed), policy())
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "changed",
    [
        SPARSE,
        {"aggregation": "fedadam", "quantization": 8, "top_k": 5},
        {"aggregation": "median", "quantization": 8},
        {**HIDDEN, "quantization": 8, "max_update_norm": 1.0},
        {**HIDDEN, "quantization": 16, "max_update_norm": 1.0, "aggregation": "fedadam"},
        {**HIDDEN, "quantization": 32, "compression": "zstd"},
        {"aggregation": "scaffold", "quantization": 32, "gradient_sparsification": 0.0},
        {"algorithm": "random_forest", "compression": "zstd", "gradient_sparsification": 0.0},
        {"compression": "zstd", "compression_level": 19},
    ],
)
def test_what_a_rule_can_do_without_is_not_refused(changed: dict[str, Any]) -> None:
    check_parts(options(**changed), policy())


def test_hidden_updates_with_shares_of_noise_are_not_rounded() -> None:
    given = options(**HIDDEN, quantization=16, max_update_norm=1.0)
    check_rule(given, private=False)

    with pytest.raises(FederatedError, match="is not possible under a privacy_budget") as caught:
        check_rule(given, private=True)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_compression_is_said_to_save_nothing_of_hidden_updates() -> None:
    assert describe_coding(options(compression="zstd")) == []
    assert describe_coding(options(**HIDDEN)) == []
    (said,) = describe_coding(options(**HIDDEN, compression="zstd"))
    assert said.startswith("compression zstd makes hidden updates no smaller")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules of the site's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_module_named_in_the_settings_registers_its_parts(site: Path) -> None:
    (site / "site_parts.py").write_text(
        "from heliosdb.parts.strategies import STRATEGIES\nSTRATEGIES.register('site_mean', object())\n"
    )
    load_parts(("site_parts",))
    load_parts(("site_parts",))
    check_parts(options(aggregation="site_mean"), policy())


@pytest.mark.parametrize("name", ["", ".relative", "a..b", "a b", "os;", "/etc/x", "a.", "é", "x\n", "1a"])
def test_what_is_no_name_of_a_module_is_not_imported(name: str) -> None:
    with pytest.raises(FederatedError, match="no name of a module"):
        load_parts((name,))


def test_a_module_that_cannot_be_loaded_is_named_with_its_setting(site: Path) -> None:
    (site / "twice.py").write_text(
        "from heliosdb.parts.strategies import STRATEGIES\nSTRATEGIES.register('fedavg', object())\n"
    )
    (site / "lacking.py").write_text("import no_such_library\n")
    for module, why in (("nowhere.parts", "nowhere"), ("lacking", "no_such_library"), ("twice", "fedavg")):
        with pytest.raises(FederatedError, match=f'"{module}" of the setting parts') as caught:
            load_parts((module,))
        assert caught.value.code is ErrorCode.INVALID_VALUE
        assert why in (caught.value.detail or "")
