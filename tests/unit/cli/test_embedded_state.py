"""The choices that an embedded installation makes once and keeps."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from heliosdb.cli.embedded.state import State, choose_port, plan_state, port_is_free, read_state, write_state
from heliosdb.domain.errors import ErrorCode, FederatedError


def test_a_new_installation_has_three_nodes_the_usual_proxy_port_and_no_port_twice() -> None:
    state = plan_state(None, nodes=None, proxy_port=None)
    assert state.nodes == ("node_1", "node_2", "node_3")
    assert state.clusters == ("coordinator", "node_1", "node_2", "node_3")
    assert state.proxy_port == 6432
    ports = [state.proxy_port, state.api_port, *state.databases.values(), *state.endpoints.values()]
    assert len(ports) == len(set(ports)) == 9


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = plan_state(None, nodes=2, proxy_port=0)
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state
    assert read_state(tmp_path / "absent.json") is None


def test_every_choice_is_kept_when_nothing_is_asked_for() -> None:
    state = plan_state(None, nodes=2, proxy_port=0)
    assert plan_state(state, nodes=None, proxy_port=None) == state
    assert plan_state(state, nodes=None, proxy_port=0) == state


def test_growing_keeps_the_ports_of_what_is_there() -> None:
    small = plan_state(None, nodes=1, proxy_port=0)
    large = plan_state(small, nodes=3, proxy_port=7777)
    assert large.proxy_port == 7777
    assert large.databases.items() >= small.databases.items()
    assert large.endpoints.items() >= small.endpoints.items()
    assert large.nodes == ("node_1", "node_2", "node_3")


def test_a_node_is_never_removed() -> None:
    state = plan_state(None, nodes=3, proxy_port=0)
    with pytest.raises(FederatedError) as caught:
        plan_state(state, nodes=2, proxy_port=None)
    assert caught.value.code is ErrorCode.WRONG_STATE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"format": 2}',
        json.dumps({"format": 1, "proxy_port": 1, "databases": [], "endpoints": {}}).encode(),
        json.dumps({"format": 1, "proxy_port": "x", "databases": {}, "endpoints": {}}).encode(),
    ],
)
def test_a_file_that_is_not_understood_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(FederatedError) as caught:
        read_state(path)
    assert caught.value.code is ErrorCode.WRONG_STATE
    assert path.read_bytes() == content


def test_a_port_on_which_somebody_listens_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not port_is_free(listener.getsockname()[1])
    assert port_is_free(choose_port(()))


def test_ports_are_chosen_outside_those_taken() -> None:
    free = choose_port(())
    everything_else = set(range(65536)) - {free}
    # Drawn at random, so the one port left may not be drawn; what is drawn is never a taken one.
    try:
        assert choose_port(everything_else) == free
    except FederatedError as error:
        assert error.code is ErrorCode.PROGRAM_LIMIT


def test_the_state_names_its_parts() -> None:
    state = State(proxy_port=1, databases={"coordinator": 2, "node_1": 3}, endpoints={"node_1": 4})
    assert state.clusters == ("coordinator", "node_1")
