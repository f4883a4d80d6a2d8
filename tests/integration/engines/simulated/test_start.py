"""The process: started, stopped, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.errors import LaunchFailed
from engines.simulated.start import simulated_engine
from tests.integration.engines.simulated.talk import TIMEOUT_S, generate

ROOT = Path(__file__).parents[4]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def await_end(pid: int) -> None:
    deadline_ns = monotonic_ns() + int(TIMEOUT_S * 1e9)
    while is_alive(pid):
        assert monotonic_ns() < deadline_ns, "the server outlived its owner"
        sleep_s(0.05)


def test_the_server_ends_with_its_block() -> None:
    with simulated_engine("vllm-qwen2.5-7b", speed=50, seed=9, model="other-name", context=64) as server:
        about = server.about()
        assert (about["pid"], about["seed"], about["model"], about["context"]) == (server.pid, 9, "other-name", 64)
        assert server.model == "other-name"
        assert generate(server)[1].failure is None
    assert not is_alive(server.pid)


def test_the_server_ends_with_its_block_when_that_fails() -> None:
    with pytest.raises(RuntimeError, match="mine"), simulated_engine("vllm-qwen2.5-7b") as server:
        raise RuntimeError("mine")
    assert not is_alive(server.pid)


def test_a_killed_owner_leaves_no_server_behind() -> None:
    script = (
        "import sys\n"
        "from engines.simulated.start import simulated_engine\n"
        "with simulated_engine('tgi-qwen2.5-7b') as server:\n"
        "    print(server.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid = int(owner.stdout.readline())
    assert is_alive(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    await_end(pid)


def test_sigterm_ends_a_server_started_by_hand() -> None:
    command = [sys.executable, "-m", "engines.simulated", "--profile", "tgi-qwen2.5-7b"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["event"] == "ready"
    assert ready["pid"] == process.pid
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0
    process.stdout.close()


def test_what_does_not_start_says_why() -> None:
    with pytest.raises(LaunchFailed, match="invalid choice"), simulated_engine("vllm-no-such-model"):
        pass
    with pytest.raises(LaunchFailed, match="--speed must be above 0"), simulated_engine("vllm-qwen2.5-7b", speed=0):
        pass
    with (
        simulated_engine("vllm-qwen2.5-7b") as server,
        pytest.raises(LaunchFailed, match="cannot listen"),
        simulated_engine("vllm-qwen2.5-7b", port=server.port),
    ):
        pass


def test_predictions_are_printed() -> None:
    command = [sys.executable, "-m", "engines.simulated", "--predict"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.count("held out") == 3
    assert "overhead" in printed
