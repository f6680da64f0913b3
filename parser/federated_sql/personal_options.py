"""Options of models of which a part stays at each node.

What always holds: an option stands in one of these modules alone; `training_options` takes them in.
"""

from __future__ import annotations

from federated_sql.option_values import OptionSpec, OptionType

PERSONAL: tuple[OptionSpec, ...] = (
    OptionSpec(
        "personalization",
        OptionType.CHOICE,
        "none",
        "what of the model stays at each node, which predicts with it: fine_tune, the published version"
        " trained on over the node's own rows; local_head, the last layers; ditto, a model trained beside the"
        " federation's and pulled towards it",
        choices=("none", "fine_tune", "local_head", "ditto"),
    ),
    OptionSpec(
        "personal_epochs",
        OptionType.INTEGER,
        None,
        "epochs over its own rows by which a node goes on from the published version; of fine_tune",
        derived="5",
        minimum=1,
        maximum=10_000,
    ),
    OptionSpec(
        "local_layers",
        OptionType.INTEGER,
        None,
        "last layers of a network that stay at the nodes and are never sent; of local_head",
        derived="1",
        minimum=1,
        maximum=64,
    ),
    OptionSpec(
        "personal_term",
        OptionType.NUMBER,
        None,
        "λ, how hard a node's own model is pulled towards the federation's; of ditto",
        derived="0.1",
        minimum=0,
        maximum=1_000_000,
    ),
)
