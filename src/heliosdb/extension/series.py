"""The runs that one START queues for folds, a search or groups that vote, one after another.

What always holds: the order of the runs is that of trial and fold, and all of them are queued in START's own
transaction; a trial's options are the model's and START's with what it tries in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federated_sql.errors import invalid_value
from federated_sql.search_option import MOST_RUNS, check_folds, list_trials
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.commands import NewRun
from heliosdb.domain.groups import Groups
from heliosdb.domain.wording import counted
from heliosdb.extension.voting import plan_voters


def trials_of(chosen: catalog.Options) -> list[dict[str, Any]]:
    """Return what each trial sets beside the chosen options; one trial that sets nothing without a search."""
    return list_trials(chosen["search"]) if chosen.get("search") else [{}]


def plan_runs(
    chosen: catalog.Options, overrides: catalog.Options, groups: Groups = (), *, measures: bool = False
) -> list[NewRun]:
    """Return the runs that START queues, in their order; 22023 for too many.

    chosen: the model's options and START's. groups: those that vote; measures: whether the vote is
    measured at all nodes. Of a search with folds the last run
    trains the best trial anew.
    """
    if groups:
        return plan_voters(groups, overrides, measures=measures)
    folds, search = chosen.get("folds"), chosen.get("search")
    if folds is None and not search:
        return [NewRun(overrides)]
    trials = trials_of(chosen)
    runs = [
        NewRun({**overrides, **tried}, trial, fold)
        for trial, tried in enumerate(trials, 1)
        for fold in (range(folds) if folds is not None else (None,))
    ]
    if len(runs) > MOST_RUNS:
        raise invalid_value(
            f"{counted(len(trials), 'trial')} of {counted(folds or 1, 'fold')} are {len(runs)} runs,"
            f" more than {MOST_RUNS}",
            hint="Try fewer values at a time, or fewer folds.",
        )
    return [*runs, NewRun(overrides)] if search and folds is not None else runs


def check_series(overrides: catalog.Options, chosen: catalog.Options) -> None:
    """Raise 22023 where START itself names validation_split or promote and folds are asked for, and for what
    would be compared or ended by figures that nothing is held out for."""
    split = overrides.get("validation_split")
    check_folds({"folds": chosen.get("folds"), **({} if split is None else {"validation_split": split})})
    if "promote" in overrides and chosen.get("folds") is not None and not chosen.get("search"):
        raise invalid_value(
            "promote has no effect where folds leave no version",
            hint="Leave it out, or search: the best trial is then trained on all rows and published.",
        )
    if chosen.get("checkpoint_every") is not None and (
        chosen.get("folds") is not None or chosen.get("search") or chosen.get("voting_groups")
    ):
        raise invalid_value(
            "checkpoint_every has no effect on the runs of a series, which do not go on singly",
            hint="Leave it out.",
        )
    if chosen.get("folds") is not None or chosen.get("validation_split") != 0:
        return
    for name in ("search", "target_accuracy"):
        if chosen.get(name):
            raise invalid_value(
                f"{name} has no effect where validation_split is 0",
                hint="No subject is held out, so no loss and no accuracy is measured. Hold some out.",
            )


def describe_runs(runs: list[NewRun], policy: Mapping[str, Any]) -> list[str]:
    """Say how many runs there are, and what they cost under a budget; nothing of a single one."""
    has_budget = policy.get("privacy_budget") is not None
    if runs[0].group is not None:
        return ["each of their runs is charged at the nodes of its group alone"] if has_budget else []
    if len(runs) == 1:
        return []
    trials, folds = len({run.trial for run in runs} - {None}), {run.fold for run in runs} - {None}
    parts = [counted(max(trials, 1), "trial"), *([counted(len(folds), "fold")] if folds else [])]
    best = ", and one of the best trial" if runs[-1].trial is None else ""
    said = f"{len(runs)} runs are queued, one after another: {' of '.join(parts)}{best}"
    if has_budget:
        said += "; each is charged, and may spend an equal part of what is then left of the privacy budget"
    return [said]
