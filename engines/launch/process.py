"""An engine as a local process: started, watched, its log kept, stopped with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.clock import monotonic_ns, sleep_s
from engines.contract import Engine
from engines.errors import LaunchFailed
from engines.launch.disclosure import LEAST_LENGTH, secrets_of, tail_without
from engines.launch.keeper import started_at
from engines.launch.orphans import GRACE_S, end_recorded, launches_folder, ownership
from engines.launch.surroundings import scrubbed_environment
from engines.spec import Launched

#: What is shown of a log.
TAIL_BYTES = 8192

#: Longest wait for the last words of an engine that has just died.
_LAST_WORDS_S = 5.0

#: Logs of past launches that are kept.
_MOST_LOGS = 40

_KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True, slots=True)
class LaunchedProcess:
    """A started engine. It may not be listening yet."""

    keeper: subprocess.Popen[bytes]
    port: int
    log: Path
    record: Path
    started_ns: int
    #: values that its log may repeat, and that nobody is shown
    secrets: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int | None:
        """`None` while the engine runs; 128 + n where signal n ended it."""
        return self.keeper.poll()

    @property
    def pid(self) -> int | None:
        """The engine's first process, which leads its session; `None` where it is gone."""
        try:
            return int(json.loads(self.record.read_text())["engine"][0])
        except (OSError, ValueError, KeyError):
            return None

    def log_tail(self) -> str:
        """The last lines the engine wrote, at most 8 KiB, without its secrets. Of one that is dying, all of them."""
        pid = self.pid
        if pid is not None and started_at(pid) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.keeper.wait(timeout=_LAST_WORDS_S)
        kept = b""
        for path in (self.log.with_name(self.log.name + ".1"), self.log):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 2 * TAIL_BYTES))
                kept += file.read(2 * TAIL_BYTES)
        return tail_without(kept[-2 * TAIL_BYTES :], self.secrets, TAIL_BYTES)


@contextlib.contextmanager
def launch(
    engine: Engine,
    reach: Launched,
    state_dir: Path,
    *,
    secrets: Iterable[str] = (),
    model_path: str | None = None,
    grace_s: float = GRACE_S,
) -> Iterator[LaunchedProcess]:
    """Starts the engine's own server on loopback; on leaving, stops it with its whole session.

    Args:
        engine: what to start.
        reach: how.
        state_dir: where its log and its record go.
        secrets: values that must not reach the process's environment, whatever their names.
        model_path: instead of `reach.model_path` (an overlay folder).
        grace_s: from SIGTERM to SIGKILL.

    Raises:
        LaunchFailed: the engine cannot be launched, or its program is not installed.
    """
    if engine.command is None:
        raise LaunchFailed(f"{engine.title} cannot be launched here; attach to a running server", field="reach.kind")
    port, secrets = reach.port or free_port(), tuple(secrets)
    argv = engine.command(model_path or reach.model_path, port, reach.args)
    environment = scrubbed_environment(os.environ, secrets) | dict(engine.launch_env) | reach.env
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise LaunchFailed(
            f"the program {argv[0]!r} of {engine.title} is not on PATH; install it ({engine.docs_url or engine.name})"
            " where the worker runs, or attach to a running server",
            field="engine",
        )
    known = *secrets, *secrets_of(reach.args, (f"{name}={value}" for name, value in reach.env.items()))
    process = _start([program, *argv[1:]], environment, port, state_dir, grace_s, known)
    try:
        yield process
    finally:
        _stop(process, grace_s)


def _start(
    argv: list[str], environment: Mapping[str, str], port: int, state_dir: Path, grace_s: float, known: Iterable[str]
) -> LaunchedProcess:
    folder = launches_folder(state_dir)
    name = uuid.uuid4().hex[:12]
    log, record = folder / f"{name}.log", folder / f"{name}.json"
    order = {
        "argv": argv,
        "log": str(log),
        "record": str(record),
        "grace_s": grace_s,
        **ownership(),
    }
    started_ns = monotonic_ns()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_old_logs(folder)
        with log.open("ab") as complaints:
            keeper = subprocess.Popen(
                [sys.executable, "-I", str(_KEEPER), json.dumps(order)],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
            )
    except OSError as error:
        raise LaunchFailed(
            f"no engine can be started from {folder}: {error.strerror}; mend the folder or disk"
        ) from None
    while not record.exists() and keeper.poll() is None:
        sleep_s(0.01)
    told = sorted({secret for secret in known if len(secret) >= LEAST_LENGTH}, key=len, reverse=True)
    return LaunchedProcess(keeper, port, log, record, started_ns, tuple(told))


def _stop(process: LaunchedProcess, grace_s: float) -> None:
    """Closing the keeper's standard input stops the engine. A keeper that does not come to an end is ended."""
    keeper = process.keeper
    assert keeper.stdin is not None
    with contextlib.suppress(OSError):
        keeper.stdin.close()
    try:
        keeper.wait(timeout=grace_s + 15.0)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
    if process.record.exists():
        # Whoever killed the keeper took its work over to us.
        end_recorded(process.record)


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _drop_old_logs(folder: Path) -> None:
    def modified(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0

    logs = sorted(folder.glob("*.log"), key=modified, reverse=True)
    for path in logs[_MOST_LOGS:]:
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".1").unlink(missing_ok=True)
