"""Which places lie in which."""

from __future__ import annotations

import pytest

from federated_sql import residency_allows


@pytest.mark.parametrize(
    ("workspace", "node"),
    [
        ("EU", "EU"),
        ("EU", "EU-WEST"),
        ("EU", "DE"),
        ("eu", "de-by"),
        ("US", "US-EAST"),
        ("US-EAST", "us-east-1"),
        ("EEA", "NO"),
        ("EEA", "EU-WEST"),
        (" EU ", "FR"),
        ("DE", "DE"),
    ],
)
def test_a_place_allows_itself_and_what_lies_in_it(workspace: str, node: str) -> None:
    assert residency_allows(workspace, node)


@pytest.mark.parametrize(
    ("workspace", "node"),
    [
        ("EU", "US-WEST"),
        ("EU", "GB"),
        ("EU", "CH"),
        ("EU", "NO"),
        ("EU", "EUROPE"),
        ("EU", ""),
        ("", ""),
        ("DE", "EU"),
        ("US-EAST", "US"),
        ("US", "USA"),
        ("US-EAST", "US-EASTERN"),
    ],
)
def test_what_is_not_known_to_lie_inside_lies_outside(workspace: str, node: str) -> None:
    assert not residency_allows(workspace, node)
