"""Targets in containers, end to end but for Docker: the stand-in starts simulated engines, which really generate."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from engines.errors import LaunchFailed, OpeningStopped, TargetRefused
from engines.launch.container import OVERLAY_LABEL, reap_containers
from engines.launch.process import free_port
from engines.simulated.profiles import PROFILES
from engines.simulated.start import simulated_engine
from engines.spec import Container, TargetSpec
from engines.target import Site, open_target
from tests.fakes.docker_engine import DockerEngine, FakeContainer, docker_engine

NAMES = ("vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-qwen2.5-7b", "tgi-mistral-7b")
PORTS = {name: free_port() for name in NAMES}


def program(name: str) -> AbstractContextManager[Any]:
    return simulated_engine(name, port=PORTS[name], speed=50.0)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerEngine]:
    containers = (FakeContainer(name, program=lambda name=name: program(name)) for name in NAMES)  # type: ignore[misc]
    with docker_engine(tmp_path, *containers) as engine:
        yield engine


@pytest.fixture
def site(docker: DockerEngine, tmp_path: Path) -> Site:
    return Site(tmp_path / "state", docker_url=docker.url, containers=NAMES)


def spec(name: str, ready_timeout_s: float = 60.0) -> TargetSpec:
    profile = PROFILES[name]
    reach = Container(container=name, url=f"http://127.0.0.1:{PORTS[name]}", ready_timeout_s=ready_timeout_s)
    return TargetSpec(engine=profile.engine, model=profile.model.name, reach=reach, resources=("gpu:0",))


def left(site: Site) -> list[Path]:
    return list((site.state_dir / "launches").glob("*.container"))


def test_four_engines_take_twelve_turns_on_one_card_and_never_two_at_once(docker: DockerEngine, site: Site) -> None:
    a, b, c, d = NAMES
    order = [a, b, c, d, d, c, b, a, a, b, c, d]
    for name in order:
        with open_target(spec(name), site) as target:
            assert docker.running == [name]
            assert target.facts.probe["output_tokens"] == 8
            assert target.facts.startup_s is not None
            assert target.facts.flags == ("--port", "8000", "PREFIX_CACHING=0")
            assert target.facts.info["container"] == name
            assert target.facts.info["image"] == "engine:1.2.3"
            assert target.facts.info["image_digest"].startswith("sha256:")
            assert (target.pid, target.is_here) == (None, True)
            assert target.log_tail() == "loading the weights"
    assert docker.running_after_start == [[name] for name in order]
    assert docker.changes == [change for name in order for change in (f"start {name}", f"stop {name} 30")]
    assert docker.running == []
    assert left(site) == []


def test_one_that_fails_to_start_says_why_and_the_next_has_its_turn(docker: DockerEngine, site: Site) -> None:
    first, second = NAMES[:2]
    docker.containers[first].dies_with = 1
    docker.containers[first].log = "loading\nValueError: out of card memory\n"
    with pytest.raises(LaunchFailed) as failed, open_target(spec(first), site):
        pass
    assert "exit code 1" in str(failed.value)
    assert "out of card memory" in failed.value.log_tail
    with open_target(spec(second), site):
        assert docker.running == [second]
    assert docker.running == []


def test_a_cancel_while_it_starts_leaves_nothing(docker: DockerEngine, site: Site) -> None:
    asked = iter([False, False])
    # Nobody listens in it, so it would wait for the generation for ever.
    docker.containers[NAMES[0]].program = None
    with (
        pytest.raises(OpeningStopped),
        open_target(spec(NAMES[0]), site, should_stop=lambda: next(asked, True)),
    ):
        pass
    assert docker.running == []
    assert left(site) == []


def test_one_that_never_generates_fails_in_time(docker: DockerEngine, site: Site) -> None:
    docker.containers[NAMES[0]].program = None
    with (
        pytest.raises(LaunchFailed, match="was not ready within 1 s"),
        open_target(spec(NAMES[0], ready_timeout_s=1.0), site),
    ):
        pass
    assert docker.running == []


def test_the_overlay_protocol_takes_a_container_that_serves_one(docker: DockerEngine, site: Site) -> None:
    docker.containers[NAMES[2]].labels = {OVERLAY_LABEL: "true"}
    with open_target(spec(NAMES[2]), site, overlay=True) as target:
        assert target.facts.probe["output_tokens"] == 8
    with pytest.raises(TargetRefused, match=OVERLAY_LABEL), open_target(spec(NAMES[0]), site, overlay=True):
        pass


def test_a_worker_that_is_killed_in_mid_run_leaves_one_and_the_next_start_stops_it(
    docker: DockerEngine, site: Site
) -> None:
    described = spec(NAMES[0]).model_dump_json()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from engines.spec import TargetSpec; from engines.target import Site, open_target\n"
        "site = Site(Path(sys.argv[2]), docker_url=sys.argv[3], containers=(sys.argv[4],))\n"
        "with open_target(TargetSpec.model_validate_json(sys.argv[1]), site): os.kill(os.getpid(), signal.SIGKILL)"
    )
    arguments = [described, str(site.state_dir), docker.url, NAMES[0]]
    died = subprocess.run([sys.executable, "-c", code, *arguments], cwd=Path.cwd(), check=False)
    assert died.returncode == -signal.SIGKILL
    assert docker.running == [NAMES[0]]
    assert len(left(site)) == 1
    assert reap_containers(site.state_dir) == 1
    assert docker.running == []
    assert left(site) == []
