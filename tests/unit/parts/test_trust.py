"""Which runs share the noise of their sums, and what is refused because it would have no effect or no form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Trust
from heliosdb.domain.run import Run, TrainingOptions
from heliosdb.parts.trust import TrustTerms, check_trust
from tests.support.runs import RUN, with_options, with_policy

TERMS = TrustTerms(None, private=True)


def secure(**given: object) -> TrainingOptions:
    known = {"secure_aggregation": True, "aggregation_protocol": "shamir", "local_epochs": 1}
    options = RUN.options
    return replace(options, given={**options.given, **known, **given})


def run_of(trust_model: Trust | None, *, budget: float | None = 1.0, is_secure: bool = True) -> Run:
    run = with_policy(RUN, privacy_budget=budget, trust_model=trust_model)
    return replace(run, options=secure()) if is_secure else run


def test_who_adds_the_noise() -> None:
    assert run_of(None).trust == run_of("distributed").trust == "distributed"
    assert run_of("central").trust == "central"
    assert run_of("local").trust == "local"
    assert run_of(None, budget=None).trust == "local"
    assert run_of(None, is_secure=False).trust == "local"
    assert [run_of(one).noises_sums for one in ("local", None, "central")] == [False, True, True]


def test_a_run_that_shares_noise_does_not_go_on_under_a_workspace_in_which_each_adds_the_whole() -> None:
    shared, local = run_of(None), run_of("local")
    assert shared.laxity(local.policy) == (
        f"the run has its nodes share the noise, and workspace {RUN.policy.workspace} is under trust_model local"
    )
    assert local.laxity(shared.policy) is None
    assert shared.laxity(shared.policy) is None
    central = run_of("central")
    assert shared.laxity(central.policy) is None
    for policy, name in ((shared.policy, "distributed"), (local.policy, "local")):
        assert central.laxity(policy) == (
            f"the run has the coordinator add the noise, and workspace {RUN.policy.workspace} is under"
            f" trust_model {name}"
        )


@pytest.mark.parametrize("trust_model", [None, "distributed", "central"])
@pytest.mark.parametrize(
    ("terms", "given", "named", "code", "match"),
    [
        ({"noise": "laplacian"}, {}, (), ErrorCode.NOT_SUPPORTED, "do not add up to such noise"),
        ({"overlap": True}, {}, (), ErrorCode.NOT_SUPPORTED, "subjects_overlap is"),
        ({}, {"local_epochs": 3}, (), ErrorCode.INVALID_VALUE, "local_epochs has no effect"),
        ({}, {"local_epochs": 1}, ("local_epochs",), ErrorCode.INVALID_VALUE, "local_epochs has no effect"),
        ({}, {"optimizer": "adam"}, (), ErrorCode.INVALID_VALUE, "optimizer adam has no effect"),
    ],
)
def test_what_noise_that_is_shared_has_no_form_of(
    terms: dict[str, object],
    given: dict[str, object],
    named: tuple[str, ...],
    code: ErrorCode,
    match: str,
    trust_model: Trust | None,
) -> None:
    asked = replace(TERMS, trust_model=trust_model, **terms)
    with pytest.raises(FederatedError, match=match) as caught:
        check_trust(secure(**given), asked, named)
    assert caught.value.code is code
    assert "trust_model = 'local'" in (caught.value.hint or "")
    check_trust(secure(**given), replace(asked, trust_model="local"), named)
    check_trust(secure(**given), replace(asked, private=False, trust_model=None), named)


@pytest.mark.parametrize(
    ("algorithm", "aggregation", "match"),
    [
        ("neural_network", "fedprox", "aggregation fedprox has no effect"),
        ("logistic_regression", "fedprox", "aggregation fedprox has no effect"),
    ],
)
def test_algorithms_and_rules_without_a_gradient_a_round(
    algorithm: str, aggregation: str, match: str
) -> None:
    options = replace(secure(), algorithm=algorithm, aggregation=aggregation)
    with pytest.raises(FederatedError, match=match):
        check_trust(options, TERMS)


def test_sums_and_servers_optimizers_pass() -> None:
    check_trust(secure(optimizer="newton"), TERMS)
    check_trust(replace(secure(), aggregation="fedopt"), TERMS)
    check_trust(with_options(RUN).options, replace(TERMS, trust_model=None))


@pytest.mark.parametrize("trust_model", ["distributed", "central"])
def test_less_than_the_whole_is_no_protection_where_single_answers_are_seen(trust_model: Trust) -> None:
    with pytest.raises(FederatedError, match=f"'{trust_model}' needs secure_aggregation") as caught:
        check_trust(with_options(RUN).options, replace(TERMS, trust_model=trust_model))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "secure_aggregation = true" in (caught.value.hint or "")
