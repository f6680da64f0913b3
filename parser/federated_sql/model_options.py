"""The rows of the option table that are about what a model is, whichever run trains it.

What always holds: an option stands in one of these modules alone; `option_table` joins them.
"""

from __future__ import annotations

from federated_sql.option_values import OptionSpec, OptionType

_TEXT, _CHOICE = OptionType.TEXT, OptionType.CHOICE

_BY_VIEW = (
    "Rows of a subject become no series by themselves: a view makes arrays of them, as docs/data.md shows."
)

DEFINITION = (
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
            "gru",
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
        None,
        "units of a neural network's layers, of a cnn of those behind its blocks, of a network on"
        " series of those behind its cells or blocks; the last are its outputs",
        derived="`[64, 32, 1]`; `[1]` of cnn, lstm, gru and transformer",
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
        "input_shape",
        OptionType.INTEGER_ARRAY,
        None,
        "of cnn: channels, height and width of the image that the first features are: a file (bytea) of that"
        " size, or an array of so many elements or so many numbers, channel by channel and line by line, at"
        " most 16000 numbers; what features follow join behind the blocks. Of lstm, gru and transformer:"
        " length and channels of the series, of each channel an array of so many elements or so many numbers,"
        " a NULL one being missing",
        minimum=1,
        maximum=1_600,
        of_parts=True,
    ),
    OptionSpec(
        "channels",
        OptionType.INTEGER_ARRAY,
        [8, 16],
        "of cnn: the channels of each block, which halves an image's sides",
        minimum=1,
        maximum=512,
        of_parts=True,
    ),
    OptionSpec(
        "kernel",
        OptionType.INTEGER,
        3,
        "of cnn: how wide and high the kernels are, an odd number",
        minimum=1,
        maximum=11,
        of_parts=True,
    ),
    OptionSpec(
        "groups",
        OptionType.INTEGER,
        4,
        "of cnn: over how many groups of its channels a block normalises each row",
        minimum=1,
        maximum=512,
        of_parts=True,
    ),
    OptionSpec(
        "sequence_by",
        _TEXT,
        None,
        "column whose equal values make rows one series",
        identifier=True,
        built=False,
        missing=_BY_VIEW,
    ),
    OptionSpec(
        "order_by",
        _TEXT,
        None,
        "column by which the rows of a series follow one another",
        identifier=True,
        built=False,
        missing=_BY_VIEW,
    ),
    OptionSpec(
        "sequence_length",
        OptionType.INTEGER,
        None,
        "how many rows of a series are kept, the last ones",
        minimum=1,
        maximum=1_600,
        built=False,
        missing=_BY_VIEW,
    ),
    OptionSpec(
        "width",
        OptionType.INTEGER,
        32,
        "of lstm and gru: how many numbers a cell remembers; of transformer: how many a step is",
        minimum=1,
        maximum=1_024,
        of_parts=True,
    ),
    OptionSpec(
        "depth",
        OptionType.INTEGER,
        None,
        "of lstm, gru and transformer: cells or blocks one upon the other",
        derived="`1`; `2` of transformer",
        minimum=1,
        maximum=8,
        of_parts=True,
    ),
    OptionSpec(
        "bidirectional",
        OptionType.BOOLEAN,
        False,
        "of lstm and gru: whether each cell has a twin that goes over the series backwards",
        of_parts=True,
    ),
    OptionSpec(
        "heads",
        OptionType.INTEGER,
        4,
        "of transformer: among how many heads the width is divided",
        minimum=1,
        maximum=64,
        of_parts=True,
    ),
    OptionSpec(
        "prediction",
        _CHOICE,
        None,
        "how a version's numbers are kept: inline, in its functions, which the planner inlines and whoever"
        " reads the catalog can read; sealed, as cipher text that the server alone opens, to predict",
        derived="inline; sealed under compliance_mode HIPAA and BOTH",
        choices=("inline", "sealed"),
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
