"""Statements about aggregation functions: how people combine updates in a language of their own.

What always holds: a function is made and dropped with the caller's own rights, so that PostgreSQL's rules
about languages and owners are the rules here; a model names only a function that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.statements import CreateAggregationFunction, DropAggregationFunction
from heliosdb.catalog import aggregation_functions as catalog
from heliosdb.extension.session import Session, duplicate, undefined
from heliosdb.parts.strategies import STRATEGIES

_KIND = "aggregation function"

_PACKAGES = {
    "plpython3u": "postgresql-plpython3-{}",
    "plperl": "postgresql-plperl-{}",
    "plperlu": "postgresql-plperl-{}",
    "pltcl": "postgresql-pltcl-{}",
    "pltclu": "postgresql-pltcl-{}",
    "plr": "postgresql-{}-plr",
    "pllua": "postgresql-{}-pllua",
    "plv8": "postgresql-{}-plv8",
    "plrust": "plrust-trusted, from the releases of plrust for PostgreSQL {}",
}
"""Languages and the packages that bring them, by the server's major version."""


def create_aggregation_function(session: Session, command: CreateAggregationFunction) -> None:
    """CREATE [OR REPLACE] FEDERATED AGGREGATION FUNCTION: makes it in federated_aggregation."""
    session.require("federated_admin", "create a federated aggregation function")
    _check_name(command.name)
    language = command.language.lower()
    _check_language(session, language)
    if not command.or_replace and catalog.has_aggregation_function(session.connection, command.name):
        raise duplicate(_KIND, command.name)
    catalog.create_aggregation_function(
        session.connection, command.name, command.body, language, replace=command.or_replace
    )


def drop_aggregation_function(session: Session, command: DropAggregationFunction) -> None:
    """DROP FEDERATED AGGREGATION FUNCTION: not while a model names it, or a run under way."""
    session.require("federated_admin", "drop a federated aggregation function")
    if not catalog.has_aggregation_function(session.connection, command.name):
        session.skips(_KIND, command.name, if_exists=command.if_exists)
        return
    models = catalog.list_models_with_aggregation(session.connection, command.name)
    if models:
        raise FederatedError(
            ErrorCode.DEPENDENTS,
            f'cannot drop federated aggregation function "{command.name}" because models use it',
            detail=f"Models: {', '.join(models)}.",
            hint=f"ALTER FEDERATED MODEL {models[0]} SET (aggregation = ...) first.",
        )
    catalog.drop_aggregation_function(session.connection, command.name)


def check_aggregation(session: Session, options: Mapping[str, Any]) -> None:
    """Raise 42704 where a model would be combined by an aggregation function that there is not."""
    name = str(options.get("aggregation") or "fedavg")
    if STRATEGIES.is_custom(name) and not catalog.has_aggregation_function(session.connection, name):
        raise undefined(_KIND, name, hint=f"CREATE FEDERATED AGGREGATION FUNCTION {name}() ... makes it.")


def _check_name(name: str) -> None:
    if name != name.lower() or not STRATEGIES.is_custom(name):
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            f'an aggregation function cannot be named "{name}"',
            detail="Its name is one word in lower case, and neither a built-in strategy's nor nearly so.",
            hint="A model names it as aggregation = 'name'.",
        )


def _check_language(session: Session, language: str) -> None:
    """Raise 42704, saying what brings it, for a language that is not in this database."""
    found = catalog.find_language(session.connection, language)
    if found.is_installed:
        return
    package = _PACKAGES.get(language)
    if found.is_available:
        hint = f"CREATE EXTENSION {language} installs it in this database."
    elif package is not None:
        hint = f"Install the package {package.format(found.server)}, then CREATE EXTENSION {language}."
    else:
        hint = "SELECT lanname FROM pg_language lists the languages of this database."
    raise FederatedError(ErrorCode.UNDEFINED_OBJECT, f'language "{language}" is not installed', hint=hint)
