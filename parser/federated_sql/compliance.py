"""What each compliance mode asks for, in one table: checks, documents and reports are made from it.

What always holds: a mode is the regulations that it names and nothing besides, so that BOTH asks for what
HIPAA and the GDPR ask for together; a rule is held by the place that it names, whoever else says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.option_values import OptionJson

HIPAA, GDPR = "HIPAA", "GDPR"
_REGULATIONS = {"none": (), HIPAA: (HIPAA,), GDPR: (GDPR,), "BOTH": (HIPAA, GDPR)}

FEWEST_RETENTION_DAYS = 2_190
"""Six years (45 CFR 164.316(b)(2)(i)), of 365 days each."""

NEEDS_RETENTION = f"retention_days of at least {FEWEST_RETENTION_DAYS}"


class Place(Enum):
    """Where a rule is held; the value of each member is how documents call it."""

    WORKSPACE = "CREATE and ALTER FEDERATED WORKSPACE"
    CONNECT = "registration, and each connection to a node"
    NODE = "each task, at the node"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one or both regulations.

    references: of each regulation that asks for it the article or paragraph. requirement: completes "needs …"
    and, for people, says what is held. reason: why the text supports it. allows: of rules held at the
    workspace, whether its options, defaults filled in, keep to it.
    """

    name: str
    place: Place
    references: Mapping[str, str]
    requirement: str
    reason: str
    allows: Callable[[Mapping[str, OptionJson]], bool] | None = None


def _at_least_six_years(options: Mapping[str, OptionJson]) -> bool:
    days = options.get("retention_days")
    return isinstance(days, int) and days >= FEWEST_RETENTION_DAYS


RULES: tuple[Rule, ...] = (
    Rule(
        "tls_version",
        Place.WORKSPACE,
        {HIPAA: "45 CFR 164.312(e)(1)", GDPR: "Art. 32(1)(a)"},
        "tls_version = '1.3'",
        "what travels is guarded by what is not known to be weak",
        lambda options: options.get("tls_version") == "1.3",
    ),
    Rule(
        "certificate_validation",
        Place.WORKSPACE,
        {HIPAA: "45 CFR 164.312(d)", GDPR: "Art. 32(1)(b)"},
        "certificate_validation = true",
        "coordinator and nodes are who they say",
        lambda options: options.get("certificate_validation") is True,
    ),
    Rule(
        "audit_logging",
        Place.WORKSPACE,
        {HIPAA: "45 CFR 164.312(b)", GDPR: "Art. 5(2)"},
        "audit_logging = true",
        "what was done can be examined, and shown",
        lambda options: options.get("audit_logging") is True,
    ),
    Rule(
        "retention_days",
        Place.WORKSPACE,
        {HIPAA: "45 CFR 164.316(b)(2)(i)"},
        NEEDS_RETENTION,
        "documentation is kept for six years",
        _at_least_six_years,
    ),
    Rule(
        "trust_model",
        Place.WORKSPACE,
        {HIPAA: "45 CFR 164.514(b)", GDPR: "Art. 25(1)"},
        "another trust_model than 'central'",
        "what leaves a node is protected when it leaves, whoever receives it",
        lambda options: options.get("trust_model") != "central",
    ),
    Rule(
        "data_residency",
        Place.CONNECT,
        {GDPR: "Art. 44"},
        "where the workspace has a data_residency, the node's own word (data_residency in node.toml) that its"
        " data lie within; in any mode a node whose own word or registration lies outside is not asked",
        "a registration is the coordinator's word; whether data leave a place, the participant knows",
    ),
    Rule(
        "plain_answers",
        Place.NODE,
        {HIPAA: "45 CFR 164.514(b)", GDPR: "Art. 25(1)"},
        "a privacy_budget, or plain_answers = true that the DBA set for the dataset itself; the site's"
        " setting does not count",
        "what leaves is de-identified by default; what is not, somebody has decided for these very rows",
    ),
    Rule(
        "phi_check",
        Place.NODE,
        {HIPAA: "45 CFR 164.514(b)(2)"},
        "no column that looks like one of the identifiers, unless the dataset's phi_accepted names it:"
        " phi_check is 'refuse' unless the DBA sets another value",
        "of data without the eighteen identifiers a person is not known by what leaves",
    ),
    Rule(
        "require_consent",
        Place.NODE,
        {GDPR: "Art. 6(1)(a), 7, 9(2)(a)"},
        "consent of each data subject: require_consent is true unless the DBA sets it to false",
        "where processing rests on another basis, the participant says so, who knows it",
    ),
)
"""Every rule, in the order in which a statement names the first that is not kept."""


def regulations(mode: str) -> tuple[str, ...]:
    """Return the regulations of a compliance mode, none for "none"; KeyError for what is no mode."""
    return _REGULATIONS[mode]


def rules_of(mode: str) -> Iterator[Rule]:
    """Yield the rules of a mode, in their order."""
    asked = set(regulations(mode))
    return (rule for rule in RULES if asked & set(rule.references))


def reference_of(rule: Rule, mode: str) -> str:
    """Say where a rule stands, for the regulations of a mode."""
    return "; ".join(rule.references[one] for one in regulations(mode) if one in rule.references)


def is_covered(mode: str, by: str) -> bool:
    """Whether all that `mode` asks for is asked for by another mode too."""
    return set(regulations(mode)) <= set(regulations(by))


def requires_consent(mode: str) -> bool:
    """Whether nodes read consenting subjects only, where a dataset's DBA has not said."""
    return _has(mode, "require_consent")


def refuses_phi(mode: str) -> bool:
    """Whether nodes refuse columns that look like identifiers, where a dataset's DBA has not said."""
    return _has(mode, "phi_check")


def requires_own_residency(mode: str) -> bool:
    """Whether a node of a workspace with a data_residency has to say itself where its data lie."""
    return _has(mode, "data_residency")


def allows_site_plain_answers(mode: str) -> bool:
    """Whether a site's general setting lets answers leave without noise."""
    return not _has(mode, "plain_answers")


def allows_central_noise(mode: str) -> bool:
    """Whether a site's setting lets answers leave whose noise the coordinator is to add."""
    return not _has(mode, "trust_model")


def _has(mode: str, name: str) -> bool:
    return any(rule.name == name for rule in rules_of(mode))


def broken_rules(mode: str, options: Mapping[str, OptionJson]) -> list[Rule]:
    """Return the rules of a mode that a workspace's options, defaults filled in, do not keep to."""
    return [rule for rule in rules_of(mode) if rule.allows is not None and not rule.allows(options)]


def check_mode(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 for the first rule of a workspace's own mode that its options do not keep to."""
    mode = str(options.get("compliance_mode") or "none")
    for rule in broken_rules(mode, options):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f"compliance_mode = '{mode}' needs {rule.requirement}",
            detail=f"{reference_of(rule, mode)}: {rule.reason}.",
        )


def mode_lines() -> Iterator[str]:
    """Yield the table as Markdown, for documents."""
    yield "| rule | HIPAA | GDPR | what is held | held at | why |\n|---|---|---|---|---|---|\n"
    for rule in RULES:
        cells = (
            f"`{rule.name}`",
            *(rule.references.get(one, "no rule") for one in (HIPAA, GDPR)),
            rule.requirement,
            rule.place.value,
            rule.reason,
        )
        yield f"| {' | '.join(cells)} |\n"
