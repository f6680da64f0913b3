"""The table of compliance modes: what it asks for is what statements refuse, and what documents print."""

from __future__ import annotations

from typing import Any

import pytest

from federated_sql import NO_PARTS, FederatedError, OptionKind, check_workspace, defaults
from federated_sql.compliance import (
    GDPR,
    HIPAA,
    RULES,
    Place,
    allows_site_plain_answers,
    broken_rules,
    is_covered,
    mode_lines,
    refuses_phi,
    regulations,
    requires_consent,
    requires_own_residency,
    rules_of,
)
from federated_sql.option_table import OPTIONS

MODES = OPTIONS[OptionKind.WORKSPACE]["compliance_mode"].choices


def test_every_mode_of_the_option_is_in_the_table_and_nothing_else_is() -> None:
    assert [regulations(str(mode)) for mode in MODES] == [(), (HIPAA,), (GDPR,), (HIPAA, GDPR)]
    with pytest.raises(KeyError):
        regulations("SOX")


def test_both_asks_for_what_either_asks_for() -> None:
    asked = {mode: {rule.name for rule in rules_of(str(mode))} for mode in MODES}
    assert asked["none"] == set()
    assert asked["BOTH"] == asked["HIPAA"] | asked["GDPR"] == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("mode", ["HIPAA", "GDPR", "BOTH"])
def test_defaults_keep_to_every_mode(mode: str) -> None:
    check_workspace({"compliance_mode": mode})
    assert broken_rules(mode, defaults(OptionKind.WORKSPACE, NO_PARTS)) == []


BREAKING: dict[str, Any] = {
    "tls_version": "1.2",
    "certificate_validation": False,
    "audit_logging": False,
    "retention_days": 2189,
    "trust_model": "central",
}


def test_each_rule_of_the_workspace_is_refused_under_the_modes_that_have_it_and_no_other() -> None:
    held = [rule for rule in RULES if rule.place is Place.WORKSPACE]
    assert {rule.name for rule in held} == set(BREAKING)
    assert [rule for rule in RULES if (rule.allows is not None) != (rule.place is Place.WORKSPACE)] == []
    for rule in held:
        for mode in map(str, MODES):
            options = {"compliance_mode": mode, "privacy_budget": 1.0, rule.name: BREAKING[rule.name]}
            if rule not in rules_of(mode):
                check_workspace(options)
                continue
            with pytest.raises(FederatedError) as refused:
                check_workspace(options)
            assert refused.value.sqlstate == "22023"
            assert refused.value.message == f"compliance_mode = '{mode}' needs {rule.requirement}"
            assert all(
                rule.references[one] in (refused.value.detail or "")
                for one in rule.references
                if one in regulations(mode)
            )


def test_what_nodes_ask_the_table() -> None:
    asked = [
        [question(str(mode)) for mode in MODES]
        for question in (requires_consent, refuses_phi, requires_own_residency, allows_site_plain_answers)
    ]
    assert asked == [
        [False, False, True, True],
        [False, True, False, True],
        [False, False, True, True],
        [True, False, False, False],
    ]


def test_a_mode_is_covered_by_one_that_asks_for_as_much() -> None:
    covered = {(mode, by) for mode in map(str, MODES) for by in map(str, MODES) if is_covered(mode, by=by)}
    same = {(mode, mode) for mode in map(str, MODES)}
    assert covered == same | {("none", mode) for mode in map(str, MODES)} | {
        ("HIPAA", "BOTH"),
        ("GDPR", "BOTH"),
    }


def test_the_documents_table_has_a_line_for_each_rule() -> None:
    lines = "".join(mode_lines()).splitlines()
    assert len(lines) == 2 + len(RULES)
    assert all(line.count("|") == 7 for line in lines)
