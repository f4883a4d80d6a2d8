"""A worker killed in any way leaves no engine: its keeper ends it, or the next start does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.launch.keeper import session_members, started_at
from engines.launch.orphans import boot_id, end_recorded, launches_folder, reap_orphans
from tests.integration.engines.launch.test_launched_target import wait_until_gone

_WORKER = """
import sys
from pathlib import Path
from engines.clock import sleep_s
from engines.spec import Launched, TargetSpec
from engines.target import Site, open_target
args = ("--behaviour", "family", "--tell", sys.argv[2], *sys.argv[3:])
spec = TargetSpec(engine="vllm", model="tiny", reach=Launched(model_path="tiny", args=args, ready_timeout_s=60))
with open_target(spec, Site(Path(sys.argv[1]))):
    print("open", flush=True)
    sleep_s(600)
"""


class Worker:
    """A worker process with an engine open, and what it started."""

    def __init__(self, state: Path, tell: Path, *more: str) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(state), str(tell), *more], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"open\n"
        self.record: dict[str, Any] = json.loads(next(launches_folder(state).glob("*.json")).read_text())
        told = json.loads(tell.read_text())
        self.keeper, self.engine, self.child = self.record["keeper"][0], told["pid"], told["child"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Whatever a failed test left."""
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        reap_orphans(self.state)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "state", tmp_path / "told.json")
    yield worker
    worker.close()


def test_an_engine_does_not_outlive_its_killed_worker(worker: Worker) -> None:
    assert sorted(session_members(worker.engine)) == sorted([worker.engine, worker.child])
    worker.kill()
    wait_until_gone(worker.engine, worker.child, worker.keeper)
    assert reap_orphans(worker.state) == 0


def test_what_outlives_the_keeper_too_is_ended_at_the_next_start(worker: Worker) -> None:
    os.kill(worker.process.pid, signal.SIGSTOP)
    os.kill(worker.keeper, signal.SIGKILL)
    wait_until_gone(worker.engine)
    worker.kill()
    assert started_at(worker.child) is not None
    assert reap_orphans(worker.state) == 1
    wait_until_gone(worker.child)
    assert list(launches_folder(worker.state).glob("*.json")) == []
    assert reap_orphans(worker.state) == 0


def test_engines_of_a_living_worker_are_left_alone(worker: Worker) -> None:
    assert reap_orphans(worker.state) == 0
    assert started_at(worker.engine) is not None
    assert started_at(worker.child) is not None


def test_an_engine_ends_with_its_workers_sigterm(worker: Worker) -> None:
    worker.process.terminate()
    worker.process.wait()
    wait_until_gone(worker.engine, worker.child, worker.keeper)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, in a session of its own."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def write_record(state: Path, **fields: Any) -> Path:
    folder = launches_folder(state)
    folder.mkdir(parents=True)
    record = {"boot": boot_id(), "owner": [1 << 22, 1], "keeper": [1 << 22, 1], "program": "vllm"} | fields
    path = folder / "one.json"
    path.write_text(json.dumps(record))
    return path


def test_a_process_that_only_took_over_the_number_is_left_alone(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    started = started_at(bystander.pid)
    assert started is not None
    path = write_record(tmp_path, engine=[bystander.pid, started - 1], keeper=[bystander.pid, started - 1])
    assert reap_orphans(tmp_path) == 0
    assert bystander.poll() is None
    assert not path.exists()


def test_numbers_of_another_boot_mean_nothing(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    path = write_record(tmp_path, boot="another", engine=[bystander.pid, started_at(bystander.pid)])
    assert reap_orphans(tmp_path) == 0
    assert bystander.poll() is None
    assert not path.exists()


def test_a_recorded_session_is_ended(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    path = write_record(tmp_path, engine=[bystander.pid, started_at(bystander.pid)])
    assert end_recorded(path)
    assert bystander.wait() == -signal.SIGTERM
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot": 1}', '{"engine": "x"}'])
def test_a_record_that_cannot_be_read_names_nobody(tmp_path: Path, content: str) -> None:
    folder = launches_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "one.json").write_text(content)
    assert reap_orphans(tmp_path) == 0


def test_a_folder_that_is_not_there_holds_no_orphans(tmp_path: Path) -> None:
    assert reap_orphans(tmp_path / "nothing") == 0
