"""The options of the language, in one table: name, type, default, range, meaning, and what of it is built.

What always holds: `OPTIONS` is the only place that knows an option's name, default and range; reference
documents are generated from it. What is built of an option of parts (`of_parts`) it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum

from federated_sql.option_values import Built, OptionSpec, OptionType, RangeLimits, with_parts


class OptionKind(Enum):
    """What an option list belongs to; TRAINING is the part of MODEL that one run may override."""

    WORKSPACE = "workspace"
    NODE = "node"
    DATASET = "dataset"
    MODEL = "model"
    TRAINING = "training"
    SUBSCRIPTION = "subscription"
    ERASURE = "erasure"
    EXPERIMENT = "experiment"


_INT, _NUM, _BOOL = OptionType.INTEGER, OptionType.NUMBER, OptionType.BOOLEAN
_TEXT, _CHOICE = OptionType.TEXT, OptionType.CHOICE
_DAY = 86_400
_COMPRESSION = OptionSpec(
    "compression", _CHOICE, "none", "of updates", choices=("none", "zstd", "lz4"), of_parts=True
)
_QUANTIZATION = OptionSpec(
    "quantization", _INT, None, "bits of an update's values", choices=(8, 16, 32), of_parts=True
)

_WORKSPACE = (
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
        "the noise's distribution",
        choices=("gaussian", "laplacian"),
        built_values=("gaussian",),
    ),
    OptionSpec(
        "clipping_threshold",
        _NUM,
        1.0,
        "norm to which a record's contribution is clipped",
        minimum=1e-6,
        maximum=1e6,
    ),
    OptionSpec("adaptive_clipping", _BOOL, False, "follow a quantile of the norms", built_values=(False,)),
    OptionSpec(
        "trust_model",
        _CHOICE,
        "local",
        "who adds the noise: every node all of it, every node a share, or the coordinator",
        choices=("local", "distributed", "central"),
        built_values=("local",),
    ),
    OptionSpec(
        "subjects_overlap",
        _BOOL,
        False,
        "whether one data subject may be in several nodes: ε is then the nodes' sum, not their maximum",
        built_values=(False,),
    ),
    OptionSpec("min_nodes", _INT, 2, "nodes that a run needs to start", minimum=1, maximum=10_000),
    OptionSpec("max_nodes", _INT, 100, "nodes that may be registered", minimum=1, maximum=10_000),
    OptionSpec(
        "min_nodes_per_round",
        _INT,
        None,
        "updates that a round needs to count",
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
        "who takes part in a round",
        choices=("all", "random(k)", "most_data(k)", "best_performance(k)"),
        of_parts=True,
    ),
    OptionSpec(
        "aggregation_batch_size",
        _INT,
        0,
        "combine every N updates as they arrive; 0: all at once",
        minimum=0,
        maximum=10_000,
        built_values=(0,),
    ),
    OptionSpec("async_aggregation", _BOOL, False, "buffered asynchronous rounds", built_values=(False,)),
    OptionSpec(
        "communication_protocol",
        _CHOICE,
        "grpc",
        "how the coordinator speaks to nodes",
        choices=("grpc", "https"),
        built_values=("grpc",),
    ),
    OptionSpec("batch_communication", _BOOL, True, "one exchange for all of a task", built_values=(True,)),
    OptionSpec("tcp_nodelay", _BOOL, True, "send small messages at once", built_values=(True,)),
    OptionSpec(
        "keepalive_interval",
        _INT,
        30,
        "seconds between signs of life on an idle connection",
        minimum=1,
        maximum=3_600,
        built_values=(30,),
    ),
    OptionSpec("auto_reconnect", _BOOL, True, "dial a lost node again", built_values=(True,)),
    OptionSpec(
        "reconnect_interval",
        _INT,
        10,
        "seconds between two attempts",
        minimum=1,
        maximum=3_600,
        built_values=(10,),
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
    # A run's codec is its model's: nothing else of a workspace's has an effect.
    replace(_COMPRESSION, built_values=("none",), of_parts=False),
    OptionSpec("compression_level", _INT, 3, "effort of the compression", minimum=1, maximum=22, built=False),
    replace(_QUANTIZATION, built=False, of_parts=False),
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

_NODE = (
    OptionSpec("endpoint", OptionType.URL, None, "where the node answers: https://host:port"),
    OptionSpec("backup_endpoint", OptionType.URL, None, "where else it answers", built=False),
    OptionSpec(
        "certificate",
        _TEXT,
        None,
        "the certificate that the node is pinned to: path on the coordinator's machine, or PEM text",
        derived="the first that the node shows, if the coordinator's ca_bundle vouches for it",
    ),
    OptionSpec("private_key", _TEXT, None, "path on the node", built=False),
    OptionSpec("ca_bundle", _TEXT, None, "path on the node or PEM text", built=False),
    OptionSpec("data_residency", _TEXT, None, "where the node's data lie"),
    OptionSpec("dataset_size", _INT, None, "rows, as declared", minimum=0, maximum=10**15),
    OptionSpec("dataset", _TEXT, None, "name of the shared dataset", identifier=True),
    OptionSpec(
        "max_memory_gb", _NUM, None, "memory of a training process", above=0, maximum=1e5, built=False
    ),
    OptionSpec(
        "max_cpu_cores", _INT, None, "cores of a training process", minimum=1, maximum=10_000, built=False
    ),
    OptionSpec("max_bandwidth_mbps", _NUM, None, "megabits a second", above=0, maximum=1e6, built=False),
    OptionSpec("contact", _TEXT, None, "whom to ask about the node"),
    OptionSpec("sla_tier", _TEXT, None, "agreed level of service", built=False),
    OptionSpec("aggregator", _TEXT, None, "name of the node that aggregates for this one", built=False),
)

_DATASET = (
    OptionSpec(
        "subject", _TEXT, None, "column that names the data subject; none: every row is one", identifier=True
    ),
    OptionSpec(
        "erasure",
        _CHOICE,
        "suppress",
        "what becomes of an erased subject's rows",
        choices=("suppress", "delete"),
    ),
    OptionSpec(
        "require_consent",
        _BOOL,
        None,
        "whether only the rows of data subjects who have consented are read",
        derived="true with a consent_query, and under compliance_mode GDPR and BOTH; else false",
    ),
    OptionSpec(
        "purpose",
        _TEXT,
        None,
        "what the rows are used for, by which consent is given and withdrawn",
        derived="any: only a consent to every purpose counts, and a withdrawal for any",
    ),
    OptionSpec(
        "consent_query",
        _TEXT,
        None,
        "a query of one column: who has consented, in place of what GRANT FEDERATED CONSENT recorded",
        derived="the node's register of consent",
    ),
    OptionSpec(
        "plain_answers",
        _BOOL,
        None,
        "whether answers may leave without noise",
        derived="the node's setting plain_answers; false under any compliance_mode",
    ),
    OptionSpec(
        "min_rows",
        _INT,
        20,
        "of answers without noise: the fewest data subjects of one, and by how many two of them differ",
        minimum=1,
        maximum=10**9,
    ),
    OptionSpec(
        "max_parameter_share",
        _NUM,
        1 / 3,
        "of answers without noise: parameters of a model per row",
        above=0,
        maximum=1_000,
    ),
    OptionSpec(
        "max_epsilon", _NUM, None, "the node's own ceiling of ε, whatever the workspace says", above=0
    ),
    OptionSpec(
        "plain_withdrawals",
        _BOOL,
        False,
        "whether answers without noise go on without data subjects who were erased or withdrew, which tells"
        " of these few",
    ),
    OptionSpec(
        "phi_check",
        _CHOICE,
        None,
        "what becomes of shared columns that look like identifiers of people, by name, type or values: the"
        " statement and the node say so, refuse them, or do not look",
        derived="warn; refuse under compliance_mode HIPAA and BOTH",
        choices=("warn", "refuse", "off"),
    ),
    OptionSpec(
        "phi_accepted",
        OptionType.TEXT_ARRAY,
        None,
        "columns that somebody has looked at, and that may be shared whatever they look like",
        maximum=1_600,
        identifier=True,
    ),
    OptionSpec("paused", _BOOL, False, "whether the node answers no task from it for now"),
    OptionSpec(
        "exports", _BOOL, False, "whether the workspace may have a data subject's rows for that subject"
    ),
    OptionSpec(
        "exports_per_day",
        _INT,
        10,
        "of exports: of how many data subjects within 24 hours",
        minimum=1,
        maximum=10_000,
    ),
)

_DEFINITION = (
    OptionSpec(
        "algorithm",
        _CHOICE,
        None,
        "what is trained",
        choices=(
            "logistic_regression",
            "linear_regression",
            "poisson_regression",
            "cox_regression",
            "neural_network",
            "random_forest",
            "gradient_boosting",
            "cnn",
            "lstm",
            "transformer",
        ),
        of_parts=True,
    ),
    OptionSpec(
        "features",
        OptionType.TEXT_ARRAY,
        None,
        "columns of the dataset that the model reads",
        maximum=1_600,
        identifier=True,
    ),
    OptionSpec("target", _TEXT, None, "column that the model predicts", identifier=True),
    OptionSpec(
        "dataset",
        _TEXT,
        None,
        "name of the shared dataset",
        derived="the node's only one that has all columns",
        identifier=True,
    ),
    OptionSpec(
        "layers",
        OptionType.INTEGER_ARRAY,
        [64, 32, 1],
        "units of a neural network's layers",
        minimum=1,
        maximum=65_536,
        of_parts=True,
    ),
    OptionSpec(
        "activation",
        _CHOICE,
        "relu",
        "of hidden layers",
        choices=("relu", "tanh", "sigmoid", "gelu"),
        of_parts=True,
    ),
    OptionSpec(
        "output_activation",
        _CHOICE,
        "sigmoid",
        "of the last layer",
        choices=("sigmoid", "softmax", "linear"),
        of_parts=True,
    ),
    OptionSpec(
        "intended_use",
        _TEXT,
        None,
        "what the model is for, in words: the model card and the record of processing show it",
    ),
    OptionSpec(
        "owner_contact", _TEXT, None, "whom to ask about the model, as the card and the record show it"
    ),
)

_TRAINING = (
    OptionSpec(
        "target_classes",
        OptionType.TEXT_ARRAY,
        None,
        "the target's classes as its column holds them, in their order: of two the second is the one whose"
        " probability is predicted, ['1', '2']; needed under a privacy_budget, unless the target is boolean,"
        " or every node's catalog declares that it is 0 or 1, or lists the texts that it may be, or it is an"
        " undeclared integer, of which is then counted whether it is 0 or 1",
        derived="a boolean target's false and true; what catalogs list, or else what the rows hold of a text"
        " or an integer, in order; of other numbers 0 and 1",
        maximum=1_000,
        of_parts=True,
    ),
    OptionSpec(
        "feature_transforms",
        OptionType.TEXT_ARRAY,
        None,
        "what is made of single features: log1p(x); onehot(x), a number as a category; bins(x, 10), a number"
        " as so many parts with about as many rows each; standard(x), scaled as every number is; none(x), not"
        " scaled; missing(x), one more input that says whether it is missing",
        maximum=4_800,
    ),
    OptionSpec(
        "max_levels",
        _INT,
        100,
        "levels of a category that are told apart, those of most rows; the others are one more, other",
        minimum=2,
        maximum=1_000,
    ),
    OptionSpec(
        "min_level_count",
        _INT,
        5,
        "data subjects of one node that a level has at least; rarer ones are other",
        minimum=5,
        maximum=1_000_000,
    ),
    OptionSpec(
        "event",
        _TEXT,
        None,
        "column that says whether a survival time ended with the event (true, 1) or was censored (false, 0)",
        identifier=True,
        of_parts=True,
    ),
    OptionSpec(
        "weights",
        _TEXT,
        None,
        "column of the rows' case weights, each more than 0; a row without one is left out",
        derived="every row counts 1",
        identifier=True,
        of_parts=True,
    ),
    OptionSpec(
        "offset",
        _TEXT,
        None,
        "column that is added to every score with the coefficient 1, on the scale of the link; a row without "
        "one is left out",
        identifier=True,
        of_parts=True,
    ),
    OptionSpec(
        "penalty",
        _NUM,
        0.0,
        "strength of an elastic net on the coefficients of scaled inputs, intercepts left out: added to the "
        "mean loss of a row is penalty times (1 - l1_ratio) / 2 of the sum of their squares and l1_ratio of "
        "that of their magnitudes",
        minimum=0,
        maximum=1e6,
        of_parts=True,
    ),
    OptionSpec(
        "l1_ratio",
        _NUM,
        0.0,
        "part of the penalty that is on magnitudes: 0 is ridge, 1 lasso",
        minimum=0,
        maximum=1,
        of_parts=True,
    ),
    OptionSpec("trees", _INT, 100, "trees of a forest", minimum=1, maximum=10_000, of_parts=True),
    OptionSpec("max_depth", _INT, 8, "depth of a tree", minimum=1, maximum=32, of_parts=True),
    OptionSpec("bins", _INT, 64, "bins of a feature's histogram", minimum=2, maximum=65_536, of_parts=True),
    OptionSpec(
        "min_rows_per_leaf",
        _INT,
        20,
        "rows of all nodes together in a leaf of a tree, at least",
        minimum=1,
        maximum=10**9,
        of_parts=True,
    ),
    OptionSpec(
        "subsample",
        _NUM,
        1.0,
        "part of the rows that a tree is grown from; a forest draws as many with replacement",
        minimum=1e-3,
        maximum=1,
        of_parts=True,
    ),
    OptionSpec("rounds", _INT, 50, "training rounds", minimum=1, maximum=100_000),
    OptionSpec(
        "local_epochs",
        _INT,
        1,
        "passes over a node's rows in a round",
        minimum=1,
        maximum=10_000,
        of_parts=True,
    ),
    OptionSpec("batch_size", _INT, 32, "rows of a local step", minimum=1, maximum=1_000_000, of_parts=True),
    OptionSpec(
        "learning_rate",
        _NUM,
        None,
        "of a local step, or the part of a boosted tree's step that is taken",
        derived="`0.01`; `0.1` of gradient_boosting",
        minimum=1e-12,
        maximum=1_000,
        of_parts=True,
    ),
    OptionSpec(
        "optimizer",
        _CHOICE,
        "sgd",
        "of local training; what momentum and adam remember begins anew in each round; newton: steps on the"
        " summed derivatives of the nodes' rows, which lead to the estimate of the pooled rows and to its"
        " standard errors",
        choices=("sgd", "momentum", "adam", "newton"),
        built_values=("sgd",),
        of_parts=True,
    ),
    OptionSpec(
        "aggregation",
        _CHOICE,
        "fedavg",
        "how updates are combined: a strategy or a custom aggregation function",
        choices=(
            "fedavg",
            "weighted",
            "fedprox",
            "fedadam",
            "fedyogi",
            "fedadagrad",
            "fedopt",
            "median",
            "trimmed_mean",
            "krum",
            "multi_krum",
            "bulyan",
            "fltrust",
            "geometric_median",
            "scaffold",
        ),
        of_parts=True,
        custom="a custom aggregation function",
    ),
    OptionSpec("weighted_aggregation", _BOOL, True, "weight updates by rows", of_parts=True),
    OptionSpec(
        "proximal_term",
        _NUM,
        None,
        "μ of fedprox",
        derived="0.01",
        minimum=0,
        maximum=1e6,
        of_parts=True,
    ),
    OptionSpec(
        "server_learning_rate",
        _NUM,
        None,
        "η of the server's optimizer",
        derived="1 for fedopt, scaffold and fltrust, 0.1 for fedadagrad, fedadam and fedyogi",
        minimum=1e-12,
        maximum=1_000,
        of_parts=True,
    ),
    OptionSpec(
        "beta1",
        _NUM,
        None,
        "first moment's decay",
        derived="0.9, for fedadagrad 0",
        minimum=0,
        below=1,
        of_parts=True,
    ),
    OptionSpec(
        "beta2",
        _NUM,
        None,
        "second moment's decay",
        derived="0.99",
        minimum=0,
        below=1,
        of_parts=True,
    ),
    OptionSpec(
        "tau",
        _NUM,
        None,
        "adaptivity of the server's optimizer",
        derived="0.001",
        minimum=1e-12,
        maximum=1,
        of_parts=True,
    ),
    OptionSpec(
        "trim_ratio",
        _NUM,
        None,
        "fraction of the updates cut at either end, of which that must be one at least",
        derived="0.2, and at least one of three",
        minimum=0,
        below=0.5,
        of_parts=True,
    ),
    OptionSpec(
        "byzantine_nodes",
        _INT,
        None,
        "hostile nodes to withstand: krum and multi_krum need 2f + 3 updates for f of them, bulyan 4f + 3",
        derived="as many as a round's updates allow",
        minimum=0,
        maximum=10_000,
        of_parts=True,
    ),
    OptionSpec(
        "root_node",
        _TEXT,
        None,
        "the registered node whose rows fltrust trusts, and to whose update it holds those of the others",
        identifier=True,
        of_parts=True,
    ),
    OptionSpec(
        "robust_groups",
        _INT,
        None,
        "groups of nodes whose sums a robust rule sees",
        minimum=2,
        maximum=1_000,
        of_parts=True,
    ),
    OptionSpec(
        "adaptive_learning",
        _BOOL,
        False,
        "a learning rate for each node from its progress: a part of learning_rate that it finds itself",
        of_parts=True,
    ),
    OptionSpec(
        "convergence_threshold",
        _NUM,
        0.001,
        "improvement of the loss below which a run ends, in parts of the loss of the base rate",
        minimum=0,
        maximum=1e6,
    ),
    OptionSpec(
        "early_stopping_rounds",
        _INT,
        10,
        "evaluated rounds without improvement after which a run ends",
        minimum=1,
        maximum=100_000,
    ),
    OptionSpec(
        "target_accuracy",
        _NUM,
        None,
        "accuracy at which a run ends; under a privacy_budget two standard errors beyond it",
        above=0,
        maximum=1,
    ),
    OptionSpec("keep_best", _BOOL, True, "publish the best evaluated round, not the last"),
    OptionSpec(
        "promote",
        _BOOL,
        True,
        "make the run's version the current one; false leaves that to PROMOTE FEDERATED MODEL",
    ),
    OptionSpec("validation_split", _NUM, 0.2, "fraction of subjects held out", minimum=0, maximum=0.5),
    OptionSpec(
        "folds",
        _INT,
        None,
        "parts of the subjects, each held out once in place of validation_split: START makes a run for each,"
        " evaluates it and keeps no model; with search each trial is judged by all of them, and the best is"
        " then trained by a run without folds",
        minimum=2,
        maximum=20,
    ),
    OptionSpec(
        "search",
        OptionType.SEARCH,
        None,
        """values to try, as '{"learning_rate": [0.1, 0.01]}': START makes a trial of every combination, """
        "one after another, and the one of the smallest loss becomes the version",
        maximum=100,
    ),
    OptionSpec("validation_frequency", _INT, 1, "rounds between two evaluations", minimum=1, maximum=100_000),
    OptionSpec(
        "checkpoint_every",
        _INT,
        None,
        "rounds between two checkpoints that the catalog keeps, sealed; of many some in between are dropped",
        minimum=1,
        maximum=100_000,
    ),
    OptionSpec(
        "max_update_norm",
        _NUM,
        None,
        "largest L2 norm of an update; a larger one is rejected",
        derived="10000; under a privacy_budget plus what clipping and noise can reach",
        above=0,
        maximum=1e9,
    ),
    _COMPRESSION,
    _QUANTIZATION,
    OptionSpec(
        "gradient_sparsification",
        _NUM,
        0.0,
        "fraction of an update that is not sent",
        minimum=0,
        maximum=0.99,
        built_values=(0.0,),
        of_parts=True,
    ),
    OptionSpec(
        "top_k", _INT, None, "values of an update that are sent", minimum=1, maximum=10**9, of_parts=True
    ),
    OptionSpec(
        "secure_aggregation",
        _BOOL,
        False,
        "the coordinator sees only sums of updates",
        built_values=(False,),
        of_parts=True,
    ),
    OptionSpec(
        "aggregation_protocol", _CHOICE, "shamir", "of secure aggregation", choices=("shamir",), of_parts=True
    ),
    OptionSpec(
        "threshold",
        _INT,
        None,
        "nodes that can open a sum together",
        derived="⌈2n/3⌉",
        minimum=2,
        maximum=10_000,
        of_parts=True,
    ),
    OptionSpec("transfer_from", _TEXT, None, "model[@tag] whose parameters the run begins with", built=False),
    OptionSpec(
        "freeze_layers", _INT, None, "layers that stay as they were", minimum=0, maximum=1_000, built=False
    ),
    OptionSpec(
        "personalization",
        _CHOICE,
        "none",
        "whether a node keeps its own last layers",
        choices=("none", "fine_tune"),
        built_values=("none",),
    ),
    OptionSpec(
        "seed",
        _INT,
        None,
        "of everything drawn but noise",
        derived="the run's id",
        minimum=0,
        maximum=2**63 - 1,
    ),
    OptionSpec(
        "feature_ranges",
        OptionType.RANGES,
        None,
        """lower and upper bound of columns, as '{"age": [0, 120]}': in round 0 values outside count """
        "as the bound, and the private statistics are bounded sums; of every feature, and of a regression's "
        "target; needs a privacy_budget",
        maximum=1_601,
        identifier=True,
        range_limits=RangeLimits(ends=1e150, least_width=1e-150, most_width=1e150, resolution=1e-9),
    ),
)


_SUBSCRIPTION = (
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

_ERASURE = (
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

_EXPERIMENT = (
    OptionSpec(
        "keep_days",
        _INT,
        90,
        "days that a call is kept, and its outcome is taken; older ones are but a part of their arm's sums",
        minimum=1,
        maximum=36_500,
    ),
)


def _table(specs: Sequence[OptionSpec]) -> dict[str, OptionSpec]:
    table = {spec.name: spec for spec in specs}
    if len(table) != len(specs):
        raise AssertionError("an option is listed twice")
    return table


OPTIONS: dict[OptionKind, dict[str, OptionSpec]] = {
    OptionKind.WORKSPACE: _table(_WORKSPACE),
    OptionKind.NODE: _table(_NODE),
    OptionKind.DATASET: _table(_DATASET),
    OptionKind.MODEL: _table((*_DEFINITION, *_TRAINING)),
    OptionKind.TRAINING: _table(_TRAINING),
    OptionKind.SUBSCRIPTION: _table(_SUBSCRIPTION),
    OptionKind.ERASURE: _table(_ERASURE),
    OptionKind.EXPERIMENT: _table(_EXPERIMENT),
}


def specs(kind: OptionKind, built: Built) -> Mapping[str, OptionSpec]:
    """Return the options of `kind`, with what the parts that there are give an effect to."""
    return {name: with_parts(spec, built) for name, spec in OPTIONS[kind].items()}
