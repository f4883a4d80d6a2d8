"""Engines started as local processes: proven by a generation, stopped with all they started, never leaking a secret."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from engines.catalog import find_engine
from engines.clock import monotonic_ns, sleep_s
from engines.errors import LaunchFailed, OpeningStopped, TargetRefused
from engines.launch.keeper import LOG_BYTES, session_members, started_at
from engines.launch.process import launch
from engines.spec import Launched, TargetSpec
from engines.target import Secret, Site, open_target


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "state", secrets={"KEY": Secret("s3cret")})


def spec(*behaviour: str, args: tuple[str, ...] = (), engine: str = "vllm", **reach: Any) -> TargetSpec:
    arguments = tuple(word for one in behaviour for word in ("--behaviour", one)) + args
    launched = Launched(**({"model_path": "folder/tiny", "args": arguments, "ready_timeout_s": 30.0} | reach))
    return TargetSpec(engine=engine, model="tiny", reach=launched)


def wait_until_gone(*pids: int, within_s: float = 20.0) -> None:
    deadline_ns = monotonic_ns() + int(within_s * 1e9)
    while any(started_at(pid) is not None for pid in pids):
        assert monotonic_ns() < deadline_ns, "still running"
        sleep_s(0.02)


def records(site: Site) -> list[Path]:
    return list((site.state_dir / "launches").glob("*.json"))


def test_a_launched_engine_generates_and_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    tell = tmp_path / "told.json"
    with open_target(spec("family", args=("--tell", str(tell))), site) as target:
        pid = target.pid
        assert pid is not None
        assert target.facts.startup_s is not None
        assert target.facts.startup_s > 0
        assert target.facts.flags == ("--behaviour", "family", "--tell", str(tell))
        assert target.facts.probe["output_tokens"] == 8
        assert "loading the weights" in target.log_tail()
        child = json.loads(tell.read_text())["child"]
        assert sorted(session_members(pid)) == sorted([pid, child])
        assert len(records(site)) == 1
    assert session_members(pid) == []
    assert started_at(child) is None
    assert records(site) == []


def test_a_model_is_asked_for_by_the_name_the_server_knows(site: Site) -> None:
    with open_target(spec(), site) as target:
        assert target.model == "folder/tiny"
    with open_target(spec(args=("--served-model-name", "tiny")), site) as target:
        assert target.model == "tiny"


def test_a_server_that_is_up_is_not_ready_until_it_generates(site: Site) -> None:
    with open_target(spec("late"), site) as target:
        assert target.facts.probe["output_tokens"] == 8


def test_one_that_never_generates_fails_with_what_it_said_last(site: Site) -> None:
    slow = spec("never-ready", ready_timeout_s=2.0)
    with pytest.raises(LaunchFailed, match="was not ready within 2 s") as failed, open_target(slow, site):
        pass
    assert "status 503" in str(failed.value)
    assert "loading the weights" in failed.value.log_tail
    assert records(site) == []


def test_one_that_dies_fails_at_once_with_the_end_of_its_log(site: Site) -> None:
    with pytest.raises(LaunchFailed, match="ended with exit code 3") as failed, open_target(spec("dies"), site):
        pass
    assert failed.value.log_tail == "RuntimeError: not enough memory for the KV cache"
    assert "not enough memory" in str(failed.value)


def test_one_that_refuses_is_not_waited_for(site: Site) -> None:
    patient = spec("refuses", ready_timeout_s=600.0)
    with pytest.raises(LaunchFailed, match="is up but refuses to generate") as failed, open_target(patient, site):
        pass
    assert "no chat template" in str(failed.value)


def test_starting_ends_when_somebody_asks(site: Site) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    with pytest.raises(OpeningStopped), open_target(spec("never-ready"), site, should_stop=stop.is_set):
        pass
    timer.join()
    assert records(site) == []


def test_one_that_ignores_sigterm_is_killed_with_its_session(site: Site, tmp_path: Path) -> None:
    tell = tmp_path / "told.json"
    reach = spec("stubborn", "family", args=("--tell", str(tell))).reach
    assert isinstance(reach, Launched)
    with launch(find_engine("vllm"), reach, site.state_dir, grace_s=0.3) as process:
        while not tell.exists():
            sleep_s(0.02)
        told = json.loads(tell.read_text())
    assert process.exit_code == 128 + 9
    assert started_at(told["pid"]) is None
    assert started_at(told["child"]) is None


@pytest.mark.parametrize(("env", "seen"), [({}, "1,3"), ({"CUDA_VISIBLE_DEVICES": "GPU-8a3f"}, "GPU-8a3f")])
def test_an_engine_sees_the_cards_that_its_target_states(
    site: Site, tmp_path: Path, env: dict[str, str], seen: str
) -> None:
    tell = tmp_path / "tell"
    stated = spec(args=("--tell", str(tell)), env=env).model_copy(update={"resources": ("gpu:3", "gpu:1", "room")})
    with open_target(stated, site):
        environment = json.loads(tell.read_text())["environment"]
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["CUDA_DEVICE_ORDER"]) == (seen, "PCI_BUS_ID")


def test_the_environment_holds_no_credentials(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "VLLM_API_KEY", "KEY", "HTTPS_PROXY", "ENGINEBENCH_DATABASE_URL"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("VLLM_NOTE", "has s3cret inside")
    monkeypatch.setenv("HF_HOME", "/cache")
    tell = tmp_path / "told.json"
    with open_target(spec(args=("--tell", str(tell)), env={"OMP_NUM_THREADS": "2"}), site):
        environment = json.loads(tell.read_text())["environment"]
    assert "s3cret" not in json.dumps(environment)
    assert environment["HF_HOME"] == "/cache"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert environment["VLLM_NO_USAGE_STATS"] == "1"


def test_a_log_keeps_its_end_and_a_bounded_size(site: Site) -> None:
    with open_target(spec("talks"), site) as target:
        assert target.log_tail().endswith("loading the weights")
        logs = list((site.state_dir / "launches").glob("*.log*"))
        assert len(logs) == 2
        assert sum(path.stat().st_size for path in logs) < 2 * LOG_BYTES + 300_000


def test_an_overlay_is_launched_instead_of_the_model_and_taken_away(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text('{"vocab_size": 50, "eos_token_id": 2}')
    (model / "model.safetensors").write_text("weights")
    tell = tmp_path / "told.json"
    with open_target(spec(args=("--tell", str(tell)), model_path=str(model)), site, overlay=True) as target:
        told = json.loads(tell.read_text())
        folder = Path(told["argv"][2])
        assert folder.is_relative_to(site.state_dir / "launches")
        assert target.model == str(folder)
        assert json.loads(told["files"]["generation_config.json"])["eos_token_id"] == [50]
        assert told["files"]["model.safetensors"] == "weights"
    assert not folder.exists()
    assert (model / "model.safetensors").exists()


def test_a_program_that_is_not_there_is_named_with_the_mend(site: Site) -> None:
    named = r"'mlx_lm\.server' of mlx-lm is not on PATH; install it"
    with pytest.raises(LaunchFailed, match=named) as failed, open_target(spec(engine="mlx"), site):
        pass
    assert failed.value.field == "engine"


def test_an_engine_without_a_command_cannot_be_launched(site: Site) -> None:
    with (
        pytest.raises(LaunchFailed, match="attach to a running server") as failed,
        open_target(spec(engine="bud"), site),
    ):
        pass
    assert failed.value.field == "reach.kind"


def test_a_site_may_refuse_to_launch(tmp_path: Path) -> None:
    closed = Site(tmp_path, allow_launch=False)
    with pytest.raises(TargetRefused, match="does not launch engines"), open_target(spec(), closed):
        pass
    assert list(tmp_path.glob("launches")) == []
