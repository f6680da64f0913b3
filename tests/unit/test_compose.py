"""docker-compose.yml fits the product: commands, settings, paths, ports, variables and roles all exist.

No engine runs here: what compose makes of the file is known from its specification.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import sys
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
TEXT = (ROOT / "docker-compose.yml").read_text()
HEAD = TEXT.partition("\nname:")[0]
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
INIT = (ROOT / "docker/database/init.sh").read_text()

DATABASES = sorted(name for name, service in SERVICES.items() if service["image"] == "heliosdb/database")
DAEMONS = sorted(name for name, service in SERVICES.items() if service["image"] == "heliosdb/daemon")
ISSUER = "certificates"
LONG_RUNNING = sorted({*DAEMONS} - {ISSUER})
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
    return project_file(service, argument(SERVICES[service]["command"], "--config"))


def argument(command: list[str], option: str) -> str:
    """What follows an option of a command."""
    return command[command.index(option) + 1]


def project_file(service: str, target: str) -> Path:
    """The file in the project that a container sees at a path."""
    path = PurePosixPath(target)
    return ROOT / mounts(service)[str(path.parent)][0] / path.name


def volumes_of(service: str) -> set[str]:
    """The named volumes that a service sees."""
    return {source for source, _ in mounts(service).values() if not source.startswith(".")}


def waited_for(service: str) -> set[str]:
    """What a service depends on, however indirectly."""
    direct = set(SERVICES[service].get("depends_on", {}))
    return direct.union(*map(waited_for, direct))


def settings(service: str) -> dict[str, Any]:
    return tomllib.loads(config_path(service).read_text())


def test_it_is_three_hospitals_a_coordinator_a_proxy_and_their_certificates() -> None:
    assert NODES == ["hospital-a", "hospital-b", "hospital-c"]
    assert ["coordinator-database", *(f"{node}-database" for node in NODES)] == DATABASES
    assert sorted({*DAEMONS} - {*NODES}) == ["certificates", "coordinator", "proxy"]


@pytest.mark.parametrize("image", ["heliosdb/database", "heliosdb/daemon"])
def test_an_image_is_built_by_one_service_and_the_others_wait_for_that_one(image: str) -> None:
    users = [name for name, service in SERVICES.items() if service["image"] == image]
    [builder] = [name for name in users if "build" in SERVICES[name]]
    assert all(builder in waited_for(name) for name in users if name != builder)
    build = SERVICES[builder]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).samefile(ROOT / "docker/Dockerfile")
    assert f"heliosdb/{build['target']}" == image
    stage = re.search(
        rf"^FROM \S+ AS {build['target']}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL
    )
    assert stage is not None
    for name in build["args"]:
        assert re.search(rf"^ARG {name}\b", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("service", [*DATABASES, *DAEMONS])
def test_no_image_is_looked_for_in_a_registry(service: str) -> None:
    assert SERVICES[service]["pull_policy"] == "never"


def test_the_compose_version_that_it_needs_is_said() -> None:
    assert re.search(r"^# For Compose \d+\.\d+ or newer", HEAD, re.MULTILINE)


@pytest.mark.parametrize("service", [*DATABASES, *DAEMONS])
def test_nothing_runs_with_more_rights_than_it_needs(service: str) -> None:
    settings = SERVICES[service]
    assert settings["cap_drop"] == ["ALL"]
    assert "cap_add" not in settings
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in settings


def test_databases_run_as_the_user_that_owns_their_volumes() -> None:
    assert {SERVICES[name]["user"] for name in DATABASES} == {"postgres"}
    assert re.search(r"^USER postgres$", DOCKERFILE, re.MULTILINE)
    for name in DATABASES:
        # The directories that the official image gives to postgres; a volume elsewhere would be root's.
        writable = {target for target, (_, read_only) in mounts(name).items() if not read_only}
        assert writable == {"/var/lib/postgresql/data", "/var/run/postgresql"}


@pytest.mark.parametrize("service", DAEMONS)
def test_a_daemon_writes_to_its_volumes_and_to_memory_only(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    temporary = {entry.split(":")[0] for entry in SERVICES[service]["tmpfs"]}
    assert temporary == {"/run/heliosdb", "/tmp"}


@pytest.mark.parametrize("service", [*DATABASES, *DAEMONS])
def test_memory_processes_and_logs_are_bounded(service: str) -> None:
    settings = SERVICES[service]
    assert re.fullmatch(r"\d+g", settings["mem_limit"])
    assert 0 < settings["pids_limit"] <= 512
    assert settings["logging"] == {"driver": "local", "options": {"max-size": "10m", "max-file": "5"}}


@pytest.mark.parametrize("node", NODES)
def test_a_training_process_stays_below_its_containers_memory(node: str) -> None:
    assert load_node(config_path(node)).max_memory_gb < int(SERVICES[node]["mem_limit"].rstrip("g"))


@pytest.mark.parametrize("service", [*DATABASES, *DAEMONS])
def test_no_single_file_is_mounted(service: str) -> None:
    # A file that is replaced by renaming, as editors do, would be the old one in the container.
    for source, _ in mounts(service).values():
        assert not source.startswith(".") or (ROOT / source).is_dir()


def test_every_variable_has_a_default_or_is_required_before_anything_starts() -> None:
    uncommented = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    variables = re.findall(r"(?<!\$)\$\{(\w+)(:[-?])([^}]*)\}", uncommented)
    assert len(variables) == len(re.findall(r"(?<!\$)\$(?!\$)", uncommented))
    required = {name: text for name, kind, text in variables if kind == ":?"}
    assert set(required) == {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert all("set it in the environment or in .env" in text for text in required.values())
    for ignoring in (".gitignore", ".dockerignore"):
        assert ".env" in (ROOT / ignoring).read_text().splitlines()


@pytest.mark.parametrize(
    ("major", "accepted"), [("14", True), ("17", True), ("13", False), ("18", False), ("", False)]
)
def test_a_version_of_postgresql_with_another_layout_is_refused(major: str, accepted: bool) -> None:
    script = ROOT / "docker/database/supported.sh"
    ended = subprocess.run(["sh", str(script), major], capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) == accepted
    assert ended.stdout == ""
    assert ("14 to 17" in ended.stderr) == (not accepted)
    # Before anything else of the image is made.
    first = re.search(r"^FROM postgres:\S+ AS server\n(?:(?!^RUN).*\n)*RUN (.*)$", DOCKERFILE, re.MULTILINE)
    assert first is not None
    assert first[1] == 'heliosdb-supported "${POSTGRES_MAJOR}"'
    assert f"COPY {script.relative_to(ROOT)} /usr/local/bin/heliosdb-supported" in DOCKERFILE
    assert os.access(script, os.X_OK)


def test_what_only_building_needs_is_in_neither_image() -> None:
    stages = {
        name: (base, text)
        for base, name, text in re.findall(
            r"^FROM (\S+) AS (\w+)$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL
        )
    }
    for target in ("database", "daemon"):
        base, text = stages[target]
        while base in stages:
            base, below = stages[base]
            text += below
        assert not re.search(r"\bpip install|\bmake\b|python3-venv|binutils", text)


def test_what_the_dockerfile_copies_exists() -> None:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        if not line.startswith("--from="):
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


def identities() -> list[str]:
    """Who is issued a certificate."""
    command = SERVICES[ISSUER]["command"]
    return [command[place + 1] for place, word in enumerate(command) if word == "--name"]


def visible_files(service: str) -> set[str]:
    """The paths of certificates and keys that a service sees, by what the issuing service writes where."""
    command = SERVICES[ISSUER]["command"]
    assert "--apart" in command
    assert argument(command, "--dir") == "/certificates"
    public = {f"{name}.pem" for name in identities()} | {"ca.pem"}
    written = {"public-certificates": public, "authority": {"ca.pem", "ca.key"}}
    written |= {f"{name}-identity": {f"{name}.pem", f"{name}.key"} for name in identities()}
    return {
        f"{target}/{file}"
        for target, (source, _) in mounts(service).items()
        for file in written.get(source, set())
    }


def test_the_issuing_service_has_every_volume_that_it_fills_where_the_command_writes() -> None:
    expected = {f"/certificates/{name}": (f"{name}-identity", False) for name in identities()}
    expected |= {
        "/certificates/ca": ("authority", False),
        "/certificates/public": ("public-certificates", False),
    }
    assert mounts(ISSUER) == expected
    # Their owner is that of the image's directories.
    assert SERVICES[ISSUER]["build"]["args"]["IDENTITIES"].split() == identities()
    assert "for name in ca ${IDENTITIES}" in DOCKERFILE
    assert sorted(identities()) == LONG_RUNNING


@pytest.mark.parametrize("service", sorted({*SERVICES} - {ISSUER}))
def test_nobody_sees_the_key_of_another_or_of_the_authority(service: str) -> None:
    keys = {path for path in visible_files(service) if path.endswith(".key")}
    assert keys == ({f"/certificates/{service}/{service}.key"} if service in LONG_RUNNING else set())
    assert "authority" not in volumes_of(service)


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_every_path_in_a_configuration_file_is_mounted_and_every_certificate_is_made(service: str) -> None:
    values = settings(service)
    named = (
        "certificate",
        "private_key",
        "ca_bundle",
        "coordinator_certificate",
        "tls_certificate",
        "tls_key",
    )
    assert {values[key] for key in named if key in values} <= visible_files(service)
    assert all(read_only for target, (_, read_only) in mounts(service).items() if "/certificates" in target)
    if service != "proxy":
        assert mounts(service)[values["state_directory"]] == (f"{service}-state", False)
        temporary = {entry.split(":")[0] for entry in SERVICES[service]["tmpfs"]}
        assert str(PurePosixPath(values["health_socket"]).parent) in temporary


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_a_daemon_is_healthy_while_it_answers(service: str) -> None:
    check = SERVICES[service]["healthcheck"]
    kind = SERVICES[service]["command"][0]
    config = argument(SERVICES[service]["command"], "--config")
    entry_point = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[0])
    assert check["test"] == ["CMD", *entry_point, "health", kind, "--config", config]
    command = cast(Any, typer.main.get_command(app)).commands["health"]
    [limit] = [parameter for parameter in command.params if parameter.name == "timeout"]
    assert limit.default < float(check["timeout"].rstrip("s"))


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_the_health_command_of_a_container_runs(service: str, tmp_path: Path) -> None:
    words = SERVICES[service]["healthcheck"]["test"]
    local = [sys.executable, *words[2:-1], str(config_path(service))]
    ended = subprocess.run(local, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    # The settings are read, and what they name is missed: nothing of it is on this machine.
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith(f"{words[5]}: ")
    assert "setting" not in ended.stdout


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
    assert {str(config.tls_certificate), str(config.tls_key)} <= visible_files("proxy")
    assert SERVICES["proxy"]["depends_on"]["certificates"] == {"condition": "service_completed_successfully"}
    # What the comment at the top tells clients to verify is in what the command makes.
    made = ensure_identity(
        ensure_authority(tmp_path / "ca"), tmp_path, str(PurePosixPath(str(config.tls_certificate)).stem)
    )
    names = x509.load_pem_x509_certificate(made.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    [host] = set(re.findall(r"postgres@([0-9.]+):", HEAD))
    assert ipaddress.ip_address(host) in names.value.get_values_for_type(x509.IPAddress)
    assert "PGSSLMODE=verify-full" in HEAD
    [copied] = re.findall(r"docker compose cp (\S+) ca\.pem", HEAD)
    service, _, path = copied.partition(":")
    assert path in visible_files(service)


def test_the_coordinators_database_reads_the_certificates_by_which_nodes_are_registered() -> None:
    [named] = re.findall(r"certificate = '(\S+)'", HEAD)
    assert named in visible_files("coordinator-database")


@pytest.mark.parametrize("node", NODES)
def test_a_nodes_certificate_names_the_host_by_which_it_is_dialled(node: str) -> None:
    assert settings(node)["certificate"] == f"/certificates/{node}/{node}.pem"
    assert load_node(config_path(node)).listen_port == 8443
    assert load_node(config_path(node)).listen_host == "0.0.0.0"


def test_every_volume_is_declared_and_every_declared_volume_is_used() -> None:
    assert set().union(*map(volumes_of, SERVICES)) == set(COMPOSE["volumes"])


def test_healthy_or_finished_services_are_waited_for_and_images() -> None:
    for service in SERVICES.values():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            elif wait["condition"] == "service_completed_successfully":
                assert SERVICES[other]["restart"] == "no"
            else:
                # Where nothing but the image is waited for.
                assert wait["condition"] == "service_started"
                assert "build" in SERVICES[other]
                assert SERVICES[other]["image"] == service["image"]


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


def test_the_pages_name_what_is_there() -> None:
    pages = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("operations", "proxy", "quick_start")}
    # After `kill -s` the engine does not start a container again that crashes later.
    for page in pages.values():
        for told in re.findall(r"`(docker compose kill[^`]*)`", page):
            assert f"Not\n  `{told}`" in page or f"why not `{told}`" in page
    assert all(
        "docker compose exec proxy sh -c 'kill -HUP 1'" in pages[name] for name in ("operations", "proxy")
    )
    for path in re.findall(r"`(docker/config/[a-z.\-/]+)`", "".join(pages.values())):
        assert (ROOT / path).exists()
    for text in pages.values():
        for named in re.findall(r"'(/certificates/\S+?)'", text):
            assert named in visible_files("coordinator-database")
    needed = re.search(r"Compose (\d+\.\d+) or newer", HEAD)
    assert needed is not None
    assert needed[0] in pages["operations"]
    for limited in NODES:
        assert f"{SERVICES[limited]['mem_limit'].rstrip('g')} GiB" in pages["operations"]
