"""The rows of the option table that are about a training: a model has them, one run may override them.

What always holds: an option stands in one of these modules alone; `option_table` joins them.
"""

from __future__ import annotations

from federated_sql.option_values import OptionSpec, OptionType, RangeLimits
from federated_sql.personal_options import PERSONAL

_INT, _NUM, _BOOL = OptionType.INTEGER, OptionType.NUMBER, OptionType.BOOLEAN
_TEXT, _CHOICE = OptionType.TEXT, OptionType.CHOICE

_AS_WORKSPACE = "the workspace's"

COMPRESSION = OptionSpec(
    "compression",
    _CHOICE,
    None,
    "of what nodes answer, without loss",
    derived=f"{_AS_WORKSPACE}, which is `none` unless set",
    choices=("none", "zstd", "lz4"),
    of_parts=True,
)
COMPRESSION_LEVEL = OptionSpec(
    "compression_level",
    _INT,
    None,
    "effort of zstd",
    derived=f"{_AS_WORKSPACE}, which is `3` unless set",
    minimum=1,
    maximum=22,
    of_parts=True,
)
QUANTIZATION = OptionSpec(
    "quantization",
    _INT,
    None,
    "bits of an update's values: 32, as float32; 16 or 8, scaled to whole numbers and rounded by chance, so"
    " that they are right on average; answers that are added up exactly keep their own",
    derived=f"{_AS_WORKSPACE}; where that has none, as the algorithm computes them",
    choices=(8, 16, 32),
)

TRAINING = (
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
        " scaled; missing(x), one more input that says whether it is missing; hashed(x, 512), the words of a"
        " text as so many numbers",
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
        "data subjects of one node, under a privacy_budget of all nodes, that a level has at least;"
        " rarer ones are other",
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
    OptionSpec(
        "batch_size",
        _INT,
        None,
        "rows of a local step; where the noise is that of a sum, subjects of a node in a round",
        derived="`32`; where the noise is that of a sum, all",
        minimum=1,
        maximum=1_000_000,
        of_parts=True,
    ),
    OptionSpec(
        "learning_rate",
        _NUM,
        None,
        "of a local step, or the part of a boosted tree's step that is taken",
        derived="`0.01`; `0.1` of gradient_boosting; where the noise is that of a sum `1.0`, `0.3` of a"
        " number, divided by the clipping norm where that is more than 1",
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
        " standard errors, under a privacy_budget by noisy sums, without standard errors and in three rounds"
        " at most",
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
            "fednova",
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
        "groups to which a run's nodes are dealt: a rule that compares updates is given the mean of each"
        " group in place of single updates, which secure_aggregation hides; it then has 3 nodes at least",
        minimum=3,
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
    OptionSpec(
        "priority",
        _INT,
        0,
        "which of several runs work now where a coordinator has more than it carries out at once: those of a"
        " higher one, and 30 seconds of waiting weigh as much as one step",
        minimum=-10,
        maximum=10,
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
    OptionSpec(
        "voting_groups",
        _INT,
        None,
        "disjoint groups that the nodes are dealt to: START makes a run for each, over its nodes alone, and"
        " the models of all groups vote on each prediction; federated_certify says how many hostile nodes"
        " cannot change it; for classes",
        minimum=3,
        maximum=1_000,
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
        "largest L2 norm of an update; a larger one is rejected, or cut to it by its node where"
        " secure_aggregation hides it and quantization rounds it",
        derived="10000; under a privacy_budget plus what clipping and noise can reach; of updates that are"
        " rounded or sent in part as many times that as what was kept can add up to",
        above=0,
        maximum=1e9,
    ),
    COMPRESSION,
    COMPRESSION_LEVEL,
    QUANTIZATION,
    OptionSpec(
        "gradient_sparsification",
        _NUM,
        0.0,
        "fraction of an update's values that is not sent, those of the smallest magnitude; a node keeps them"
        " for its next update",
        minimum=0,
        maximum=0.99,
    ),
    OptionSpec(
        "top_k",
        _INT,
        None,
        "values of an update that are sent, those of the largest magnitude; a node keeps the others for its"
        " next update",
        derived="all",
        minimum=1,
        maximum=10**9,
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
        derived="⌈2n/3⌉, and at least 3",
        minimum=3,
        maximum=10_000,
        of_parts=True,
    ),
    OptionSpec("transfer_from", _TEXT, None, "model[@tag] whose parameters the run begins with"),
    OptionSpec(
        "freeze_layers",
        _INT,
        None,
        "first layers of a network that stay as those of transfer_from were",
        minimum=0,
        maximum=1_000,
    ),
    *PERSONAL,
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
