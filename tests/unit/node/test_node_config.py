"""A node's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.node.config import load_config
from heliosdb.node.dask_place import DaskPlace

WHOLE = """
database = "host=/tmp password=hunter2"
reader = "host=/tmp user=reader"
certificate = "c.pem"
private_key = "k.pem"
coordinator_certificate = "p.pem"
state_directory = "state"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_modules_of_further_parts_are_named_as_they_are_imported(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE)).parts == ()
    assert load_config(write(tmp_path, WHOLE + 'parts = ["site.parts"]')).parts == ("site.parts",)
    with pytest.raises(FederatedError, match=r'"parts\.0"') as caught:
        load_config(write(tmp_path, WHOLE + 'parts = ["a b"]'))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["database", "reader"])
def test_what_is_no_connection_string_is_refused_without_being_quoted(tmp_path: Path, key: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.startswith(f"{key} ")]
    text = "\n".join([*lines, f'{key} = "host=/tmp password=hunter2 hunter3"'])
    with pytest.raises(FederatedError, match=f'"{key}".*it is no connection string') as caught:
        load_config(write(tmp_path, text))
    assert "hunter" not in str(caught.value)


def test_a_node_that_dials_listens_nowhere_and_may_have_several_addresses(tmp_path: Path) -> None:
    one = load_config(write(tmp_path, WHOLE + 'dial = "https://c.example:8444"'))
    two = load_config(write(tmp_path, WHOLE + 'dial = ["https://c.example:8444", "https://d.example:8444"]'))
    assert one.dial == ("https://c.example:8444",)
    assert two.dial == ("https://c.example:8444", "https://d.example:8444")
    assert load_config(write(tmp_path, WHOLE)).dial == ()


def test_a_node_that_flower_reaches_has_a_socket(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE + 'flower_socket = "/run/f/n.sock"')).flower_socket == Path(
        "/run/f/n.sock"
    )
    assert load_config(write(tmp_path, WHOLE)).flower_socket is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('flower_socket = "/s"\nlisten_port = 8443', "listen_port has no effect with flower_socket"),
        ('flower_socket = "/s"\ndial = "https://c.example:1"', "dial has no effect with flower_socket"),
        (
            'flower_socket = "/s"\nkeepalive_interval = 9',
            "keepalive_interval has no effect with flower_socket",
        ),
        ('dial = "c.example:8444"', "https://host:port"),
        ('dial = ["https://c.example:8444", "https://c.example"]', "https://host:port"),
        ('dial = "https://c.example:8444"\nlisten_port = 8443', "listen_port has no effect with dial"),
        ('dial = "https://c.example:8444"\nlisten_host = "::"', "listen_host has no effect with dial"),
        ('proxy = "http://p.example:3128"', "proxy has no effect without dial"),
        ("keepalive_interval = 10", "keepalive_interval has no effect without dial"),
        ('dial = "https://c.example:8444"\nproxy = "p.example:3128"', "host:port"),
        ('dial = "https://c.example:8444"\nproxy = "https://u:hunter2@p.example:3128"', "http://"),
        ('dial = "https://c.example:8444"\nproxy = "http://u:hunter2@p.example:99999"', "http://"),
    ],
)
def test_settings_that_say_how_a_node_is_reached_fit_together(
    tmp_path: Path, settings: str, said: str
) -> None:
    with pytest.raises(FederatedError, match=said) as caught:
        load_config(write(tmp_path, WHOLE + settings))
    assert "hunter2" not in str(caught.value)


def test_a_proxy_s_password_is_shown_nowhere(tmp_path: Path) -> None:
    text = 'dial = "https://c.example:8444"\nproxy = "http://u:hunter2@p.example:3128"'
    config = load_config(write(tmp_path, WHOLE + text))
    assert config.proxy is not None
    assert config.proxy.get_secret_value() == "http://u:hunter2@p.example:3128"
    assert "hunter2" not in repr(config)


SCHEDULER = """
engine = "dask"
[dask]
scheduler = "tls://127.0.0.1:8786"
certificate = "c.pem"
private_key = "k.pem"
ca = "ca.pem"
reader = "host=db user=reader"
"""


def test_an_engine_has_workers_of_its_own_or_those_of_a_scheduler(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE)).engine_place is None
    local = load_config(write(tmp_path, WHOLE + 'engine = "dask"\n[dask]\nworkers = 3\n')).engine_place
    assert local == DaskPlace(workers=3)
    assert local is not None
    assert DaskPlace.from_json(local.to_json()) == local
    place = load_config(write(tmp_path, WHOLE + SCHEDULER)).engine_place
    assert place == DaskPlace(0, "tls://127.0.0.1:8786", "ca.pem", "c.pem", "k.pem", "host=db user=reader")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('engine = "spark"', "engine"),
        ('engine = "dask"', "toml are wrong: engine = 'dask' and a table .dask. go together"),
        ("[dask]\nworkers = 2", "go together"),
        ('engine = "dask"\n[dask]', "either workers or scheduler"),
        ('engine = "dask"\n[dask]\nworkers = 0', "dask.workers"),
        ('engine = "dask"\n[dask]\nworkers = 2\nca = "ca.pem"', "ca has no effect with workers"),
        (SCHEDULER + "workers = 2\n", "either workers or scheduler"),
        (
            SCHEDULER.replace("tls://", "tcp://"),
            'dask.scheduler" of .* is wrong: it is not of the form tls://host:port',
        ),
        (SCHEDULER.replace('ca = "ca.pem"\n', ""), "scheduler needs certificate, private_key, ca, reader"),
        (SCHEDULER.replace("user=reader", "user=reader password=hunter2"), "reader holds a password"),
    ],
)
def test_what_an_engine_lacks_or_would_not_heed_is_named(tmp_path: Path, settings: str, said: str) -> None:
    with pytest.raises(FederatedError, match=said) as caught:
        load_config(write(tmp_path, WHOLE + settings))
    assert "hunter" not in str(caught.value)


def test_rows_never_lie_beside_keys(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE)).scratch == Path("state/scratch")
    own = load_config(write(tmp_path, WHOLE + 'scratch_directory = "rows"'))
    assert own.scratch == Path("rows")
    for place in (".", "state"):
        with pytest.raises(FederatedError, match="scratch_directory holds keys, or the state directory"):
            load_config(write(tmp_path, WHOLE + f'scratch_directory = "{place}"'))
    keyed = 'scratch_directory = "rows"\n[root_key]\nfile = "rows/root.key"'
    with pytest.raises(FederatedError, match="scratch_directory holds keys"):
        load_config(write(tmp_path, WHOLE + keyed))


def test_the_confinement_of_nodes_with_workers_cannot_be_required(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE)).confinement == "available"
    required = 'confinement = "required"\n'
    assert load_config(write(tmp_path, WHOLE + required)).confinement == "required"
    with pytest.raises(FederatedError, match="confinement = 'required' needs engine = 'process'"):
        load_config(write(tmp_path, WHOLE + required + 'engine = "dask"\n[dask]\nworkers = 2\n'))
