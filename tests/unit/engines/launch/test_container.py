"""A turn in a container, against a stand-in of the Docker Engine: which calls, in which order, and what is left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.errors import LaunchFailed, TargetRefused
from engines.launch.container import OVERLAY_LABEL, LaunchedContainer, reap_containers, run_container
from engines.launch.container_api import DockerClient, plain_log
from engines.launch.keeper import started_at
from engines.launch.orphans import boot_id, launches_folder, reap_orphans
from engines.spec import Container
from tests.fakes.docker_engine import DockerEngine, FakeContainer, docker_engine

NAMES = ("vllm", "tgi", "other-card", "not-created")


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerEngine]:
    containers = (FakeContainer("vllm"), FakeContainer("tgi"), FakeContainer("other-card", resources="gpu:1"))
    with docker_engine(tmp_path, *containers) as engine:
        yield engine


def reach(name: str = "vllm", stop_timeout_s: float = 7.0) -> Container:
    return Container(container=name, url="http://127.0.0.1:8000", stop_timeout_s=stop_timeout_s)


def records(state: Path) -> list[Path]:
    return sorted(launches_folder(state).glob("*.container*"))


def test_a_turn_is_inspect_start_stop_and_a_look_that_it_is_gone(docker: DockerEngine, tmp_path: Path) -> None:
    with run_container(reach(), docker.url, ("vllm",), tmp_path) as container:
        assert docker.running == ["vllm"]
        assert container.exit_code is None
        assert container.pid is None
        assert container.log_tail() == "loading the weights"
        assert container.flags == ("--port", "8000", "PREFIX_CACHING=0")
        assert container.info == {"container": "vllm", "image": "engine:1.2.3", "image_digest": "sha256:" + "ab" * 32}
        assert len(records(tmp_path)) == 1
        during = len(docker.calls)
    assert docker.calls[:3] == [
        ("GET", "/containers/vllm/json"),
        ("POST", "/containers/vllm/start"),
        ("GET", "/containers/vllm/json"),
    ]
    look = ("GET", "/containers/vllm/json")
    assert docker.calls[during:] == [look, ("POST", "/containers/vllm/stop?t=7"), look]
    assert docker.running == []
    assert records(tmp_path) == []


def test_whoever_else_is_on_the_card_is_stopped_first_and_nobody_on_another(
    docker: DockerEngine, tmp_path: Path
) -> None:
    for one in docker.containers.values():
        one.start()
    with run_container(reach(), docker.url, NAMES, tmp_path):
        assert sorted(docker.running) == ["other-card", "vllm"]
    # One that ran already is started afresh: its start-up, caches and counters are this run's own.
    assert docker.changes == ["stop vllm 30", "stop tgi 30", "start vllm", "stop vllm 7"]


def test_a_container_on_a_card_that_the_run_does_not_hold_is_not_started(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["vllm"].start()
    turn = run_container(reach("tgi"), docker.url, NAMES, tmp_path, holds={"gpu:1"})
    with pytest.raises(TargetRefused, match="occupies gpu:0") as refused, turn:
        pass
    assert refused.value.field == "resources"
    assert docker.running == ["vllm"]
    with run_container(reach("tgi"), docker.url, NAMES, tmp_path, holds={"gpu:0", "gpu:1"}):
        assert docker.running == ["tgi"]


def test_turns_never_overlap_and_nothing_is_left(docker: DockerEngine, tmp_path: Path) -> None:
    order = ["vllm", "tgi", "tgi", "vllm"] * 3
    for name in order:
        with run_container(reach(name), docker.url, NAMES, tmp_path):
            pass
    assert docker.running_after_start == [[name] for name in order]
    assert [change for change in docker.changes if change.startswith("start")] == [f"start {name}" for name in order]
    assert docker.running == []
    assert records(tmp_path) == []


def test_nothing_is_started_beside_one_that_cannot_be_stopped(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["tgi"].start()
    docker.containers["tgi"].immortal = True
    with (
        pytest.raises(LaunchFailed, match="'tgi' cannot be stopped"),
        run_container(reach(), docker.url, NAMES, tmp_path),
    ):
        pass
    assert docker.changes == ["stop tgi 30", "stop tgi 0"]


def test_one_that_ignores_sigterm_is_killed(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["vllm"].ignores_sigterm = True
    with run_container(reach(), docker.url, NAMES, tmp_path):
        pass
    assert docker.changes == ["start vllm", "stop vllm 7", "stop vllm 0"]
    assert docker.running == []


@pytest.mark.parametrize("error", [RuntimeError("the run broke"), KeyboardInterrupt()])
def test_however_the_run_ends_the_container_is_stopped(
    docker: DockerEngine, tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)), run_container(reach(), docker.url, NAMES, tmp_path):
        raise error
    assert docker.running == []
    assert records(tmp_path) == []


def test_one_that_dies_says_with_what_and_why(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["vllm"].dies_with = 137
    docker.containers["vllm"].out_of_memory = True
    with run_container(reach(), docker.url, NAMES, tmp_path) as container:
        assert container.exit_code == 137
        assert container.log_tail() == "loading the weights\n(killed: it used more memory than its limit)"
    assert docker.running == []


def test_what_the_engine_says_where_it_cannot_start_one(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["vllm"].refuses_to_start = 'could not select device driver "nvidia" with capabilities: [[gpu]]'
    with pytest.raises(LaunchFailed, match="could not select device driver") as failed:
        run_container(reach(), docker.url, NAMES, tmp_path).__enter__()
    assert failed.value.field == "reach.container"
    assert records(tmp_path) == []


def test_a_container_that_was_never_created(docker: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="no container 'not-created'; create it"):
        run_container(reach("not-created"), docker.url, NAMES, tmp_path).__enter__()


def test_what_the_proxy_does_not_let_through(docker: DockerEngine, tmp_path: Path) -> None:
    docker.allows = {("GET", "json"), ("GET", "logs")}
    with pytest.raises(LaunchFailed, match="proxy does not allow start of 'vllm'"):
        run_container(reach(), docker.url, NAMES, tmp_path).__enter__()


@pytest.mark.parametrize(("url", "allowed"), [(None, NAMES), ("unix:///nowhere", ("tgi",)), ("unix:///nowhere", ())])
def test_nothing_is_asked_for_one_that_may_not_be_started(
    tmp_path: Path, url: str | None, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(TargetRefused, match="list it in ENGINEBENCH_CONTAINERS") as refused:
        run_container(reach(), url, allowed, tmp_path).__enter__()
    assert refused.value.field == "reach.container"


def test_the_overlay_protocol_wants_a_container_that_serves_one(docker: DockerEngine, tmp_path: Path) -> None:
    docker.containers["tgi"].labels = {OVERLAY_LABEL: "true"}
    with run_container(reach("tgi"), docker.url, NAMES, tmp_path, overlay=True):
        assert docker.running == ["tgi"]
    with pytest.raises(TargetRefused, match="serves an overlay"):
        run_container(reach(), docker.url, NAMES, tmp_path, overlay=True).__enter__()


def test_no_docker_engine_there(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="cannot be reached"):
        run_container(reach(), f"unix://{tmp_path}/none", NAMES, tmp_path).__enter__()


@pytest.mark.parametrize("url", ["", "/var/run/docker.sock", "unix://relative", "tcp://", "ssh://host"])
def test_what_is_no_docker_engine_s_address(url: str) -> None:
    with pytest.raises(ValueError, match="unix:///path/of/socket or tcp://host:port"):
        DockerClient(url)


def test_no_secret_is_kept_with_the_flags_or_the_log(docker: DockerEngine, tmp_path: Path) -> None:
    one = docker.containers["vllm"]
    one.environment = ("HF_TOKEN=hf_0123456789", "PATH=/bin", "HF_HUB_OFFLINE=1", "HTTP_PROXY=http://me:word@proxy")
    one.command = ("--api-key", "sk-0123456789", "--port", "8000")
    one.log = "args: {'api_key': ['sk-0123456789']}\ntoken hf_0123456789\n"
    with run_container(reach(), docker.url, NAMES, tmp_path) as container:
        assert container.flags == ("--api-key", "[redacted]", "--port", "8000", "HF_HUB_OFFLINE=1")
        assert container.log_tail() == "args: {'api_key': ['[redacted]']}\ntoken [redacted]"


def leave_running(engine: DockerEngine, state: Path, **changes: object) -> Path:
    """What a worker that was killed in mid-run leaves: a running container, and its record."""
    engine.containers["vllm"].start()
    path = launches_folder(state) / "1.container"
    path.parent.mkdir(parents=True)
    record = {"boot": boot_id(), "owner": [os.getpid(), 1], "docker": engine.url, "container": "vllm"}
    path.write_text(json.dumps({**record, "stop_timeout_s": 3, **changes}))
    return path


def test_a_killed_worker_s_container_is_stopped_at_the_next_start(docker: DockerEngine, tmp_path: Path) -> None:
    path = leave_running(docker, tmp_path)
    assert reap_orphans(tmp_path) == 0
    assert path.exists()
    assert reap_containers(tmp_path) == 1
    assert docker.changes == ["stop vllm 3"]
    assert not path.exists()
    assert reap_containers(tmp_path) == 0


def test_a_living_worker_s_container_is_left_alone(docker: DockerEngine, tmp_path: Path) -> None:
    leave_running(docker, tmp_path, owner=[os.getpid(), started_at(os.getpid())])
    assert reap_containers(tmp_path) == 0
    assert docker.running == ["vllm"]


def test_a_container_that_another_worker_started_anew_is_left_alone(docker: DockerEngine, tmp_path: Path) -> None:
    """Killed; its lease lapsed; another worker started its container for the next attempt; then it comes back."""
    one = docker.containers["vllm"]
    path = leave_running(docker, tmp_path, started_at="2026-11-23T09:00:00.000000001Z")
    one.end(143)
    one.start()
    assert reap_containers(tmp_path) == 0
    assert docker.running == ["vllm"]
    assert docker.changes == []
    assert not path.exists()


def test_the_record_of_a_turn_knows_its_container_s_start(docker: DockerEngine, tmp_path: Path) -> None:
    with run_container(reach(), docker.url, NAMES, tmp_path):
        (path,) = records(tmp_path)
        record = json.loads(path.read_text())
        assert record["started_at"] == docker.containers["vllm"].started_at
        # The worker is gone; its container is as it left it.
        path.write_text(json.dumps({**record, "owner": [os.getpid(), 1]}))
        assert reap_containers(tmp_path) == 1
        assert docker.running == []


def test_a_turn_that_lost_its_container_to_another_worker_does_not_stop_it(
    docker: DockerEngine, tmp_path: Path
) -> None:
    one = docker.containers["vllm"]
    with run_container(reach(), docker.url, NAMES, tmp_path):
        one.end(143)
        one.start()
    assert docker.running == ["vllm"]
    assert docker.changes == ["start vllm"]
    assert records(tmp_path) == []


def test_of_another_boot_nobody_lives(docker: DockerEngine, tmp_path: Path) -> None:
    leave_running(docker, tmp_path, owner=[os.getpid(), started_at(os.getpid())], boot="another")
    assert reap_containers(tmp_path) == 1


def test_a_record_waits_for_its_docker_engine(docker: DockerEngine, tmp_path: Path) -> None:
    path = leave_running(docker, tmp_path, docker=f"unix://{tmp_path}/away")
    assert reap_containers(tmp_path) == 0
    assert path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"boot": 1}'])
def test_half_a_record_names_nothing(tmp_path: Path, content: str) -> None:
    path = launches_folder(tmp_path) / "1.container"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert reap_containers(tmp_path) == 0
    assert not path.exists()


def test_a_container_that_could_not_be_stopped_keeps_its_record(docker: DockerEngine, tmp_path: Path) -> None:
    with run_container(reach(), docker.url, NAMES, tmp_path) as container:
        docker.containers["vllm"].immortal = True
        assert isinstance(container, LaunchedContainer)
    assert len(records(tmp_path)) == 1
    docker.containers["vllm"].immortal = False
    record = json.loads(records(tmp_path)[0].read_text())
    records(tmp_path)[0].write_text(json.dumps({**record, "owner": [os.getpid(), 1]}))
    assert reap_containers(tmp_path) == 1
    assert docker.running == []


def test_a_log_s_streams_are_joined_and_a_terminal_s_is_as_it_is() -> None:
    framed = b"\1\0\0\0\0\0\0\3one\2\0\0\0\0\0\0\4 two"
    assert plain_log(framed) == b"one two"
    assert plain_log(framed[:-2]) == b"one t"
    assert plain_log(b"plain text\r\n") == b"plain text\r\n"
    assert plain_log(b"") == b""
