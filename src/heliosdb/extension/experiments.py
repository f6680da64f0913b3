"""Statements about experiments: which versions of a model serve which part of the keys.

What always holds: versions are pinned by their numbers when the experiment is made, so that a tag that moves
afterwards, or another current version, changes nothing of it; nothing of it is altered, only dropped.
"""

from __future__ import annotations

import math

from federated_sql.errors import invalid_value
from federated_sql.options import OptionKind, defaults, read_options, require_built
from federated_sql.serving_statements import ArmShare, CreateExperiment, DropExperiment
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import experiments, versions
from heliosdb.extension.models import find_model
from heliosdb.extension.session import Session, duplicate

_TOLERANCE = 1e-9
_LISTED = "SELECT experiment_name FROM federated_experiments; lists them."


def create_experiment(session: Session, command: CreateExperiment) -> None:
    """CREATE FEDERATED EXPERIMENT: two versions at least, each of which predicts a number now."""
    session.require("federated_operator", "create a federated experiment")
    _check_shares(command.arms)
    keep_days = _keep_days(session, command)
    model = find_model(session, command.model)
    arms = [_pin(session, model, arm) for arm in command.arms]
    _check_versions(arms)
    if experiments.insert_experiment(session.connection, model, command.name, arms, keep_days):
        return
    if not command.if_not_exists:
        raise duplicate("experiment", command.name)
    session.notice(f'federated experiment "{command.name}" already exists, skipping')


def drop_experiment(session: Session, command: DropExperiment) -> None:
    """DROP FEDERATED EXPERIMENT: the audit log keeps the sums of each arm, and nothing else stays."""
    session.require("federated_operator", "drop a federated experiment")
    found = experiments.find_experiment(session.connection, command.name)
    if found is None:
        session.skips("experiment", command.name, if_exists=command.if_exists, hint=_LISTED)
        return
    session.own_experiment(command.name, owned=found.owned)
    if not experiments.delete_experiment(session.connection, found):
        session.skips("experiment", command.name, if_exists=command.if_exists, hint=_LISTED)


def _check_shares(arms: tuple[ArmShare, ...]) -> None:
    """Raise 22023 unless there are two arms at least, whose shares are above 0 and add up to 1."""
    if len(arms) < 2:
        raise invalid_value(
            "an experiment compares at least two versions", hint="VERSIONS ('a' => 0.9, 'b' => 0.1)"
        )
    for arm in arms:
        if not 0 < arm.share < 1:
            raise invalid_value(
                f'the share of version "{arm.version}" must be more than 0 and less than 1, not {arm.share}'
            )
    total = math.fsum(arm.share for arm in arms)
    if abs(total - 1) > _TOLERANCE:
        raise invalid_value(
            f"the shares of an experiment add up to 1, not to {total:.12g}",
            detail="They may differ from 1 by 1e-9 at most.",
        )


def _keep_days(session: Session, command: CreateExperiment) -> int:
    given = read_options(OptionKind.EXPERIMENT, command.options, session.built)
    require_built(OptionKind.EXPERIMENT, command.options, given, session.built)
    keep_days = {**defaults(OptionKind.EXPERIMENT, session.built), **given}["keep_days"]
    assert isinstance(keep_days, int)
    return keep_days


def _pin(session: Session, model: catalog.Model, arm: ArmShare) -> experiments.Arm:
    version = versions.version_number(session.connection, model, arm.version)
    experiments.check_arm(session.connection, model, version)
    return experiments.Arm(arm.version, version, float(arm.share))


def _check_versions(arms: list[experiments.Arm]) -> None:
    seen: dict[int, str] = {}
    for arm in arms:
        if arm.version in seen:
            raise invalid_value(
                f'"{seen[arm.version]}" and "{arm.label}" are the same version, {arm.version}',
                hint="Each version has one share.",
            )
        seen[arm.version] = arm.label
