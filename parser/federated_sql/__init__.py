"""The language of federated learning: what a user types, as frozen dataclasses, and back to text.

What always holds: nothing here does I/O, and nothing here raises but `FederatedError`.
"""

from federated_sql.clause_values import Option
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.grammar import parse
from federated_sql.options import (
    NO_PARTS,
    Built,
    OptionKind,
    OptionSpec,
    check_model,
    check_workspace,
    defaults,
    validate,
)
from federated_sql.render import quote_name, quote_string, render
from federated_sql.residency import residency_allows
from federated_sql.rewrite import Rewrite, may_concern, rewrite
from federated_sql.statements import (
    Command,
    command_tag,
)

__all__ = [
    "NO_PARTS",
    "Built",
    "Command",
    "ErrorCode",
    "FederatedError",
    "Option",
    "OptionKind",
    "OptionSpec",
    "Rewrite",
    "check_model",
    "check_workspace",
    "command_tag",
    "defaults",
    "may_concern",
    "parse",
    "quote_name",
    "quote_string",
    "render",
    "residency_allows",
    "rewrite",
    "validate",
]
