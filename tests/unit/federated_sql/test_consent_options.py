"""What a dataset's options say of consent has to fit together, and a consent_query is one query."""

from __future__ import annotations

import pytest

from federated_sql.consent_options import MAX_PURPOSE_BYTES, check_consent
from federated_sql.errors import FederatedError


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"require_consent": False},
        {"purpose": "research"},
        {"subject": "person", "require_consent": True, "purpose": "p" * MAX_PURPOSE_BYTES},
        {"subject": "person", "consent_query": "SELECT who FROM agreed WHERE note <> ');' -- signed; )"},
        {"subject": "person", "consent_query": "WITH a AS (SELECT 1) TABLE a", "require_consent": True},
        {"subject": "person", "consent_query": "VALUES ('a'), ($$b;)$$)"},
    ],
)
def test_what_fits_together_passes(options: dict[str, object]) -> None:
    check_consent(options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sqlstate"),
    [
        ({"require_consent": True}, "22023"),
        ({"consent_query": "SELECT 1"}, "22023"),
        ({"subject": "s", "consent_query": "SELECT 1", "require_consent": False}, "22023"),
        ({"purpose": "é" * MAX_PURPOSE_BYTES}, "22023"),
        ({"subject": "s", "consent_query": "-- nothing"}, "42601"),
        ({"subject": "s", "consent_query": "SELECT 1;"}, "42601"),
        ({"subject": "s", "consent_query": "SELECT 1) AS c, (SELECT 2"}, "42601"),
        ({"subject": "s", "consent_query": "SELECT (1"}, "42601"),
        ({"subject": "s", "consent_query": "SELECT 'unfinished"}, "42601"),
        ({"subject": "s", "consent_query": "UPDATE t SET a = 1 RETURNING a"}, "42601"),
    ],
)
def test_what_does_not_is_refused(options: dict[str, object], sqlstate: str) -> None:
    with pytest.raises(FederatedError) as caught:
        check_consent(options)  # type: ignore[arg-type]
    assert caught.value.sqlstate == sqlstate
