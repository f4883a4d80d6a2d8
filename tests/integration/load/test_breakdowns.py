"""When the load process itself cannot do its work the run ends, with the reason and the mend."""

from __future__ import annotations

import resource
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest

from bench_runner.errors import LoadFailed
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from engines.clock import sleep_s
from tests.integration.load.plans import make_plan
from tests.integration.load.scripted import scripted_server


def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "spool" / "process-0").mkdir(parents=True)
    (tmp_path / "spool" / "process-0" / "captures.bin").symlink_to("/dev/full")
    with (
        scripted_server(lambda peer: peer.stream(1)) as server,
        pytest.raises(LoadFailed, match="disk is full: free some space"),
    ):
        drive(make_plan(tmp_path / "spool", server.port, 2), RunControl())


def test_a_spool_that_is_not_there(tmp_path: Path) -> None:
    plan = replace(make_plan(tmp_path / "spool", 1, 1), spool=tmp_path / "elsewhere")
    with pytest.raises(LoadFailed, match="elsewhere cannot be used: No such file"):
        drive(plan, RunControl())


def test_a_load_process_that_breaks_says_why(tmp_path: Path) -> None:
    (tmp_path / "spool" / "process-0" / "index.bin").mkdir(parents=True)
    with pytest.raises(LoadFailed, match=r"(?s)died \(exit code 1\).*IsADirectoryError"):
        drive(make_plan(tmp_path / "spool", 1, 1), RunControl())


def test_a_load_process_that_is_killed(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.wait_for_close()) as server:

        def kill() -> None:
            while not server.seen.requests:
                sleep_s(0.01)
            for pid in Path("/proc").glob("[0-9]*"):
                command = (pid / "cmdline").read_bytes().split(b"\0") if (pid / "cmdline").exists() else []
                if str(tmp_path / "spool" / "process-0").encode() in command:
                    subprocess.run(["kill", "-9", pid.name], check=True)

        timer = Timer(0, kill)
        timer.start()
        with pytest.raises(LoadFailed, match=r"died \(exit code -9\)"):
            drive(make_plan(tmp_path / "spool", server.port, 1), RunControl())
        timer.join()


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"requests": 500}, "workload.requests"),
        ({"requests": 900, "concurrency": 450}, "workload.arrival.max_concurrency"),
        ({"requests": 900, "concurrency": 450, "offsets_ns": None}, "workload.arrival.concurrency"),
    ],
)
def test_too_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[str, int], field: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 256))
    with pytest.raises(LoadFailed, match=r"open files, but no more than 256 are allowed \(RLIMIT_NOFILE") as caught:
        drive(make_plan(tmp_path / "spool", 1, **plan), RunControl())
    assert caught.value.field == field


LOW_SOFT_LIMIT = """
import resource, sys
from pathlib import Path
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import make_plan
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
outcome = drive(make_plan(Path(sys.argv[1]), int(sys.argv[2]), 100), RunControl())
print(outcome.connections_opened)
"""


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1)) as server:
        worker = subprocess.run(
            [sys.executable, "-c", LOW_SOFT_LIMIT, str(tmp_path / "spool"), str(server.port)],
            cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert worker.stdout == "100\n"


PILING_UP = """
import resource, sys
from array import array
from pathlib import Path
from bench_runner.errors import LoadFailed
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import make_plan
resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))
offsets = array("q", range(0, 1_200_000_000, 10_000_000))
try:
    drive(make_plan(Path(sys.argv[1]), int(sys.argv[2]), len(offsets), offsets_ns=offsets), RunControl())
except LoadFailed as error:
    print(error)
"""


def test_open_requests_that_pile_up_to_the_limit_of_open_files(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.wait_for_close()) as server:
        worker = subprocess.run(
            [sys.executable, "-c", PILING_UP, str(tmp_path / "spool"), str(server.port)],
            cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "the limit of open files is reached (RLIMIT_NOFILE); raise it with `ulimit -n`" in worker.stdout


def test_plans_that_cannot_be_carried_out(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="no request"):
        drive(make_plan(tmp_path / "spool", 1, 0), RunControl())
    with pytest.raises(LoadFailed, match="needs its concurrency"):
        drive(make_plan(tmp_path / "spool", 1, 1, offsets_ns=None), RunControl())
    with pytest.raises(LoadFailed, match="must not fall"):
        drive(make_plan(tmp_path / "spool", 1, 2, offsets_ns=array("q", [5, 4])), RunControl())


FOOTPRINT = """
import resource, sys
from pathlib import Path
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import closed_loop
outcome = drive(closed_loop(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 4, reused=True), RunControl())
for capture in outcome.captures():
    assert capture.ended == "complete", capture.error
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def footprint(spool: Path, port: int, requests: int) -> tuple[int, int]:
    """Peak memory of the load process and of the one that reads back, KiB."""
    worker = subprocess.run(
        [sys.executable, "-c", FOOTPRINT, str(spool), str(port), str(requests)],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=True,
    )  # fmt: skip
    load, reader = map(int, worker.stdout.split())
    return load, reader


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    response = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + bytes(300_000)
    with scripted_server(lambda peer: peer.send(response)) as server:
        short = footprint(tmp_path / "short", server.port, 40)
        long = footprint(tmp_path / "long", server.port, 200)
    assert long[0] < short[0] * 1.05
    assert long[1] < short[1] * 1.05
