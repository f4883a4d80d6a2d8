"""From what the Docker Engine says to what is to be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import LaunchFailed
from engines.launch.container_api import ContainerState
from services.cli.checks.docker import DockerFacts, compose_containers, image_needs, judge_docker, read_docker
from services.cli.checks.finding import Finding, State
from tests.unit.test_compose import ENGINES, SERVICES


def container(name: str, *environment: str, running: bool = False, image: str = "engine:1.2") -> ContainerState:
    state = _described(name, running, image)
    return replace(state, environment=environment)


def _described(name: str, running: bool, image: str) -> ContainerState:
    from engines.launch.container_api import _state

    return _state(name, {"State": {"Running": running}, "Config": {"Image": image}})


THERE = DockerFacts(
    url="unix:///var/run/docker.sock",
    is_configured=True,
    containers=(container("a"), container("b")),
    socket_group=999,
    toolkit=("nvidia-ctk",),
)


def judged(
    facts: DockerFacts, *, has_cards: bool = True, demanded: bool = False, gid: str = "999"
) -> dict[str, Finding]:
    return {one.check: one for one in judge_docker(facts, has_cards=has_cards, demanded=demanded, gid=gid)}


def test_all_in_order_wants_nothing() -> None:
    assert {one.state for one in judged(THERE).values()} == {State.OK}


def test_without_docker_a_laptop_lacks_nothing_and_a_gpu_host_is_warned() -> None:
    nothing = DockerFacts(None)
    assert {one.state for one in judged(nothing, has_cards=False).values()} == {State.NOT_APPLICABLE}
    found = judged(nothing)["Docker Engine"]
    assert found.state is State.WARN
    assert "docker compose --profile gpu create" in found.mend


@pytest.mark.parametrize(
    ("url", "error", "mend"),
    [
        ("unix:///var/run/docker.sock", "Connection refused", "systemctl start docker"),
        ("unix:///var/run/docker.sock", "Permission denied", "usermod -aG docker"),
        ("tcp://docker-proxy:2375", "Name or service not known", "up -d docker-proxy"),
    ],
)
def test_an_engine_that_does_not_answer_is_a_fail_where_it_is_configured(url: str, error: str, mend: str) -> None:
    facts = DockerFacts(url, is_configured=True, error=error)
    assert judged(facts)["Docker Engine"].state is State.FAIL
    assert mend in judged(facts)["Docker Engine"].mend
    assert judged(replace(facts, is_configured=False))["Docker Engine"].state is State.WARN


def test_a_container_that_runs_is_named_with_the_way_to_stop_it() -> None:
    found = judged(replace(THERE, containers=(container("a", running=True), container("b"))))["engine containers"]
    assert (found.state, found.mend) == (State.WARN, "docker stop a, unless a job is under way")


def test_a_container_that_is_not_there_is_told() -> None:
    facts = replace(THERE, containers=(container("a"), LaunchFailed("there is no container 'b'", field="x")))
    found = judged(facts)["engine containers"]
    assert (found.state, found.seen) == (State.FAIL, "1 of 2 are there; there is no container 'b'")
    assert judged(replace(facts, is_configured=False))["engine containers"].state is State.WARN


def test_without_the_toolkit_no_container_gets_the_card() -> None:
    bare = replace(THERE, toolkit=())
    assert judged(bare)["container toolkit"].state is State.FAIL
    assert "nvidia-ctk runtime configure --runtime=docker" in judged(bare)["container toolkit"].mend
    assert judged(bare, has_cards=False)["container toolkit"].state is State.NOT_APPLICABLE
    assert judged(replace(bare, in_container=True))["container toolkit"].state is State.NOT_APPLICABLE


def test_the_proxy_must_be_in_the_socket_s_group() -> None:
    found = judged(THERE, gid="998")["Docker socket's group"]
    assert (found.state, found.mend) == (State.FAIL, "DOCKER_GID=999 in .env")


def test_what_an_image_needs_is_taken_from_its_container_where_there_is_one() -> None:
    told = "NVIDIA_REQUIRE_CUDA=cuda>=12.9 brand=unknown,driver>=535,driver<536 brand=tesla,driver>=535,driver<536"
    facts = replace(THERE, containers=(container("a", "PATH=/", told, image="vllm:1"), container("b", image="tgi:2")))
    assert image_needs(facts, {"vllm:1": (13, 0), "tgi:2": (12, 4)}) == {"vllm:1": (12, 9), "tgi:2": (12, 4)}


def test_the_containers_asked_for_are_those_of_docker_compose() -> None:
    assert {*compose_containers()} == {SERVICES[name]["container_name"] for name in ENGINES}


def test_toolkit_and_container_are_seen_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_docker(None, (), tmp_path) == DockerFacts(None)
    (tmp_path / ".dockerenv").touch()
    (tmp_path / "etc/cdi").mkdir(parents=True)
    (tmp_path / "etc/cdi/nvidia.yaml").touch()
    program = tmp_path / "nvidia-ctk"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = read_docker(None, (), tmp_path)
    assert found.toolkit == ("nvidia-ctk", str(tmp_path / "etc/cdi/nvidia.yaml"))
    assert found.in_container
