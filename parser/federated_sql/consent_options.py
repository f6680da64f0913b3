"""Whether what a dataset's options say of consent fits together.

What always holds: consent is a data subject's, so a dataset that asks for it names its subject; a
consent_query is one query, which stands inside the view that is made of it and cannot leave it.
"""

from __future__ import annotations

from collections.abc import Mapping

from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.lexer import Kind, scan
from federated_sql.option_values import OptionJson

MAX_PURPOSE_BYTES = 256
"""Longest purpose, and longest version of a text that is consented to."""


def check_consent(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where a dataset's options of consent do not fit together, 42601 for no query."""
    query = options.get("consent_query")
    if query is not None and options.get("require_consent") is False:
        raise invalid_value(
            "consent_query and require_consent = false exclude each other",
            hint="Without require_consent rows are read whoever has consented.",
        )
    if (query is not None or options.get("require_consent")) and options.get("subject") is None:
        raise invalid_value(
            f"{'consent_query' if query is not None else 'require_consent'} needs a dataset with a subject",
            detail="Consent is a data subject's, and nothing says whose each row is.",
            hint="Share the table WITH (subject = 'column').",
        )
    purpose = options.get("purpose")
    if purpose is not None:
        _check_purpose(str(purpose))
    if query is not None:
        _check_query(str(query))


def _check_purpose(purpose: str) -> None:
    size = len(purpose.encode())
    if size > MAX_PURPOSE_BYTES:
        raise invalid_value(
            'the value of option "purpose" is too long',
            detail=f"It has {size} bytes; at most {MAX_PURPOSE_BYTES} are allowed.",
        )


def _check_query(query: str) -> None:
    """Parentheses that close more than they open would leave the view; so would a second statement."""
    tokens, depth = scan(query), 0
    if not tokens or tokens[0].word not in {"select", "with", "values", "table"}:
        raise _no_query("It begins with SELECT, WITH, VALUES or TABLE.")
    for token in tokens:
        if token.kind is not Kind.SYMBOL:
            continue
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0 or token.text == ";":
            raise _no_query("It has no semicolon, and closes no parenthesis that it has not opened.")
    if depth:
        raise _no_query("It closes every parenthesis that it opens.")


def _no_query(detail: str) -> FederatedError:
    return FederatedError(
        ErrorCode.SYNTAX,
        "the consent_query is not one query",
        detail=detail,
        hint="For instance: consent_query = 'SELECT person FROM consent WHERE withdrawn_at IS NULL'.",
    )
