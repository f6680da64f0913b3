"""What START refuses of a regression: what its optimizer or a budget leaves no place for.

What always holds: nothing is asked of a node; the coordinator refuses the same when it takes the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from federated_sql.clause_values import Option
from federated_sql.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.settings import option_names
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, DescentSettings, by_newton, check_private, last_round

_NOT_OF_NEWTON = (*option_names(DescentSettings), "max_update_norm")


def check_regression(options: TrainingOptions, given: Iterable[Option], *, private: bool) -> None:
    """Raise 22023 for options that do not go together, 0A000 for what there is no private form of.

    given: the options of which none may be without effect under the run's optimizer.
    """
    options.settings(ALGORITHMS.entry(options.algorithm).settings)
    if private:
        _check_private(options)
    _check_event(options)
    _check_roles(options)
    _check_penalty(options)
    if not by_newton(options.algorithm, options.given):
        return
    for option in given:
        if option.name in _NOT_OF_NEWTON:
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f'option "{option.name}" has no effect under optimizer newton',
                hint="Leave it out, or train with optimizer = 'sgd'.",
                position=option.position or None,
            )


def describe_rounds(options: TrainingOptions) -> list[str]:
    """Return what START says of a private run that was given more rounds than it will take."""
    last = last_round(options, private=True)
    if last == options.rounds or not by_newton(options.algorithm, options.given):
        return []
    return [
        f"under a privacy_budget optimizer newton takes {counted(last, 'round')} of"
        f" {options.algorithm} at most,"
        f" not {options.rounds}: each has its part of the budget"
    ]


def _check_private(options: TrainingOptions) -> None:
    hint = "Train in a workspace without a privacy_budget."
    check_private(options.algorithm, options.given)
    read = option_names(ALGORITHMS.entry(options.algorithm).settings)
    for name in ("penalty", "weights", "offset"):
        if name in read and options.given.get(name):
            raise not_supported(f"the option {name} is not supported under a privacy_budget yet", hint=hint)


def _check_penalty(options: TrainingOptions) -> None:
    if options.given.get("l1_ratio") and not options.given.get("penalty"):
        raise invalid_value(
            'option "l1_ratio" has no effect without a penalty',
            hint="It says which part of the penalty is of absolute values: add penalty = 0.01, say.",
        )


def _check_event(options: TrainingOptions) -> None:
    if "event" not in option_names(ALGORITHMS.entry(options.algorithm).settings):
        return
    if not by_newton(options.algorithm, options.given):
        raise invalid_value(
            f"{options.algorithm} is not trained by optimizer {options.given.get('optimizer')}",
            detail="A partial likelihood is no sum over rows, of which a batch could be taken.",
            hint="Train with optimizer = 'newton'.",
        )
    if "event" not in dict(options.roles):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"{options.algorithm} needs the option event",
            hint="It names the column that says whether a time ended with the event: event = 'died'.",
        )


def _check_roles(options: TrainingOptions) -> None:
    taken = dict.fromkeys(options.features, "the features") | {options.target: "the target"}
    for role, column in options.roles:
        if column in taken:
            raise invalid_value(f'the column "{column}" of option {role} is among {taken[column]} already')
        taken[column] = f"option {role}"
        if role != "event" and not by_newton(options.algorithm, options.given):
            raise not_supported(
                f"the option {role} is not supported by optimizer sgd yet",
                hint="Train with optimizer = 'newton'.",
            )
