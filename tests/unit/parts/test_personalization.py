"""Of which runs a part may stay at the nodes, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.personal import Personal, PersonalTerms, check_personal, local_layers, personal_of
from tests.unit.parts.test_part_checks import OPTIONS

TERMS = PersonalTerms(private=False, is_asynchronous=False, compliance_mode="none")
NETWORK = {"algorithm": "neural_network", "layers": [8, 1]}
TUNED = {"personalization": "fine_tune"}
HIDDEN = {"secure_aggregation": True, "aggregation_protocol": "shamir"}


def refused(terms: PersonalTerms = TERMS, **options: Any) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        check_personal(parse_options({**OPTIONS, **options}), terms)
    return caught.value


@pytest.mark.parametrize(
    ("options", "personal"),
    [
        ({}, None),
        ({"personalization": "none"}, None),
        (TUNED, Personal("fine_tune", epochs=5)),
        ({**TUNED, "personal_epochs": 2}, Personal("fine_tune", epochs=2)),
        ({**NETWORK, "personalization": "local_head"}, Personal("local_head", layers=1)),
        ({"personalization": "ditto"}, Personal("ditto", term=0.1)),
        ({"personalization": "ditto", "personal_term": 0}, Personal("ditto", term=0.0)),
    ],
)
def test_each_way_reads_its_own_option_or_its_default(
    options: dict[str, Any], personal: Personal | None
) -> None:
    given = parse_options({**OPTIONS, **options})
    assert personal_of(given) == personal
    check_personal(given, TERMS)
    assert local_layers(given) == (1 if personal is not None and personal.way == "local_head" else None)


def test_who_keeps_the_last_layers_is_told_what_the_version_lacks() -> None:
    (said,) = check_personal(parse_options({**OPTIONS, **NETWORK, "personalization": "local_head"}), TERMS)
    assert "the last layer stays at each node" in said


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ({"personal_epochs": 3}, ErrorCode.INVALID_VALUE, "personal_epochs has no effect without"),
        ({**TUNED, "local_layers": 1}, ErrorCode.INVALID_VALUE, "local_layers has no effect without"),
        ({**TUNED, "personal_term": 1.0}, ErrorCode.INVALID_VALUE, "personal_term has no effect without"),
        ({**TUNED, "optimizer": "newton"}, ErrorCode.INVALID_VALUE, "no effect with optimizer newton"),
        ({"personalization": "local_head"}, ErrorCode.NOT_SUPPORTED, "with linear_regression"),
        ({**TUNED, "algorithm": "random_forest"}, ErrorCode.NOT_SUPPORTED, "with random_forest"),
        ({**TUNED, "algorithm": "cox_regression"}, ErrorCode.NOT_SUPPORTED, "with cox_regression"),
        (
            {**NETWORK, "personalization": "local_head", "local_layers": 2},
            ErrorCode.INVALID_VALUE,
            "local_layers is 2, and the network has 2 layers",
        ),
        (
            {**NETWORK, "personalization": "local_head", "freeze_layers": 1},
            ErrorCode.NOT_SUPPORTED,
            "with freeze_layers yet",
        ),
        ({**TUNED, **HIDDEN}, ErrorCode.NOT_SUPPORTED, "with secure_aggregation yet"),
        ({**TUNED, "voting_groups": 3}, ErrorCode.NOT_SUPPORTED, "with voting_groups yet"),
        ({**TUNED, "prediction": "sealed"}, ErrorCode.NOT_SUPPORTED, "with prediction = 'sealed' yet"),
        ({**TUNED, "search": {"rounds": [1, 2]}}, ErrorCode.NOT_SUPPORTED, "with search yet"),
        ({"search": {"personalization": ["ditto"]}}, ErrorCode.NOT_SUPPORTED, "with search yet"),
        (
            {"personalization": "ditto", "aggregation": "scaffold"},
            ErrorCode.NOT_SUPPORTED,
            "with aggregation scaffold yet",
        ),
        (
            {"personalization": "ditto", "adaptive_learning": True},
            ErrorCode.NOT_SUPPORTED,
            "with adaptive_learning yet",
        ),
    ],
)
def test_a_part_that_would_be_none_or_is_not_built_is_refused(
    options: dict[str, Any], code: ErrorCode, told: str
) -> None:
    error = refused(**options)
    assert error.code is code
    assert told in error.message


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (PersonalTerms(True, False, "none"), "under a privacy_budget yet"),
        (PersonalTerms(False, True, "none"), "with async_aggregation yet"),
        (PersonalTerms(False, False, "HIPAA"), "with prediction = 'sealed' yet"),
    ],
)
def test_a_workspace_may_have_terms_under_which_it_is_not_built(terms: PersonalTerms, told: str) -> None:
    error = refused(terms, **TUNED)
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert told in error.message


def test_the_algorithms_that_are_fine_tuned_are_those_that_a_refusal_names() -> None:
    able = {
        one.name for one in ALGORITHMS.entries() if "fine_tune" in getattr(one.settings, "personalizes", ())
    }
    hint = refused(**TUNED, algorithm="random_forest").hint
    assert hint is not None
    assert all(name in hint for name in able)
