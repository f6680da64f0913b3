"""Findings as OSCAL assessment results, JSON (NIST, OSCAL 1.1.x, assessment-results model).

What always holds: each requirement is one observation and one finding; MANUAL is not satisfied, for the
reason "other"; identifiers follow from the evidence, so that the same evidence is the same document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from heliosdb.catalog.evidence import Evidence, Finding
from heliosdb.cli.reports.evidence_page import evidence_sha256
from heliosdb.cli.reports.page import clean

OSCAL_VERSION = "1.1.3"
NAMESPACE = UUID("5e3c2b0e-6d0f-5c3e-9f52-0a6a0a3f6d51")
"""Of the identifiers that are made of evidence."""
_OURS = "urn:heliosdb:federated-learning"
_METHODS = {"PASS": "EXAMINE", "FAIL": "EXAMINE", "MANUAL": "INTERVIEW"}


def oscal_results(evidence: Evidence) -> Mapping[str, Any]:
    """The document, ready for JSON."""
    digest = evidence_sha256(evidence)
    title = f"{evidence.regulation} compliance check of workspace {clean(evidence.workspace)}"
    findings = [(one, _Ids(digest, one)) for one in evidence.findings]
    made_at = evidence.origin.made_at
    return {
        "assessment-results": {
            "uuid": _uuid(digest, "document"),
            "metadata": {
                "title": title,
                "last-modified": made_at,
                "version": digest[:16],
                "oscal-version": OSCAL_VERSION,
                "props": [_prop("evidence-sha256", digest), _prop("regulation", evidence.regulation)],
            },
            "import-ap": {
                "href": "#" + _uuid(digest, "plan"),
                "remarks": "The requirements are those of federated_compliance_requirements.",
            },
            "results": [
                {
                    "uuid": _uuid(digest, "result"),
                    "title": title,
                    "description": "What federated_compliance_check found with the rights of the role "
                    + clean(evidence.origin.made_by),
                    "start": made_at,
                    "end": made_at,
                    "reviewed-controls": {
                        "control-selections": [
                            {"include-controls": [{"control-id": ids.control} for _, ids in findings]}
                        ]
                    },
                    "observations": [_observation(one, ids, made_at) for one, ids in findings],
                    "findings": [_finding(one, ids) for one, ids in findings],
                }
            ],
            "back-matter": {"resources": [{"uuid": _uuid(digest, "plan"), "title": "Requirements checked"}]},
        }
    }


class _Ids:
    """The identifiers of one requirement's parts. control: a token made of its name."""

    def __init__(self, digest: str, finding: Finding) -> None:
        self.control = "req-" + re.sub(r"[^a-z0-9]+", "-", finding.requirement.lower()).strip("-")
        self.observation = _uuid(digest, "observation", finding.requirement)
        self.finding = _uuid(digest, "finding", finding.requirement)


def _observation(finding: Finding, ids: _Ids, made_at: str) -> Mapping[str, Any]:
    return {
        "uuid": ids.observation,
        "title": clean(finding.requirement),
        "description": clean(finding.details),
        "props": [_prop("status", finding.status)],
        "methods": [_METHODS[finding.status]],
        "relevant-evidence": [{"description": clean(finding.evidence)}],
        "collected": made_at,
    }


def _finding(finding: Finding, ids: _Ids) -> Mapping[str, Any]:
    satisfied = finding.status == "PASS"
    state = "satisfied" if satisfied else "not-satisfied"
    reason = {"PASS": "pass", "FAIL": "fail", "MANUAL": "other"}[finding.status]
    remarks = finding.reference if satisfied else f"{finding.reference}. {finding.remediation}"
    return {
        "uuid": ids.finding,
        "title": clean(finding.requirement),
        "description": clean(finding.details),
        "props": [_prop("reference", finding.reference), _prop("status", finding.status)],
        "target": {
            "type": "objective-id",
            "target-id": ids.control,
            "status": {"state": state, "reason": reason},
        },
        "related-observations": [{"observation-uuid": ids.observation}],
        "remarks": clean(remarks),
    }


def _prop(name: str, value: str) -> Mapping[str, str]:
    return {"name": name, "ns": _OURS, "value": clean(value).strip()}


def _uuid(*parts: str) -> str:
    return str(uuid5(NAMESPACE, "\0".join(parts)))
