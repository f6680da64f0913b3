"""What round 0 found survives the catalog; what a run was started under is compared with what holds now."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

from heliosdb.domain.events import Ended
from heliosdb.domain.findings import Findings, PrivacyPlan
from heliosdb.domain.ids import RunId
from tests.support.runs import POLICY, RUN, SCALING, with_options


def test_findings_survive_the_catalog_to_the_bit() -> None:
    plan = PrivacyPlan(1 / 3, training_noise=0.1 + 0.2, sampling_rate=1 / 7, steps=3, expected_subjects=1e-17)
    plan = replace(plan, report_noise=1 / 3, report_reason="why")
    findings = Findings(SCALING, plan, missing=(("age", 1 / 3, 0.1),))

    texts = (json.loads(json.dumps(one)) for one in (findings.scaling_json(), findings.plan_json()))

    assert Findings.from_json(*texts) == findings
    assert Findings.from_json(None, None) == Findings()


def test_which_features_are_boolean_is_known_again_before_and_after_round_zero_closed() -> None:
    for findings in (Findings(booleans=(True, False)), Findings(SCALING, None, (True, False))):
        text = json.loads(json.dumps(findings.scaling_json()))

        assert Findings.from_json(text, None) == findings


def test_whether_classes_are_counted_is_known_again_and_a_run_of_before_asks_for_none() -> None:
    plan = PrivacyPlan(2.0, classes_noise=9.0)
    for findings in (Findings(undeclared_target=True), Findings(SCALING, plan, (True,), True)):
        texts = (json.loads(json.dumps(one)) for one in (findings.scaling_json(), findings.plan_json()))

        assert Findings.from_json(*texts) == findings

    old = Findings.from_json({"booleans": [True]}, {"statistics_noise": 2.0, "refinement_noise": [3.0]})
    assert old == Findings(None, PrivacyPlan(2.0, (3.0,)), (True,))


def test_a_policy_laxer_than_the_workspaces_is_told_apart() -> None:
    strict = replace(POLICY, privacy_budget=4.0)

    assert "no privacy_budget" in (POLICY.laxity(strict) or "")
    assert "larger" in (replace(strict, privacy_budget=4.1).laxity(strict) or "")
    assert "delta" in (replace(strict, delta=1e-4).laxity(strict) or "")
    assert strict.laxity(strict) is None
    assert strict.laxity(POLICY) is None


def test_a_run_of_laxer_compliance_than_the_workspaces_is_told_apart() -> None:
    plain, strict = POLICY, replace(POLICY, compliance_mode="HIPAA")

    assert "started under compliance_mode none, and workspace w is under HIPAA" in (
        plain.laxity(strict) or ""
    )
    assert strict.laxity(strict) is None
    assert strict.laxity(plain) is None
    # Consent and identifiers are asked for by the mode in the task, with a budget as without.
    private = replace(plain, privacy_budget=1.0)
    assert "started under" in (private.laxity(replace(private, compliance_mode="GDPR")) or "")
    both = replace(plain, compliance_mode="BOTH")
    assert both.laxity(strict) is None
    assert "compliance_mode HIPAA, and workspace w is under BOTH" in (strict.laxity(both) or "")


def test_a_run_without_a_seed_has_one_of_its_own() -> None:
    unseeded = with_options(RUN, seed=None)

    drawn = {replace(unseeded, id=RunId(UUID(int=number))).seed for number in (1, 1, 2)}

    assert len(drawn) == 2
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_why_a_run_has_ended_is_known_again() -> None:
    for ended in (Ended("done"), Ended("separation", converged=False)):
        found = Findings(ended=ended)
        assert Findings.from_json(found.scaling_json(), None) == found
