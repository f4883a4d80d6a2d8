"""What may go wrong on this side of the wire: a core that is not ours, a clock that is set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load import process
from bench_runner.load.contract import RunControl
from engines.clock import sleep_s
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.validity.driving import assert_clean, drive, reasons, wait_for_end

SEEDS = count(1)
REPOSITORY = Path(__file__).parents[3]
#: What is said of a load process that was late, whoever made it so.
LATE = {"send_lag", "client_lag"}
LOAD: dict[str, Any] = {"requests": 80, "arrival": {"kind": "constant", "rate_per_s": 40}}

#: As urgent as the load process may be, on the core it is bound to, for so many seconds from a line of input on.
HOG = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
for ask in (lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)), lambda: os.setpriority(0, 0, -10)):
    try:
        ask()
    except OSError:
        continue
    break
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=4) as running:
        yield running


def load_child() -> int | None:
    """The load process of this process; `None`: there is none."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError):
            if entry.name.isdigit() and b"bench_runner.load.child" in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    return int(entry.name)
    return None


@contextmanager
def hogs(core: int, count: int, seconds: float) -> Iterator[Callable[[], None]]:
    """So many processes that are ready to burn one core, and what lets them, until the block ends or time is over."""
    command = [sys.executable, "-S", "-c", HOG, str(core), str(seconds)]
    with ExitStack() as stack:
        waiting = []
        for _ in range(count):
            hog = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(hog.kill)
            assert hog.stdout is not None
            assert hog.stdout.readline() == b"ready\n"
            assert hog.stdin is not None
            waiting.append(hog.stdin)

        def let_go() -> None:
            for stdin in waiting:
                stdin.write(b"\n")
                stdin.flush()

        yield let_go


def test_a_client_whose_core_is_hogged_is_named(server: SimulatedServer) -> None:
    """Where the host lets nobody be real-time, the kernel may share the core so well that nothing is late: then, and
    with its own stamps on every event, the run may be VALID.
    """
    *others, core = sorted(os.sched_getaffinity(0))
    assert_clean(lambda: drive(server, seed=next(SEEDS), **LOAD))
    with hogs(core, 4, 1.2) as let_go:

        def hog(control: RunControl) -> None:
            # This thread alone: it must not wait behind the first hog it lets go.
            os.sched_setaffinity(0, others or {core})
            pid = None
            while pid is None and control.stage != "done":
                sleep_s(0.01)
                pid = load_child()
            assert pid is not None
            os.sched_setaffinity(pid, {core})
            sleep_s(0.4)
            let_go()
            wait_for_end(control)

        outcome = drive(server, seed=next(SEEDS), meanwhile=hog, **LOAD)
    found = reasons(outcome)
    told = outcome.result.environment["load"]
    if told["priority"] == "realtime" or found.keys() & LATE:
        assert "it waited" in found.get("send_lag", ""), found
        assert "for a CPU that other processes had" in found["send_lag"]
        assert told["cpu_wait_s"] > 0
    assert {record.event_clock for record in outcome.records} == {"kernel"}
    assert told["preemptions"] >= 0
    assert outcome.result.failures == {}


FAKE_PACKAGE = """
__path__.append({engines!r})
"""
FAKE_CLOCK = """
from pathlib import Path
exec(Path({engines!r}, "clock.py").read_text())
_true_wall_ns, _began_ns = wall_ns, monotonic_ns()

def wall_ns():
    return _true_wall_ns() + ({step_ns} if monotonic_ns() - _began_ns > {after_ns} else 0)
"""


@pytest.mark.parametrize("step_ns", [0, 20_000_000, -3_600_000_000_000], ids=["not at all", "ahead", "an hour back"])
def test_a_wall_clock_that_is_set_within_the_window_spoils_the_run(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    """The load process is given a clock that is set 1.5 s after its start."""
    fake = tmp_path / "engines"
    fake.mkdir()
    engines = str(REPOSITORY / "engines")
    (fake / "__init__.py").write_text(FAKE_PACKAGE.format(engines=engines))
    (fake / "clock.py").write_text(FAKE_CLOCK.format(engines=engines, step_ns=step_ns, after_ns=1_500_000_000))
    monkeypatch.setattr(process, "_PACKAGES", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    load = LOAD | {"requests": 120}
    if not step_ns:
        assert_clean(lambda: drive(server, seed=next(SEEDS), **load))
        return
    outcome = drive(server, seed=next(SEEDS), **load)
    assert outcome.result.validity.state == "INVALID"
    assert "the wall clock moved" in reasons(outcome)["clock_stepped"]
    # Stamps were mapped once, at the window's start: the figures are whole, but nobody can say so from within.
    assert outcome.result.summary["successes"] == 120


def test_the_fake_clock_is_the_one_that_is_read(tmp_path: Path) -> None:
    """The test above would prove nothing if the load process had the true clock."""
    fake = tmp_path / "engines"
    fake.mkdir()
    engines = str(REPOSITORY / "engines")
    (fake / "__init__.py").write_text(FAKE_PACKAGE.format(engines=engines))
    (fake / "clock.py").write_text(FAKE_CLOCK.format(engines=engines, step_ns=5 * 10**9, after_ns=400_000_000))
    code = "from engines import clock; a = clock.wall_offset_ns(); from engines import contract; clock.sleep_s(0.5); "
    asked = subprocess.run(
        [sys.executable, "-S", "-P", "-c", f"{code}print(clock.wall_offset_ns() - a)"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert abs(int(asked.stdout) - 5 * 10**9) < 10**9
