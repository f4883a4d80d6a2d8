"""An engine in a container that somebody else created: started for a run, watched, stopped; alone on its card.

run_container ─▶ stop whoever else is on the card ─▶ start ─▶ (the run) ─▶ stop ─▶ see that it is gone

Compose creates the containers and gives each a label with what it occupies, such as `enginebench.resources: gpu:0`. The
run holds the lease of that card, so whatever else of this project runs there is nobody's turn, and is stopped first.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.clock import monotonic_ns, sleep_s
from engines.contract import Origin
from engines.errors import LaunchFailed, OpeningStopped, TargetRefused, TargetUnavailable
from engines.launch.container_api import TAIL_BYTES, ContainerState, DockerClient
from engines.launch.disclosure import disclosed, secrets_of, tail_without
from engines.launch.orphans import has_living_owner, launches_folder, read_record, write_owner
from engines.spec import Container

log = logging.getLogger(__name__)

#: Label of a container: what it occupies, comma-separated.
RESOURCES_LABEL = "enginebench.resources"
#: Label of a container whose model folder has an end-of-sequence id that is never sampled.
OVERLAY_LABEL = "enginebench.overlay"

#: From SIGTERM to SIGKILL of a container that is not this run's.
GRACE_S = 30.0

#: Longest wait for a started container's name, and between two tries.
_ADDRESS_WAIT_S = 10.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class LaunchedContainer:
    """A started engine. It may not be listening yet."""

    docker: DockerClient
    name: str
    started_ns: int
    #: as it was just after its start
    state: ContainerState

    @property
    def exit_code(self) -> int | None:
        """`None` while it runs, or where the Docker Engine does not answer."""
        try:
            state = self.docker.inspect(self.name)
        except LaunchFailed:
            return None
        return None if state.running else state.exit_code

    @property
    def pid(self) -> None:
        """Its processes are not this host's to name."""
        return

    def log_tail(self) -> str:
        """The last lines it wrote since this start, at most 8 KiB, and whether it was killed for its memory."""
        try:
            tail = self.docker.log_tail(self.name, self.state.started_s)
            state = self.docker.inspect(self.name)
        except LaunchFailed as error:
            return f"(no log: {error})"
        killed = "\n(killed: it used more memory than its limit)" if state.out_of_memory else ""
        return tail_without(tail, self.secrets, TAIL_BYTES) + killed

    @property
    def flags(self) -> tuple[str, ...]:
        """Its command line, then its settings among its variables; no secret."""
        return disclosed(self.state.command, self.state.environment)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Its own keys and passwords, which it may repeat."""
        return secrets_of(self.state.command, self.state.environment)

    @property
    def info(self) -> dict[str, Any]:
        """What it was made of, for the Environment; `image_digest` is Docker's id of the image, not a registry's."""
        return {"container": self.name, "image": self.state.image, "image_digest": self.state.image_id}


@contextlib.contextmanager
def run_container(
    reach: Container,
    docker_url: str | None,
    allowed: Sequence[str],
    state_dir: Path,
    *,
    holds: Collection[str] | None = None,
    overlay: bool = False,
) -> Iterator[LaunchedContainer]:
    """Starts the container afresh, alone on what it occupies; on leaving, stops it.

    Args:
        reach: which, and where it listens.
        docker_url: the Docker Engine; `None`: this host starts no containers.
        allowed: names of the containers that may be started here; those of one card are stopped for each other.
        state_dir: where the record goes by which a killed worker's container is found.
        holds: what the run holds the leases of; `None`: all there is.
        overlay: it must serve an overlay, whose end-of-sequence id is never sampled.

    Raises:
        TargetRefused: it may not be started here, occupies what the run does not hold, or serves no overlay where one
            is wanted.
        LaunchFailed: the Docker Engine has no such container, or could not start it.
    """
    if docker_url is None or reach.container not in allowed:
        raise TargetRefused(
            f"this service does not start the container {reach.container!r}; list it in ENGINEBENCH_CONTAINERS and set"
            " ENGINEBENCH_DOCKER_URL, or attach to a running server",
            field="reach.container",
        )
    with DockerClient(docker_url) as docker:
        state = docker.inspect(reach.container)
        if overlay and state.labels.get(OVERLAY_LABEL) != "true":
            raise TargetRefused(
                f"the overlay protocol needs a container that serves an overlay: {reach.container!r} has no label"
                f" {OVERLAY_LABEL}: true; choose one that has it, or another lengths protocol",
                field="reach.container",
            )
        unheld = frozenset() if holds is None else resources_of(state) - {*holds}
        if unheld:
            raise TargetRefused(
                f"the container {reach.container!r} occupies {', '.join(sorted(unheld))} by its label"
                f" {RESOURCES_LABEL}, and the target does not say so; add it to resources",
                field="resources",
            )
        clear_resources(docker, state, allowed)
        record = launches_folder(state_dir) / f"{uuid.uuid4().hex[:12]}.container"
        _write_record(record, docker_url, reach)
        started_at = ""
        try:
            started_ns = monotonic_ns()
            docker.start(reach.container)
            state = docker.inspect(reach.container)
            started_at = state.started_at
            with contextlib.suppress(LaunchFailed):  # the record stands, and only says less
                _write_record(record, docker_url, reach, started_at)
            yield LaunchedContainer(docker, reach.container, started_ns, state)
        finally:
            if _end(docker, reach.container, reach.stop_timeout_s, started_at):
                record.unlink(missing_ok=True)


def await_address(
    container: LaunchedContainer, resolve: Callable[[], Origin], should_stop: Callable[[], bool]
) -> Origin:
    """Where it listens: a container has a name in its network's DNS only while it runs.

    Raises:
        LaunchFailed: it ended, or its name has no address within 10 s; carries the tail of its log.
        TargetRefused: its address may not be benchmarked.
        OpeningStopped: `should_stop` said so.
    """
    deadline_ns = container.started_ns + int(_ADDRESS_WAIT_S * 1e9)
    while True:
        if should_stop():
            raise OpeningStopped("stopped while the container was starting")
        try:
            return resolve()
        except TargetUnavailable as error:
            code = container.exit_code
            if code is not None:
                said = f"the container {container.name!r} ended with exit code {code} before it was ready"
                tail = container.log_tail()
                said += f". Its log ends with: {' | '.join(tail.splitlines()[-3:]) or 'nothing'}"
                raise LaunchFailed(said, field="reach.container", log_tail=tail) from None
            if monotonic_ns() > deadline_ns:
                raise LaunchFailed(str(error), field="reach.url", log_tail=container.log_tail()) from None
        sleep_s(_PAUSE_S)


def clear_resources(docker: DockerClient, state: ContainerState, allowed: Sequence[str]) -> tuple[str, ...]:
    """Stops every running container that occupies what this one does, itself included. Their names.

    Raises:
        LaunchFailed: one could not be stopped; nothing may be started beside it.
    """
    wanted = resources_of(state)
    stopped = []
    for name in dict.fromkeys((state.name, *allowed)):
        other = state if name == state.name else _seen(docker, name)
        if other is not None and other.running and (name == state.name or wanted & resources_of(other)):
            log.warning("container stopped, for it is another's turn", extra={"container": name, "turn": state.name})
            stop_for_good(docker, name, GRACE_S)
            stopped.append(name)
    return tuple(stopped)


def resources_of(state: ContainerState) -> frozenset[str]:
    """What a container occupies, by its label."""
    return frozenset(one.strip() for one in state.labels.get(RESOURCES_LABEL, "").split(",") if one.strip())


def stop_for_good(docker: DockerClient, name: str, timeout_s: float) -> None:
    """SIGTERM, after a while SIGKILL, and a look whether it is gone.

    Raises:
        LaunchFailed: it is still there, or the Docker Engine does not say.
    """
    # A stop that got no answer may have stopped it, and one without a grace kills.
    with contextlib.suppress(LaunchFailed):
        docker.stop(name, timeout_s)
    if docker.inspect(name).running:
        docker.stop(name, 0.0)
        if docker.inspect(name).running:
            raise LaunchFailed(f"the container {name!r} cannot be stopped", field="reach.container")


def reap_containers(state_dir: Path) -> int:
    """Stops the containers that killed workers left running, by their records. How many.

    One that has been started anew since is left alone: it is another worker's by now. A record whose Docker Engine does
    not answer stays, for the next time.
    """
    reaped = 0
    for path in sorted(launches_folder(state_dir).glob("*.container")):
        record = read_record(path)
        if not {"docker", "container", "stop_timeout_s"} <= record.keys():
            path.unlink(missing_ok=True)
            continue
        if has_living_owner(path):
            continue
        try:
            with DockerClient(record["docker"]) as docker:
                state = docker.inspect(record["container"])
                left = state.running and not _is_anothers(state, record.get("started_at", ""))
                if left:
                    stop_for_good(docker, record["container"], record["stop_timeout_s"])
        except LaunchFailed as error:
            log.warning("an earlier life's container may still run", extra={"reason": str(error)})
            continue
        reaped += left
        path.unlink(missing_ok=True)
    return reaped


def _seen(docker: DockerClient, name: str) -> ContainerState | None:
    """A container of the list; `None` where it was never created, or nobody may look."""
    try:
        return docker.inspect(name)
    except LaunchFailed:
        return None


def _is_anothers(state: ContainerState | None, started_at: str) -> bool:
    """It runs, and was started anew since: it is another worker's. "": nobody lived to read when it was started."""
    return state is not None and state.running and started_at not in ("", state.started_at)


def _end(docker: DockerClient, name: str, timeout_s: float, started_at: str) -> bool:
    """True once it is gone. It does not raise: a run that was measured stays measured, and the record stays too.

    A run that went on after its lease may find another worker's start here, which it leaves alone.
    """
    try:
        if not _is_anothers(_seen(docker, name), started_at):
            stop_for_good(docker, name, timeout_s)
    except LaunchFailed as error:
        log.error("container left running", extra={"container": name, "reason": str(error)})
        return False
    return True


def _write_record(path: Path, docker_url: str, reach: Container, started_at: str = "") -> None:
    """Says whose container it is: before it runs, and again once its start has a moment to be known by."""
    named = {"docker": docker_url, "container": reach.container, "stop_timeout_s": reach.stop_timeout_s}
    try:
        write_owner(path, **named, started_at=started_at)
    except OSError as error:
        raise LaunchFailed(
            f"no container can be started from {path.parent}: {error.strerror}; mend the folder or disk"
        ) from None
