"""The rows of the option table that are about a workspace.

What always holds: an option stands in one of these modules alone; `option_table` joins them.
"""

from __future__ import annotations

from dataclasses import replace

from federated_sql.option_values import OptionSpec, OptionType
from federated_sql.training_options import COMPRESSION, COMPRESSION_LEVEL, QUANTIZATION

_INT, _NUM, _BOOL = OptionType.INTEGER, OptionType.NUMBER, OptionType.BOOLEAN
_TEXT, _CHOICE = OptionType.TEXT, OptionType.CHOICE
_DAY = 86_400

WORKSPACE = (
    OptionSpec(
        "privacy_budget",
        _NUM,
        None,
        "total ε that any record of any node may spend in this workspace; none: no differential privacy",
        above=0,
        maximum=1e6,
    ),
    OptionSpec("delta", _NUM, 1e-5, "δ of the total", above=0, below=0.1),
    OptionSpec(
        "privacy_per_round",
        _NUM,
        None,
        "ε that the training of one round may spend at most by itself, round 0 and evaluations apart",
        derived="no bound: all rounds together spend what is left of privacy_budget",
        above=0,
    ),
    OptionSpec(
        "noise_multiplier",
        _NUM,
        None,
        "σ, relative to the clipping threshold; with a budget the stricter of the two rules",
        derived="from privacy_budget and delta",
        minimum=0.01,
        maximum=1e6,
    ),
    OptionSpec(
        "noise_mechanism",
        _CHOICE,
        "gaussian",
        "the noise's distribution: Laplace noise is calibrated by L1 norms, of linear models alone",
        choices=("gaussian", "laplacian"),
    ),
    OptionSpec(
        "clipping_threshold",
        _NUM,
        1.0,
        "norm to which a record's contribution is clipped",
        minimum=1e-6,
        maximum=1e6,
    ),
    OptionSpec(
        "adaptive_clipping",
        _BOOL,
        False,
        "whether the norm to which gradients are clipped follows their median from round to round, from"
        " clipping_threshold on; what that costs is charged",
    ),
    OptionSpec(
        "trust_model",
        _CHOICE,
        None,
        "who adds the noise: every node all of it; every node a share of that of their sum, or the"
        " coordinator all of it, where under secure_aggregation it sees sums alone; the last only of nodes"
        " whose own DBAs allow it",
        derived="distributed for models with secure_aggregation, local for the others",
        choices=("local", "distributed", "central"),
    ),
    OptionSpec(
        "subjects_overlap",
        _BOOL,
        False,
        "whether one data subject may be in several nodes: ε is then the nodes' sum, not their maximum",
    ),
    OptionSpec("min_nodes", _INT, 2, "nodes that a run needs to start", minimum=1, maximum=10_000),
    OptionSpec("max_nodes", _INT, 100, "nodes that may be registered", minimum=1, maximum=10_000),
    OptionSpec(
        "min_nodes_per_round",
        _INT,
        None,
        "updates that a round needs to count; a run that has begun waits for nodes that are away",
        derived="min_nodes",
        minimum=1,
        maximum=10_000,
    ),
    OptionSpec("round_timeout", _INT, 300, "seconds after which a round ends", minimum=1, maximum=_DAY),
    OptionSpec(
        "stragglers_timeout",
        _INT,
        None,
        "seconds after which a slow node is dropped from its round",
        derived="round_timeout",
        minimum=1,
        maximum=_DAY,
    ),
    OptionSpec(
        "node_selection",
        OptionType.POLICY,
        "all",
        "who takes part in a round: all; k at random; the k with the most rows, as their answers state them;"
        " the k (2 or more) whose updates agree best with the others', once each was tried; the next k in the"
        " order of their names",
        choices=("all", "random(k)", "most_data(k)", "best_performance(k)", "cyclic(k)"),
        of_parts=True,
    ),
    OptionSpec(
        "aggregation_batch_size",
        _INT,
        0,
        "combine every N updates as they arrive: an asynchronous round closes with them; 0: all at once",
        minimum=0,
        maximum=10_000,
    ),
    OptionSpec(
        "async_aggregation",
        _BOOL,
        False,
        "buffered asynchronous rounds: nobody waits for the slowest, stale updates count less",
    ),
    OptionSpec(
        "communication_protocol",
        _CHOICE,
        "grpc",
        "who dials: under grpc the coordinator, each node at its endpoint; under https each node the"
        " coordinator, and nothing listens at a node; under flower nobody: a Flower federation that is there"
        " already carries the messages",
        choices=("grpc", "https", "flower"),
    ),
    OptionSpec(
        "batch_communication",
        _BOOL,
        True,
        "one exchange for all of a task",
        built_values=(True,),
        missing="A task is one signed header with one body, and its answer one update: there is nothing in it"
        " that could be sent apart.",
    ),
    OptionSpec(
        "tcp_nodelay",
        _BOOL,
        True,
        "send small messages at once",
        built_values=(True,),
        missing="gRPC sets TCP_NODELAY on each of its connections and has no option to leave it.",
    ),
    OptionSpec(
        "keepalive_interval",
        _INT,
        30,
        "seconds after which the coordinator asks a connection on which nothing came for a sign of life, also"
        " in the middle of a call; one that gives none for as long again, at most 10 seconds, is lost",
        minimum=1,
        maximum=3_600,
    ),
    OptionSpec(
        "auto_reconnect",
        _BOOL,
        True,
        "whether a node that was met and is lost is dialled again by itself; where not, ALTER FEDERATED NODE"
        " has it dialled, or this option once it is true",
    ),
    OptionSpec(
        "reconnect_interval",
        _INT,
        None,
        "the longest pause between two attempts to reach a node that is away, and from the backup_endpoint"
        " to look for the endpoint again, in seconds",
        derived="the coordinator's setting reconnect_interval: 10, unless its file says otherwise",
        minimum=1,
        maximum=3_600,
    ),
    OptionSpec(
        "tls_version",
        _CHOICE,
        "1.3",
        "lowest version that is spoken",
        choices=("1.3", "1.2"),
        built_values=("1.3",),
    ),
    OptionSpec(
        "certificate_validation", _BOOL, True, "whether a peer's certificate is checked", built_values=(True,)
    ),
    OptionSpec(
        "encryption", _CHOICE, "AES-256-GCM", "cipher of updates and parameters", choices=("AES-256-GCM",)
    ),
    # Of the models that do not say themselves.
    replace(COMPRESSION, default="none", derived=None),
    replace(COMPRESSION_LEVEL, default=3, derived=None),
    replace(QUANTIZATION, derived="as the algorithm computes them"),
    OptionSpec(
        "compliance_mode",
        _CHOICE,
        "none",
        "what is enforced and what the compliance check reports on",
        choices=("none", "HIPAA", "GDPR", "BOTH"),
    ),
    OptionSpec(
        "data_residency", _TEXT, None, "place in which the nodes' data must lie, for instance EU or US-EAST"
    ),
    OptionSpec("audit_logging", _BOOL, True, "keep the audit log", built_values=(True,)),
    OptionSpec(
        "breach_notify",
        OptionType.TARGET,
        None,
        "whom the coordinator notifies of a breach of security; without it federated_alerts alone shows it",
    ),
    OptionSpec(
        "during_erasure",
        _CHOICE,
        "serve",
        "whether versions that an erasure may retire predict until it is carried out",
        choices=("serve", "refuse"),
    ),
    OptionSpec(
        "retention_days",
        _INT,
        2555,
        "days that entries of the audit log, events and what is kept of ended runs stay; older ones are"
        " deleted, and a signed stub says what; under HIPAA and BOTH at least 2190",
        minimum=1,
        maximum=36_500,
    ),
    OptionSpec("legal_hold", _BOOL, False, "delete nothing for its age while it is true"),
)
