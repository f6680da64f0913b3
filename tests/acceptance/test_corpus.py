"""Every statement of the language's corpus, typed into psql: its command tag and effect, or its exact error.

`corpus/*.sql` is what users type, `corpus_expectations.toml` what each statement must do. The nodes that the
corpus names are examples, so nothing is trained here; versions are published where a statement presumes one.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.corpus_run import FINGERPRINT, Case, Shown, cases, type_corpus
from tests.support.cluster import Cluster
from tests.support.proxy import running_proxy
from tests.support.publication import publish_version, queue_run

CASES = tuple(cases())
DIRECT = tuple(case for case in CASES if not case.expected.get("proxy_only", False))
_FIELDS = {
    "before", "train", "proxy_only", "tag", "effect", "shows", "columns", "rows", "among", "each", "notices", "sqlstate",
    "message", "at", "directory",
}  # fmt: skip


def empty_database(cluster: Cluster) -> str:
    """A database with PL/Python and no more: the corpus makes the extension."""
    name = cluster.create_database()
    with cluster.connect(name) as connection:
        connection.execute(FINGERPRINT)
    return name


@pytest.fixture(scope="module", autouse=True)
def directories() -> Iterator[None]:
    """What statements name on the server, where it can be made."""
    wanted = {Path(case.expected["directory"]) for case in CASES if "directory" in case.expected}
    made = [path for path in wanted if os.geteuid() == 0 and not path.exists()]
    for path in made:
        path.mkdir()
        account = pwd.getpwnam("postgres")
        os.chown(path, account.pw_uid, account.pw_gid)
    yield
    for path in made:
        path.rmdir()


def trainer(cluster: Cluster, database: str):
    def train(wanted: Mapping[str, Any]) -> None:
        if wanted.get("queued"):
            queue_run(cluster, database, wanted["model"])
        publish_version(
            cluster, database, wanted["model"], intercept=wanted["intercept"], slopes=tuple(wanted["slopes"])
        )

    return train


@pytest.fixture(scope="module")
def through_proxy(cluster: Cluster) -> Iterator[dict[str, Shown]]:
    """What psql on the proxy showed of every statement."""
    database = empty_database(cluster)
    with running_proxy(cluster) as proxy:
        yield type_corpus(bounded(proxy.dsn(database)), CASES, trainer(cluster, database), directly=False)


@pytest.fixture(scope="module")
def past_proxy(cluster: Cluster) -> dict[str, Shown]:
    """What psql on the server showed, FEDERATED statements being given to federated.execute."""
    database = empty_database(cluster)
    return type_corpus(bounded(cluster.dsn(database)), DIRECT, trainer(cluster, database), directly=True)


def bounded(dsn: str) -> str:
    """A statement that waits for what never comes ends as an error."""
    return f"{dsn} options='-c statement_timeout=60s'"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_the_statement_does_what_the_language_says(case: Case, through_proxy: dict[str, Shown]) -> None:
    check(case, through_proxy[case.key], tag=case.expected.get("tag"))


@pytest.mark.parametrize("case", DIRECT, ids=lambda case: case.key)
def test_the_statement_does_the_same_without_the_proxy(case: Case, past_proxy: dict[str, Shown]) -> None:
    check(case, past_proxy[case.key], tag="CALL" if case.federated else case.expected.get("tag"))


def check(case: Case, shown: Shown, *, tag: str | None) -> None:
    expected = case.expected
    assert expected.keys() <= _FIELDS
    assert shown.presumed == ""
    if "directory" in expected and not Path(expected["directory"]).is_dir():
        assert (shown.sqlstate, shown.unchanged) == ("42704", True)
        assert shown.message == f'directory "{expected["directory"]}" does not exist'
        return
    assert (shown.sqlstate, shown.message) == (expected.get("sqlstate"), expected.get("message"))
    assert list(shown.notices) == expected.get("notices", [])
    if "sqlstate" in expected:
        assert shown.unchanged
        assert (shown.pointed or "").startswith(expected["at"]) if "at" in expected else shown.pointed is None
    elif "columns" in expected:
        assert shown.rows[0] == expected["columns"]
        if "rows" in expected:
            assert_rows(shown.rows[1:], expected["rows"])
        else:
            assert_many(shown.rows[1:], expected["among"], expected["each"])
    else:
        assert shown.output == f"{tag}\n"
        assert_rows(shown.effect, expected["shows"])


def assert_rows(found, expected) -> None:
    """Compare cell by cell; `*` stands for a value that a test cannot know, which is not NULL."""
    assert len(found) == len(expected), found
    for row, wanted in zip(found, expected, strict=True):
        assert blurred(row, wanted) == wanted


def assert_many(found, among, each) -> None:
    """Some rows are known, of the others only what their cells look like."""
    for wanted in among:
        assert wanted in [blurred(row, wanted) for row in found]
    for row in found:
        assert [cell for cell, shape in zip(row, each, strict=True) if not re.fullmatch(shape, cell)] == []


def blurred(row, wanted) -> list[str]:
    """The row, with `*` where any value will do and there is one."""
    return ["*" if want == "*" and cell else cell for cell, want in zip(row, wanted, strict=True)]


def test_the_corpus_is_whole() -> None:
    assert {case.file[:2] for case in CASES} == {"01", "02", "03", "04", "05", "06"}
    assert len(CASES) == 7 + 4 + 15 + 12 + 8 + 16
