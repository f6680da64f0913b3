"""The proxy says which code it runs, and the tests run on the one that was meant."""

from __future__ import annotations

import os

from heliosdb.proxy.compiled import is_compiled


def test_the_code_under_test_is_compiled_only_where_that_was_asked_for():
    assert is_compiled() is (os.environ.get("HELIOSDB_TESTS_COMPILED") == "1")
