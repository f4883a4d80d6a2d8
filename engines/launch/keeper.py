"""Stands between a worker and the engine it launched, so that no engine outlives its worker.

Run as a script of its own, with nothing but the standard library. The worker holds the other end of this process's
standard input; when that closes, because the worker asked to stop or because it died in whatever way, the engine's
process group gets SIGTERM, and after a grace its whole session SIGKILL (TGI's launcher puts its shards into groups of
their own, but not into sessions). Should this process be killed itself, the kernel kills the engine's first process,
and `orphans.reap_orphans` the rest at the next start.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

#: The log keeps between one and two of these: the current file, and the one before it.
LOG_BYTES = 2 << 20
_STEP_MS = 50
#: A killed process that held a GPU takes seconds to be gone: up to ten.
_KILL_STEPS = 200
#: Standard input, whose other end the worker holds.
_CONTROL = 0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with its pid, its name. `None`: none such, or a zombie."""
    stat = _stat(pid)
    return None if stat is None or stat[0] in ("Z", "X") else int(stat[19])


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (the command before it may hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def session_members(session: int) -> list[int]:
    """Living processes of a session."""
    return [pid for pid, stat in _living() if int(stat[3]) == session]


def _children() -> list[int]:
    """Living children of this process, those it adopted included."""
    return [pid for pid, stat in _living() if int(stat[1]) == os.getpid()]


def _living() -> list[tuple[int, list[str]]]:
    """All processes but zombies, each with the fields of its stat."""
    stats = [(int(entry.name), _stat(int(entry.name))) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [(pid, stat) for pid, stat in stats if stat is not None and stat[0] not in ("Z", "X")]


def signal_all(pids: list[int], number: int) -> None:
    """Signals each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class _Log:
    """What the engine writes, in two files of bounded size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def add(self, data: bytes) -> None:
        # A full disk must not stop the engine: what cannot be kept is lost.
        with contextlib.suppress(OSError):
            if self._file.tell() > LOG_BYTES:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)


def keep(order: dict[str, Any]) -> int:
    """Starts the engine, keeps it until it ends or is to be stopped, leaves nothing of it behind.

    Args:
        order: `argv`; `log` and `record` (paths); `owner` (pid and start of the worker); `boot`; `grace_s`.

    Returns:
        The engine's exit code, 128 + n where signal n ended it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_signals()
    log = _Log(Path(order["log"]))
    engine = subprocess.Popen(
        order["argv"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # One thread only here, so running Python between fork and exec is safe.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    assert engine.stdout is not None
    output = engine.stdout.fileno()
    os.set_blocking(output, False)
    try:
        _write_record(order, engine.pid)
        _watch(engine, output, wake, log, float(order["grace_s"]))
    finally:
        if _leave_nothing(engine):
            Path(order["record"]).unlink(missing_ok=True)
        _pass_on(output, log)
    code = engine.poll()
    if code is None:
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _wake_on_signals() -> int:
    """A pipe that gets "t" on SIGTERM (stop) and "k" on SIGALRM (the grace is over)."""
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(wake_write, b"t"))
    signal.signal(signal.SIGALRM, lambda _number, _frame: os.write(wake_write, b"k"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return wake


def _watch(engine: subprocess.Popen[bytes], output: int, wake: int, log: _Log, grace_s: float) -> None:
    """Passes the engine's output on until the engine is gone, or was asked to stop and had its grace."""
    pidfd = os.pidfd_open(engine.pid)
    poller = select.poll()
    for fd in (_CONTROL, wake, output, pidfd):
        poller.register(fd, select.POLLIN)
    stopping = False
    while engine.poll() is None or (stopping and session_members(engine.pid)):
        ready = {fd for fd, _event in poller.poll(_STEP_MS if stopping else None)}
        words = os.read(wake, 64) if wake in ready else b""
        if b"k" in words:
            return
        if output in ready and not _pass_on(output, log):
            poller.unregister(output)
        if pidfd in ready:
            # The launcher is gone; what it left behind in groups of its own is asked, too.
            poller.unregister(pidfd)
            signal_all(session_members(engine.pid), signal.SIGTERM)
        if not stopping and (_CONTROL in ready or b"t" in words):
            stopping = True
            poller.unregister(_CONTROL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, max(grace_s, 0.001))


def _leave_nothing(engine: subprocess.Popen[bytes]) -> bool:
    """Kills what is left of the engine: its session, and whatever this process adopted. True once all is gone."""
    pause = select.poll()
    for _ in range(_KILL_STEPS):
        left = sorted({*session_members(engine.pid), *_children()})
        if not left:
            return True
        signal_all(left, signal.SIGKILL)
        pause.poll(_STEP_MS)
        if engine.poll() is not None:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    return False


def _pass_on(output: int, log: _Log) -> bool:
    """Moves what the engine wrote into the log; False at its end."""
    while True:
        try:
            data = os.read(output, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        log.add(data)


def _write_record(order: dict[str, Any], engine_pid: int) -> None:
    path = Path(order["record"])
    record = {
        "boot": order["boot"],
        "owner": order["owner"],
        "keeper": [os.getpid(), started_at(os.getpid())],
        "engine": [engine_pid, started_at(engine_pid)],
        "program": order["argv"][0],
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record))
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(keep(json.loads(sys.argv[1])))
