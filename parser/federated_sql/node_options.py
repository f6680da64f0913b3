"""The rows of the option table that are about a node, and about a dataset that it shares.

What always holds: an option stands in one of these modules alone; `option_table` joins them.
"""

from __future__ import annotations

from federated_sql.option_values import OptionSpec, OptionType

_INT, _NUM, _BOOL = OptionType.INTEGER, OptionType.NUMBER, OptionType.BOOLEAN
_TEXT, _CHOICE = OptionType.TEXT, OptionType.CHOICE

NODE = (
    OptionSpec(
        "endpoint",
        OptionType.URL,
        None,
        "where the node answers: https://host:port; none where the nodes dial (communication_protocol)",
    ),
    OptionSpec(
        "backup_endpoint",
        OptionType.URL,
        None,
        "where the same node is called while it cannot be reached at its endpoint: https://host:port; its"
        " certificate names this host too",
    ),
    OptionSpec(
        "certificate",
        _TEXT,
        None,
        "the certificate that the node is pinned to: path on the coordinator's machine, or PEM text; during a"
        " rotation the old one and the new",
        derived="the first that the node shows, if the coordinator's ca_bundle vouches for it",
    ),
    OptionSpec("private_key", _TEXT, None, "path on the node", built=False),
    OptionSpec("ca_bundle", _TEXT, None, "path on the node or PEM text", built=False),
    OptionSpec("data_residency", _TEXT, None, "where the node's data lie"),
    OptionSpec("dataset_size", _INT, None, "rows, as declared", minimum=0, maximum=10**15),
    OptionSpec("dataset", _TEXT, None, "name of the shared dataset", identifier=True),
    OptionSpec(
        "max_memory_gb",
        _NUM,
        None,
        "GiB that a training process holds for a task without a privacy budget",
        minimum=0.25,
        maximum=1e5,
        derived="what the node's own settings allow, which is never exceeded",
    ),
    OptionSpec(
        "max_cpu_cores",
        _INT,
        None,
        "cores on which a training process computes",
        minimum=1,
        maximum=10_000,
        derived="what the node's own settings allow, which is never exceeded",
    ),
    OptionSpec(
        "max_bandwidth_mbps",
        _NUM,
        None,
        "megabits a second, of answers and of what is sent to the node",
        minimum=0.001,
        maximum=1e6,
        derived="no limit; of answers what the node's own settings allow, which is never exceeded",
    ),
    OptionSpec("contact", _TEXT, None, "whom to ask about the node"),
    OptionSpec("sla_tier", _TEXT, None, "agreed level of service", built=False),
    OptionSpec(
        "aggregator",
        _TEXT,
        None,
        "name of the node that gathers this one's answers and adds them up for the coordinator",
    ),
)

DATASET = (
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
        "min_cell",
        _INT,
        5,
        "of answers without noise: the fewest data subjects of a count, and of a group that one column, or"
        " the difference of two, tells apart",
        minimum=1,
        maximum=10**9,
    ),
    OptionSpec(
        "min_category",
        _INT,
        5,
        "of answers without noise: the fewest data subjects of a value of a category that is told by itself",
        minimum=1,
        maximum=10**9,
    ),
    OptionSpec(
        "max_dominance",
        _NUM,
        0.85,
        "of answers without noise: the largest part of a sum of magnitudes that one data subject may have; 1:"
        " all of it",
        above=0,
        maximum=1,
    ),
    OptionSpec(
        "max_datasets",
        _INT,
        8,
        "of answers without noise: how many different datasets over the same tables get them",
        minimum=1,
        maximum=10_000,
    ),
    OptionSpec(
        "max_row_sets",
        _INT,
        64,
        "of answers without noise: about how many different sets of rows of the same tables they are",
        minimum=1,
        maximum=64,
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
