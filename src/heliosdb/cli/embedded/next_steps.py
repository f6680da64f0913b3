"""What `heliosdb up` says when all is ready: to a person what to type next, to a program where everything is.

What always holds: what is shown on a terminal can be typed as it stands, and no password is shown there: the
commands read it from its file.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from heliosdb.cli.embedded.layout import COORDINATOR
from heliosdb.cli.embedded.prepare import PAGE_ROLE
from heliosdb.cli.embedded.up import Installation, page_url
from heliosdb.domain.wording import counted


def facts_line(facts: Mapping[str, object]) -> str:
    """Where everything is, as one line of JSON."""
    return json.dumps(facts)


def next_steps(installation: Installation) -> Iterator[str]:
    """The lines for a person: how to get in, first statements, where logs and files are."""
    layout, state = installation.layout, installation.state
    count = counted(len(state.nodes), "node")
    yield f"Ready: a coordinator, {count} and a proxy run in {layout.root}."
    yield ""
    yield from _workspace(installation)
    if state.nodes:
        yield from _to_a_prediction(installation)
    if installation.has_page:
        yield f"A page to look at: {page_url(installation)}"
        yield "Once the extension is there, this makes a token to log in with:"
        yield ""
        token = f"SELECT federated_create_token('{PAGE_ROLE}', '1 day')"
        yield f'  {_psql(installation, COORDINATOR)} -Atc "{token}"'
        yield ""
    program = command()
    yield f"  {_password(installation)} {program} status --dsn {shlex.quote(_dsn(installation))}"
    yield f"    shows workspaces, nodes, runs and budgets; {program} doctor looks for what is in the way."
    yield ""
    yield f"Logs: {layout.log_directory}   settings: {layout.config_file(COORDINATOR).parent}"
    yield f"For programs: {program} up --json. Ctrl-C stops everything; the data stay."


def command() -> str:
    """How this program is called in a shell: `heliosdb` only where the PATH leads to this very one."""
    started = Path(sys.argv[0])
    if started.suffix == ".py":  # python -m
        return f"{shlex.quote(sys.executable)} -m heliosdb.cli.main"
    found = shutil.which("heliosdb")
    is_found = found is not None and Path(found).resolve() == started.resolve()
    return "heliosdb" if is_found else shlex.quote(str(started.absolute()))


def _workspace(installation: Installation) -> Iterator[str]:
    """A workspace with every node in it."""
    state = installation.state
    yield "In another terminal, at the coordinator:"
    yield ""
    yield f"  {_psql(installation, COORDINATOR)}"
    yield ""
    yield "  CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning;"
    enough = " WITH (min_nodes = 1)" if len(state.nodes) < 2 else ""
    yield f"  CREATE FEDERATED WORKSPACE clinics{enough};"
    for name in state.nodes:
        certificate = installation.certificates.identities[name].certificate
        yield f"  REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics"
        yield (
            f"    WITH (endpoint = 'https://localhost:{state.endpoints[name]}',"
            f" certificate = {_literal(str(certificate))});"
        )
    yield ""


def _to_a_prediction(installation: Installation) -> Iterator[str]:
    """The fewest statements that end in a prediction: rows at each node, and a model over all of them."""
    first, *others = installation.state.nodes
    yield f"At each node a table of its own is shared; at {first}:"
    yield ""
    yield f"  {_psql(installation, first)}"
    yield ""
    yield "  CREATE TABLE patients (patient_id integer PRIMARY KEY, age integer, ill boolean);"
    yield "  INSERT INTO patients SELECT n, 20 + n % 60, random() < (n % 60) / 60.0"
    yield "    FROM generate_series(1, 600) AS n;"
    yield "  CREATE FEDERATED DATASET patients FOR TABLE patients (age, ill) IN WORKSPACE clinics"
    yield "    WITH (subject = 'patient_id');"
    yield ""
    if others:
        databases = (f"-d {_database(installation, name)}" for name in others)
        yield f"The same at each other node: {', '.join(databases)}."
    yield "Then at the coordinator again:"
    yield ""
    yield "  CREATE FEDERATED MODEL illness IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
    yield "    features = ['age'], target = 'ill', optimizer = 'newton');"
    yield "  START FEDERATED TRAINING illness;"
    yield "  SELECT wait_for_convergence('illness', timeout_seconds => 120);"
    yield "  SELECT federated_predict('illness', age => 61);"
    yield ""
    yield "docs/quick_start.md goes on: privacy budgets, the model at the nodes, erasures, reports."
    yield ""


def _psql(installation: Installation, name: str) -> str:
    port, database = installation.state.proxy_port, _database(installation, name)
    return f"{_password(installation)} psql -h 127.0.0.1 -p {port} -U postgres -d {database}"


def _password(installation: Installation) -> str:
    path = shlex.quote(str(installation.layout.superuser_password_file))
    return f'PGPASSWORD="$(cat {path})"'


def _dsn(installation: Installation) -> str:
    database = _database(installation, COORDINATOR)
    return f"host=127.0.0.1 port={installation.state.proxy_port} user=postgres dbname={database}"


def _database(installation: Installation, name: str) -> str:
    return next(cluster.database for cluster in installation.clusters if cluster.name == name)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
