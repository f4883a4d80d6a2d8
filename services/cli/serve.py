"""`enginebench serve`: the API and the worker, two processes under one parent, or either alone."""

from __future__ import annotations

import argparse
import ctypes
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from services.cli.migrate import refused

if TYPE_CHECKING:
    from services.settings import Settings

#: A process that died this often is not started again; the parent then ends with it.
MOST_RESTARTS = 5
#: Between two looks at the children.
LOOK_EVERY_S = 0.2
#: Beyond the worker's own drain, before a child is killed.
GRACE_S = 15.0
#: Longest wait of the API for open answers, such as event streams, once it is told to stop.
API_GRACE_S = 3
#: From Linux's prctl.h: the signal a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench serve …`."""
    serve = commands.add_parser(
        "serve",
        help="run the service: API and worker, or either alone",
        description="Settings come from ENGINEBENCH_* variables of the environment; .env.example lists every one with "
        "its default. No .env file is read.",
        allow_abbrev=False,
    )
    which = serve.add_mutually_exclusive_group()
    which.add_argument("--api-only", action="store_true", help="the API alone")
    which.add_argument("--worker-only", action="store_true", help="a worker alone")
    serve.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1")
    serve.add_argument("--port", type=int, metavar="PORT", help="default: 8700; 0 takes a free one")
    serve.add_argument("--no-migrate", action="store_true", help="leave the database's schema as it is")
    serve.set_defaults(func=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0 after a clean stop, 1 where a process died for good, 2 wrong settings or a port that cannot be had."""
    from services.domain.errors import BadInput, Unavailable
    from services.settings import check_state_dir, read_settings

    given: dict[str, Any] = {n: getattr(arguments, n) for n in ("host", "port") if getattr(arguments, n) is not None}
    try:
        settings = read_settings(**given)
        if not arguments.api_only:
            check_state_dir(settings.state_dir)
        if not arguments.no_migrate:
            from services.store.database import migrate

            migrate(settings.database_url.get_secret_value())
        if not arguments.worker_only:
            _check_keys(settings)
    except (BadInput, Unavailable, OSError) as error:
        return refused("serve", error)
    if arguments.api_only:
        return serve_api(settings)
    if arguments.worker_only:
        return serve_worker(settings)
    return serve_both(settings)


def _check_keys(settings: Settings) -> None:
    """Raises BadInput where nobody could come in from outside, for want of a key."""
    from contextlib import suppress

    from services.api.keyring import refuse_public_and_open
    from services.domain.errors import Unavailable
    from services.store.database import close, open_database

    database = open_database(settings.database_url.get_secret_value(), timeout_s=settings.database_timeout_s)
    try:
        # Without its database it starts all the same, and lets nobody in before that is back.
        with suppress(Unavailable):
            refuse_public_and_open(settings, database)
    finally:
        close(database)


def serve_api(settings: Settings) -> int:
    """The API in this process, until SIGTERM or SIGINT; 2 where it cannot listen."""
    import gc
    import logging

    import uvicorn

    from services.api.app import create_app

    _configure_logs(settings)
    log = logging.getLogger(__name__)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        mend = "choose another with --host and --port, or ENGINEBENCH_HOST and ENGINEBENCH_PORT"
        where = {"host": settings.host, "port": settings.port}
        log.error("cannot listen", extra={**where, "reason": str(error), "mend": mend})
        return 2
    log.info("api listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=API_GRACE_S,
    )
    server = uvicorn.Server(config)
    app.state.is_ending = lambda: server.should_exit
    app.openapi()
    # What is here now stays: to look through all of it for garbage holds one answer up by 0.1 s every so often.
    gc.collect()
    gc.freeze()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises what it caught once more at its end, and by then it is only the word for a clean stop.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    with listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError where that is not possible.

    The protocol is named although there is only one: asyncio turns Nagle's algorithm off only where it is, and an
    answer in two writes would else wait 40 ms for the client's delayed ACK.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def serve_worker(settings: Settings) -> int:
    """A worker in this process, until SIGTERM or SIGINT; then it drains."""
    from services.worker.loop import work

    _configure_logs(settings)
    return work(settings)


def _configure_logs(settings: Settings) -> None:
    from services.telemetry.logs import configure_logs

    configure_logs(settings.log_level, settings.known_secrets())


def serve_both(settings: Settings) -> int:
    """Two children; one that dies is started again, and SIGTERM stops both."""
    import logging

    from engines.clock import sleep_s

    _configure_logs(settings)
    log = logging.getLogger(__name__)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    commands = {
        "api": [*_again("--api-only"), "--host", settings.host, "--port", str(settings.port)],
        "worker": _again("--worker-only"),
    }
    children = {name: _start(command) for name, command in commands.items()}
    restarts = dict.fromkeys(commands, 0)
    code = 0
    while not stopping:
        for name, child in list(children.items()):
            if child.poll() is None:
                continue
            log.error("process died", extra={"role": name, "exit_code": child.returncode})
            # A wrong setting or a taken port will not mend itself.
            if restarts[name] >= MOST_RESTARTS or child.returncode == 2:
                code = 2 if child.returncode == 2 else 1
                stopping.append(signal.SIGTERM)
                break
            restarts[name] += 1
            sleep_s(min(0.2 * 2 ** restarts[name], 5.0))
            children[name] = _start(commands[name])
        sleep_s(LOOK_EVERY_S)
    # Whoever starts this again finds the port and the folder free.
    stopped = _stop(children, settings.drain_s + GRACE_S)
    return code or stopped


def _again(which: str) -> list[str]:
    return [sys.executable, "-m", "services.cli.main", "serve", which, "--no-migrate"]


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # A parent that is killed must not leave a service behind that nobody watches.
    return subprocess.Popen(command, preexec_fn=end_with_parent)


def end_with_parent() -> None:
    """Between fork and exec: SIGTERM to this process when the one that starts it dies, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(children: dict[str, subprocess.Popen[bytes]], patience_s: float) -> int:
    """SIGTERM to all, then SIGKILL to what is still there; 1 where one had to be killed."""
    from engines.clock import monotonic_ns

    deadline_ns = monotonic_ns() + int(patience_s * 1e9)
    for child in children.values():
        if child.poll() is None:
            child.terminate()
    code = 0
    for child in children.values():
        try:
            child.wait(max(0.1, (deadline_ns - monotonic_ns()) / 1e9))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            code = 1
    return code
