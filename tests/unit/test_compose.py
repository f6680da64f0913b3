"""docker-compose.yml fits the product: commands, settings, paths, ports, variables and roles all exist."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
import typer.main
import yaml
from cryptography import x509

from heliosdb.cli.embedded.cluster import DAEMON, READER
from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.cli.embedded.prepare import EXTENSION
from heliosdb.cli.main import app
from heliosdb.coordinator.config import load_config as load_coordinator
from heliosdb.node.config import load_config as load_node
from heliosdb.proxy.config import load_config as load_proxy

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
INIT = (ROOT / "docker/database/init.sh").read_text()

DATABASES = sorted(name for name, service in SERVICES.items() if service["build"]["target"] == "database")
DAEMONS = sorted(name for name, service in SERVICES.items() if service["build"]["target"] == "daemon")
NODES = sorted(name for name in DAEMONS if SERVICES[name]["command"][0] == "node")
LOADERS = {"proxy": load_proxy, "coordinator": load_coordinator, "node": load_node}
# What the official PostgreSQL image reads.
IMAGE_VARIABLES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS"}


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Target path → (source, read-only)."""
    parts = [str(volume).split(":") for volume in SERVICES[service]["volumes"]]
    return {part[1]: (part[0], part[2:] == ["ro"]) for part in parts}


def config_path(service: str) -> Path:
    """The file in the project that a daemon gets as its configuration."""
    command = SERVICES[service]["command"]
    target = command[command.index("--config") + 1]
    return ROOT / mounts(service)[target][0]


def settings(service: str) -> dict[str, Any]:
    return tomllib.loads(config_path(service).read_text())


def test_it_is_three_hospitals_a_coordinator_a_proxy_and_their_certificates() -> None:
    assert NODES == ["hospital-a", "hospital-b", "hospital-c"]
    assert ["coordinator-database", *(f"{node}-database" for node in NODES)] == DATABASES
    assert sorted({*DAEMONS} - {*NODES}) == ["certificates", "coordinator", "proxy"]


@pytest.mark.parametrize("service", [*DATABASES, *DAEMONS])
def test_every_image_is_a_target_of_the_dockerfile(service: str) -> None:
    build = SERVICES[service]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).samefile(ROOT / "docker/Dockerfile")
    assert re.search(rf"^FROM \S+ AS {build['target']}$", DOCKERFILE, re.MULTILINE)
    for argument in build.get("args", {}):
        assert f"ARG {argument}" in DOCKERFILE


def test_what_the_dockerfile_copies_exists() -> None:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("service", DAEMONS)
def test_every_command_and_option_exists(service: str) -> None:
    name, *rest = SERVICES[service]["command"]
    command = cast(Any, typer.main.get_command(app)).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known
    required = {p.opts[0] for p in command.params if p.required}
    assert required <= set(rest)


@pytest.mark.parametrize("service", [*NODES, "coordinator", "proxy"])
def test_every_configuration_file_is_what_its_daemon_expects(service: str) -> None:
    LOADERS[SERVICES[service]["command"][0]](config_path(service))


def made_certificates() -> set[str]:
    """The paths that the service `certificates` fills."""
    command = SERVICES["certificates"]["command"]
    assert command[command.index("--dir") + 1] == "/certificates"
    names = [command[place + 1] for place, word in enumerate(command) if word == "--name"]
    return {f"/certificates/{name}.{end}" for name in names for end in ("pem", "key")} | {
        "/certificates/ca/ca.pem"
    }


@pytest.mark.parametrize("service", [*NODES, "coordinator"])
def test_every_path_in_a_configuration_file_is_mounted_and_every_certificate_is_made(service: str) -> None:
    values = settings(service)
    for key in ("certificate", "private_key", "ca_bundle", "coordinator_certificate"):
        if key in values:
            assert values[key] in made_certificates()
    assert mounts(service)["/certificates"] == ("certificates", True)
    assert mounts(service)[values["state_directory"]] == (f"{service}-state", False)
    temporary = {entry.split(":")[0] for entry in SERVICES[service]["tmpfs"]}
    assert str(PurePosixPath(values["ready_file"]).parent) in temporary


@pytest.mark.parametrize("service", [*NODES, "coordinator", "proxy"])
def test_a_daemon_is_healthy_when_its_ready_file_says_that_it_is_up(service: str) -> None:
    command = SERVICES[service]["command"]
    ready = (
        command[command.index("--ready-file") + 1] if service == "proxy" else settings(service)["ready_file"]
    )
    assert SERVICES[service]["healthcheck"]["test"] == [
        "CMD",
        "grep",
        "-Eq",
        '"state": "ready"|"code": "extension"',
        ready,
    ]


@pytest.mark.parametrize("service", [*NODES, "coordinator"])
def test_a_daemon_shares_the_socket_of_its_own_database_only(service: str) -> None:
    database = f"{service}-database"
    socket = "/var/run/postgresql"
    assert mounts(service)[socket] == (f"{service}-socket", True)
    assert mounts(database)[socket] == (f"{service}-socket", False)
    sharing = {name for name in SERVICES if any(s == f"{service}-socket" for s, _ in mounts(name).values())}
    assert sharing == {service, database}
    environment = SERVICES[database]["environment"]
    roles = {"database": DAEMON, "reader": READER}
    for key, role in roles.items():
        if key in settings(service):
            assert settings(service)[key] == f"host={socket} user={role} dbname={environment['POSTGRES_DB']}"
    assert environment["HELIOSDB_DATABASE_OF"] == ("coordinator" if service == "coordinator" else "node")


def test_the_proxy_reaches_every_database_and_listens_on_the_published_port() -> None:
    config = load_proxy(config_path("proxy"))
    assert config.default_upstream.host == "coordinator-database"
    expected = {
        SERVICES[f"{node}-database"]["environment"]["POSTGRES_DB"]: f"{node}-database" for node in NODES
    }
    assert {name: upstream.host for name, upstream in config.routes.items()} == expected
    published = SERVICES["proxy"]["ports"]
    assert [entry.rsplit(":", 1)[1] for entry in published] == [str(config.listen_port)]
    assert all(entry.startswith("127.0.0.1:") for entry in published)
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["proxy"]


def test_clients_reach_the_proxy_by_tls_only_with_a_certificate_for_the_published_address(
    tmp_path: Path,
) -> None:
    config = load_proxy(config_path("proxy"))
    assert config.tls_required
    assert {str(config.tls_certificate), str(config.tls_key)} <= made_certificates()
    assert mounts("proxy")["/certificates"] == ("certificates", True)
    assert SERVICES["proxy"]["depends_on"]["certificates"] == {"condition": "service_completed_successfully"}
    # What the comment at the top tells clients to verify is in what the command makes.
    made = ensure_identity(
        ensure_authority(tmp_path / "ca"), tmp_path, str(PurePosixPath(str(config.tls_certificate)).stem)
    )
    names = x509.load_pem_x509_certificate(made.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    head = (ROOT / "docker-compose.yml").read_text().partition("\nname:")[0]
    [host] = set(re.findall(r"postgres@([0-9.]+):", head))
    assert ipaddress.ip_address(host) in names.value.get_values_for_type(x509.IPAddress)
    assert "PGSSLMODE=verify-full" in head
    [copied] = re.findall(r"docker compose cp (\S+) ca\.pem", head)
    service, _, path = copied.partition(":")
    assert path in made_certificates()
    assert "/certificates" in mounts(service)


@pytest.mark.parametrize("node", NODES)
def test_a_nodes_certificate_names_the_host_by_which_it_is_dialled(node: str) -> None:
    assert settings(node)["certificate"] == f"/certificates/{node}.pem"
    assert load_node(config_path(node)).listen_port == 8443
    assert load_node(config_path(node)).listen_host == "0.0.0.0"


def test_every_volume_is_declared_and_every_declared_volume_is_used() -> None:
    named = {source for name in SERVICES for source, _ in mounts(name).values() if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])


def test_only_healthy_or_finished_services_are_waited_for() -> None:
    for service in SERVICES.values():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("service", DATABASES)
def test_every_variable_of_a_database_is_read_by_the_image_or_by_our_script(service: str) -> None:
    variables = set(SERVICES[service]["environment"])
    assert variables - IMAGE_VARIABLES == {name for name in variables if f"${name}" in INIT} - IMAGE_VARIABLES
    assert variables > IMAGE_VARIABLES


def test_the_file_holds_no_secret() -> None:
    assert COMPOSE["secrets"] == {"postgres_password": {"environment": "HELIOSDB_POSTGRES_PASSWORD"}}
    for name in DATABASES:
        assert SERVICES[name]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
        assert SERVICES[name]["secrets"] == ["postgres_password"]
    assert all("environment" not in SERVICES[name] for name in DAEMONS)


def test_the_databases_are_prepared_with_the_roles_and_the_extension_of_the_product() -> None:
    assert f"CREATE ROLE {DAEMON} LOGIN IN ROLE federated_daemon" in INIT
    assert f"CREATE ROLE {READER} LOGIN IN ROLE federated_reader" in INIT
    assert f"CREATE EXTENSION {EXTENSION}" in INIT
    ident = (ROOT / "docker/database/pg_ident.conf").read_text()
    mapped = {tuple(line.split()) for line in ident.splitlines() if not line.startswith("#")}
    assert mapped == {("heliosdb", "heliosdb", DAEMON), ("heliosdb", "heliosdb", READER)}


def test_nobody_is_trusted() -> None:
    lines = (ROOT / "docker/database/pg_hba.conf").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules
    assert {rule[4 if rule[0] == "host" else 3] for rule in rules} == {"peer", "scram-sha-256"}


def test_the_daemons_have_the_same_user_number_in_both_images() -> None:
    numbers = re.findall(r"useradd --uid (\d+) .* heliosdb", DOCKERFILE)
    assert len(numbers) == 2
    assert len(set(numbers)) == 1
    for name in DAEMONS:
        assert all(f"uid={numbers[0]}," in entry for entry in SERVICES[name]["tmpfs"])
