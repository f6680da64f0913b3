"""Evidence and a model card with hostile names in every place that comes from outside."""

from __future__ import annotations

from typing import Any

from heliosdb.catalog.evidence import Evidence, Finding, Origin, Table

HOSTILE = "<script>alert(1)</script>\"'&|`[x](javascript:y)\n=1+1 \u202eevil ε"
FORMULA = '=HYPERLINK("https://example.com","x")'

EVIDENCE = Evidence(
    workspace=HOSTILE,
    regulation="HIPAA",
    origin=Origin("2026-11-30T12:00:00Z", "an_auditor", "catalog", "15.8", "1.2"),
    findings=(
        Finding("Access control", "PASS", "fine", "0 of 3", "45 CFR 164.312(a)(1)", "REVOKE"),
        Finding("Risk analysis", "MANUAL", HOSTILE, FORMULA, "45 CFR 164.308(a)(1)(ii)(A)", "Make one."),
        Finding("Authentication of users", "FAIL", "trust", "line 3", "45 CFR 164.312(d)", "Write scram."),
    ),
    tables=(
        Table("nodes", "Nodes", ("node", "contact", "plain_answers"), ((HOSTILE, None, True), ("b", "c", False))),
        Table("runs", "Runs", ("model",), ()),
    ),
    record={
        "participants": [{"node": HOSTILE, "contact": None, "data_residency": "DE", "status": "active", "registered_at": "x"}],
        "purposes": [{"model": "m", "intended_use": HOSTILE, "owner": "o", "owner_contact": None, "algorithm": None,
                      "target": "t", "features": ["a", "b"], "runs": 2}],
        "categories_of_data": [{"node": "n", "dataset": "d", "columns": [{"column": "age", "type": "integer"}],
                                "plain_answers": False}],
        "categories_of_data_subjects": None,
        "recipients": {"roles": [{"role": "r", "member_of": "federated_admin"}], "superusers": ["postgres"],
                       "models_granted": []},
        "transfers": {"data_residency": None},
        "retention": {"retention_days": None, "legal_hold": None, "oldest_audit_entry": None},
        "security_measures": {"tls_version": "1.3", "privacy_budget": None},
    },
)  # fmt: skip

CARD: dict[str, Any] = {
    "model": HOSTILE, "workspace": "w", "made_at": "2026-11-30T12:00:00Z", "created_at": "x", "owner": "o",
    "owner_contact": None, "intended_use": HOSTILE, "algorithm": "logistic_regression", "target": "t", "features": ["a"],
    "versions": 1,
    "version": {
        "version": 1, "is_current": True, "created_at": "x", "tags": ["prod"], "parameters_sha256": "ab", "run_id": "r",
        "round_number": 3,
        "data": {"features": ["a"], "target": "t", "dataset": None,
                 "sites": [{"node": "n", "data_residency": None, "rounds": 3, "rows": 12.5}]},
        "training": {"algorithm": "logistic_regression", "aggregation": "fedavg", "options": {"rounds": 3}},
        "privacy": {"epsilon": None, "delta": None},
        "metrics": {"loss": 0.25, "accuracy": None},
    },
}  # fmt: skip
