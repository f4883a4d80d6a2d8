"""An engine that stays up from one run to the next, as long as it lives and the same one is asked for."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.errors import LaunchFailed, OpeningStopped, TargetUnavailable
from engines.launch.keeper import started_at
from engines.spec import Attached, Launched, TargetSpec
from engines.target import HeldServer, Site, open_target
from tests.integration.engines.answering import answering
from tests.integration.engines.test_attached_target import VLLM_ROUTES


def spec(*behaviour: str, **reach: Any) -> TargetSpec:
    arguments = tuple(word for one in behaviour for word in ("--behaviour", one))
    launched = Launched(**({"model_path": "folder/tiny", "args": arguments, "ready_timeout_s": 30.0} | reach))
    return TargetSpec(engine="vllm", model="tiny", reach=launched)


def pid_of(held: HeldServer) -> int:
    assert held.server is not None
    assert held.server.process is not None
    pid = held.server.process.pid
    assert pid is not None
    return pid


def told(held: HeldServer) -> dict[str, Any]:
    found = held.describe()
    assert found is not None
    return found


def test_it_is_started_once_and_stopped_with_its_holder(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        with open_target(spec(), site, held=held) as first:
            pid, start, took_s = first.pid, told(held), first.facts.startup_s
        with open_target(spec(), site, held=held) as second:
            assert second.pid == pid
            assert (second.model, second.facts.startup_s) == (first.model, took_s)
            assert second.facts.probe["output_tokens"] == 8, "it is asked for a generation each time"
        assert told(held) == start | {"burst": 1}
        assert (start["burst"], start["engine_started"]) == (0, True)
        assert pid is not None
        assert started_at(pid) is not None
    assert started_at(pid) is None
    assert list((site.state_dir / "launches").glob("*.json")) == []


def test_one_that_died_in_between_is_started_afresh_and_told_apart(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        with open_target(spec(), site, held=held):
            before, start = pid_of(held), told(held)
        held.warmed["burst"] = 1.0
        os.kill(before, signal.SIGKILL)
        wait_until_ended(held)
        with open_target(spec(), site, held=held):
            assert pid_of(held) != before
        assert told(held)["id"] != start["id"]
        assert (told(held)["burst"], held.warmed) == (0, {})


def wait_until_ended(held: HeldServer) -> None:
    deadline_ns = monotonic_ns() + int(20e9)
    while held.server is not None and not held.server.has_ended:
        assert monotonic_ns() < deadline_ns
        sleep_s(0.02)


def test_another_one_is_never_beside_it(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        with open_target(spec(), site, held=held):
            before = pid_of(held)
        with open_target(spec(model_path="folder/other"), site, held=held):
            assert started_at(before) is None
            assert pid_of(held) != before


def test_one_that_cannot_be_started_is_not_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        for _ in range(2):
            with pytest.raises(LaunchFailed, match="not enough memory"), open_target(spec("dies"), site, held=held):
                pass
            assert (told(held)["burst"], held.server) == (0, None)
        assert len(list((site.state_dir / "launches").glob("*.log"))) == 1


def test_what_one_workload_cannot_have_is_not_held_against_another(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        for _ in range(2):
            refused = open_target(spec(), site, held=held, overlay=True)
            with pytest.raises(LaunchFailed, match="the overlay protocol needs"), refused:
                pass
            with open_target(spec(), site, held=held) as target:
                pid, start = target.pid, told(held)["id"]
        assert (pid_of(held), told(held)["id"], told(held)["burst"]) == (pid, start, 1), "it is up all the while"


def test_one_that_cannot_be_started_is_tried_once_for_each_set_of_fields(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        for extra in ({"guided": "a"}, {"guided": "b"}, {"guided": "a"}):
            with pytest.raises(LaunchFailed), open_target(spec("dies"), site, held=held, extra=extra):
                pass
        assert len(list((site.state_dir / "launches").glob("*.log"))) == 2, "each is tried once"


def test_fields_that_a_running_engine_refuses_do_not_stop_it(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        with open_target(spec("wants-no-grammar"), site, held=held):
            pid, start = pid_of(held), told(held)
        for _ in range(2):
            refused = open_target(spec("wants-no-grammar"), site, held=held, extra={"guided_grammar": "x"})
            with pytest.raises(TargetUnavailable, match="no grammar here"), refused:
                pass
        with open_target(spec("wants-no-grammar"), site, held=held):
            assert (pid_of(held), told(held)) == (pid, start | {"burst": 1}), "it is the same start"
    assert held.failures == {}


def test_one_that_fails_when_it_is_asked_again_is_stopped(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        with open_target(spec("breaks-later"), site, held=held):
            pid = pid_of(held)
        with pytest.raises(TargetUnavailable), open_target(spec("breaks-later"), site, held=held):
            pass
        assert (held.server, started_at(pid)) == (None, None)


def test_a_start_that_was_called_off_is_no_failure_and_leaves_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with HeldServer() as held:
        stopped = open_target(spec("never-ready"), site, held=held, should_stop=lambda: held.server is not None)
        with pytest.raises(OpeningStopped), stopped:
            pass
        assert (held.server, held.failures) == (None, {})
        assert list((site.state_dir / "launches").glob("*.json")) == []


def test_a_server_of_somebody_else_is_held_as_a_block_of_runs(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with answering(VLLM_ROUTES) as server, HeldServer() as held:
        attached = TargetSpec(engine="vllm", model="tiny", reach=Attached(url=server.url))
        for burst in range(2):
            with open_target(attached, site, held=held):
                assert (told(held)["burst"], told(held)["engine_started"]) == (burst, False)
        block = told(held)["id"]
    gone = attached.model_copy(update={"reach": Attached(url="http://127.0.0.1:9")})
    with pytest.raises(TargetUnavailable), open_target(gone, site, held=held, probe_timeout_s=1.0):
        pass
    assert held.failures == {}, "it may be back for the next"
    assert told(held)["id"] != block


def test_a_block_on_a_server_of_somebody_else_is_one_start_however_often_it_is_cut(tmp_path: Path) -> None:
    site = Site(tmp_path / "state")
    with answering(VLLM_ROUTES) as server:
        attached = TargetSpec(engine="vllm", model="tiny", reach=Attached(url=server.url))
        for _ in range(2):
            with HeldServer(block="b1") as held:
                for _ in range(2):
                    with open_target(attached, site, held=held):
                        assert told(held)["id"] == "b1"
                    held.close()


def test_an_engine_that_is_started_again_is_another_start_of_its_block(tmp_path: Path) -> None:
    with HeldServer(block="b1") as held:
        found = set()
        for _ in range(2):
            with open_target(spec(), Site(tmp_path / "state"), held=held):
                found.add(told(held)["id"])
            held.close()
    assert len(found - {"b1"}) == 2
