"""Where a node's data lie: what the workspace requires, the registration states, and the node itself says."""

from __future__ import annotations

import pytest

from heliosdb.catalog.nodes import Residency


@pytest.mark.parametrize(
    ("residency", "said", "fault"),
    [
        (Residency(), None, None),
        (Residency(), "US", None),
        (Residency("EU", "DE"), None, None),
        (Residency("EU", "DE", own_word=True), None, "it does not say itself that its data lie in EU"),
        (Residency(None, "DE", own_word=True), None, None),
        (Residency("EU", "DE", own_word=True), "DE", None),
        (Residency("EU", "DE"), "DE-BERLIN", None),
        (Residency("EU", "EU"), "FR", None),
        (Residency("EU", "DE"), "FR", "its own data_residency is FR, and it is registered in DE"),
        (Residency("EU", "DE"), "EU", "its own data_residency is EU, and it is registered in DE"),
        (Residency("EU", "DE"), "US-EAST", "its own data_residency is US-EAST, outside the workspace's EU"),
        (Residency(None, "DE"), "US-EAST", "its own data_residency is US-EAST, and it is registered in DE"),
    ],
)
def test_a_nodes_own_word(residency: Residency, said: str | None, fault: str | None) -> None:
    assert (residency.fault_of(said) or "").startswith(fault or "")
    assert (residency.fault_of(said) is None) is (fault is None)


def test_a_registration_that_lies_outside() -> None:
    assert Residency().fault() is None
    assert Residency("EU", "DE").fault() is None
    assert Residency("EU", None).fault() == "its data_residency is not stated, outside the workspace's EU"
    assert Residency("EU", "US").fault() == "its data_residency is US, outside the workspace's EU"
