"""Where adaptive_clipping has no effect it is refused: at START, and by the coordinator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federated_sql import OptionKind, defaults
from federated_sql.options import check_workspace
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.parts.built import built_parts
from heliosdb.parts.clipping import check_adaptive_clipping
from tests.unit.extension.accepting_server import MODEL, MODEL_OPTIONS, refused, server


def options(**given: Any) -> Any:
    return parse_options(
        {
            **defaults(OptionKind.MODEL, built_parts()),
            "algorithm": "logistic_regression",
            "features": ["a"],
            "target": "t",
            "rounds": 5,
            **given,
        }
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"algorithm": "random_forest"}, "adaptive_clipping has no effect on random_forest"),
        ({"optimizer": "newton"}, "adaptive_clipping has no effect on optimizer newton"),
        ({"rounds": 1}, "adaptive_clipping has no effect on a run of one round"),
    ],
)
def test_it_is_refused_where_nothing_is_clipped_to_a_norm_that_could_follow(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(FederatedError, match=told) as caught:
        check_adaptive_clipping(options(**given), "gaussian")
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_descent_of_several_rounds_may_follow() -> None:
    check_adaptive_clipping(options(), "gaussian")
    check_adaptive_clipping(options(algorithm="neural_network"), "gaussian")


def test_a_workspace_without_a_budget_has_nothing_to_follow() -> None:
    with pytest.raises(
        FederatedError, match="adaptive_clipping has no effect without a privacy_budget"
    ) as caught:
        check_workspace({"adaptive_clipping": True})
    assert caught.value.code is ErrorCode.INVALID_VALUE
    check_workspace({"adaptive_clipping": False})
    check_workspace({"adaptive_clipping": True, "privacy_budget": 1.0})


def test_start_refuses_it() -> None:
    policy = json.dumps({"privacy_budget": 1.0, "adaptive_clipping": True})
    model = {**MODEL, "options": json.dumps({**MODEL_OPTIONS, "rounds": 1}), "policy": policy}
    error = refused(server(lock_model=[model]), "START FEDERATED TRAINING m")
    assert error["sqlstate"] == "22023"
    assert error["message"] == "adaptive_clipping has no effect on a run of one round"


def test_norms_in_l1_are_not_followed() -> None:
    with pytest.raises(FederatedError, match="not supported under noise_mechanism laplacian") as raised:
        check_adaptive_clipping(options(), "laplacian")

    assert raised.value.code is ErrorCode.NOT_SUPPORTED
