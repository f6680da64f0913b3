"""The rows of the option table that are about models in use: subscriptions, experiments, erasures.

What always holds: an option stands in one of these modules alone; `option_table` joins them.
"""

from __future__ import annotations

from federated_sql.option_values import OptionSpec, OptionType

_INT, _BOOL = OptionType.INTEGER, OptionType.BOOLEAN
_CHOICE = OptionType.CHOICE

SUBSCRIPTION = (
    OptionSpec(
        "version",
        OptionType.VERSION,
        "latest",
        "which version is wanted: a tag is followed when it moves, latest is whichever is current where the"
        " model is trained",
    ),
    OptionSpec(
        "auto",
        _BOOL,
        True,
        "whether later versions are taken as they come; else ALTER … REFRESH takes them",
    ),
)

EXPERIMENT = (
    OptionSpec(
        "keep_days",
        _INT,
        90,
        "days that a call is kept, and its outcome is taken; older ones are but a part of their arm's sums",
        minimum=1,
        maximum=36_500,
    ),
)

ERASURE = (
    OptionSpec(
        "method",
        _CHOICE,
        "retrain",
        "what becomes of versions that saw the subjects: others are trained anew without them, and these are"
        " retired; or they stay as they are, and only what is trained later does without the subjects",
        choices=("retrain", "suppress_only"),
    ),
    OptionSpec(
        "during_erasure",
        _CHOICE,
        None,
        "as the workspace's option, for this request alone",
        derived="the workspace's",
        choices=("serve", "refuse"),
    ),
)
