"""A module of a node's setting `parts` that makes it one where the extra `neural` is not installed."""

from heliosdb.parts.extras import EXTRAS

EXTRAS["neural"] = ("no_module_of_this_name",)
