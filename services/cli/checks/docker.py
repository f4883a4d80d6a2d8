"""Can containers take turns here: the Docker Engine, its containers, the container toolkit?"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engines.errors import LaunchFailed
from engines.launch.container_api import ContainerState, DockerClient
from engines.launch.container_flags import AS_SHIPPED, MATCHED, MODELS, REACHED, service_of
from services.cli.checks.finding import Finding, fail, not_applicable, ok, warn

#: Where Docker listens unless told otherwise.
SOCKET = Path("/var/run/docker.sock")
#: What puts a card into a container; Docker looks for the first on its PATH as it starts.
TOOLKIT = ("nvidia-container-runtime-hook", "nvidia-container-runtime", "nvidia-ctk")
INSTALL_TOOLKIT = (
    "sudo apt install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker"
    " && sudo systemctl restart docker"
)
_CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """The Docker Engine as it is seen from here."""

    #: `unix:///path` or `tcp://host:port`; `None`: there is none
    url: str | None
    #: the settings name it, and its containers
    is_configured: bool = False
    #: why nobody answers there; `None`: it is reached
    error: str | None = None
    #: containers that were asked for, and why one was not found
    containers: tuple[ContainerState | LaunchFailed, ...] = ()
    #: group of its socket; `None`: no socket here
    socket_group: int | None = None
    #: programs of the container toolkit, and CDI descriptions of cards
    toolkit: tuple[str, ...] = ()
    #: this process runs in a container, and sees neither the host's programs nor its socket
    in_container: bool = False


def read_docker(url: str | None, names: Sequence[str], root: Path = Path("/")) -> DockerFacts:
    """Asks the Docker Engine of the settings, or the one whose socket is here, for the containers of that name."""
    configured = url is not None
    if url is None and (root / SOCKET.relative_to("/")).exists():
        url = f"unix://{root / SOCKET.relative_to('/')}"
    error = None if url is None else _reach(url)
    found: list[ContainerState | LaunchFailed] = []
    if url is not None and error is None:
        with DockerClient(url) as docker:
            for name in names or compose_containers():
                try:
                    found.append(docker.inspect(name))
                except LaunchFailed as refused:
                    found.append(refused)
    return DockerFacts(
        url=url,
        is_configured=configured,
        error=error,
        containers=tuple(found),
        socket_group=_group_of(url),
        toolkit=_toolkit(root),
        in_container=(root / ".dockerenv").exists() or (root / "run/.containerenv").exists(),
    )


def compose_containers() -> tuple[str, ...]:
    """Names of the engine containers of docker-compose.yml."""
    return tuple(
        f"enginebench-{service_of(engine, model, flag_class)}"
        for flag_class in (MATCHED, AS_SHIPPED)
        for engine in REACHED
        for model in MODELS
    )


def judge_docker(facts: DockerFacts, *, has_cards: bool, demanded: bool, gid: str | None = None) -> list[Finding]:
    """The Engine, its containers, the toolkit, the socket's group.

    Args:
        facts: what was read.
        has_cards: there is a GPU here.
        demanded: this host is to run engines on a card.
        gid: DOCKER_GID of .env; `None`: not set.
    """
    return [
        _engine(facts, wanted=has_cards or demanded),
        _containers(facts),
        _toolkit_found(facts, has_cards=has_cards),
        _group(facts, gid),
    ]


def image_needs(facts: DockerFacts, images: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Image -> the CUDA it is built with: as its container says where there is one, else as is known of it."""
    needs = dict(images)
    for one in facts.containers:
        if isinstance(one, ContainerState):
            told = re.search(r"^NVIDIA_REQUIRE_CUDA=.*?cuda>=(\d+)\.(\d+)", "\n".join(one.environment), re.MULTILINE)
            if told:
                needs[one.image] = int(told[1]), int(told[2])
    return needs


def _engine(facts: DockerFacts, *, wanted: bool) -> Finding:
    check = "Docker Engine"
    if facts.url is None:
        seen = f"no {SOCKET} and no ENGINEBENCH_DOCKER_URL: no containers, only launched and attached engines"
        mend = "install it: https://docs.docker.com/engine/install/, then docker compose --profile gpu create"
        return warn(check, seen, mend) if wanted else not_applicable(check, seen)
    if facts.error is None:
        return ok(check, f"answers at {facts.url}")
    mend = "sudo systemctl start docker"
    if "ermission" in facts.error:
        mend = "sudo usermod -aG docker $USER, then log in again"
    elif not facts.url.startswith("unix://"):
        mend = "docker compose --profile gpu up -d docker-proxy; its name is known within compose's network alone"
    seen = f"{facts.url}: {facts.error}"
    return fail(check, seen, mend) if facts.is_configured else warn(check, seen, mend)


def _containers(facts: DockerFacts) -> Finding:
    check = "engine containers"
    if facts.url is None or facts.error is not None:
        return not_applicable(check, "no Docker Engine to ask")
    there = [one for one in facts.containers if isinstance(one, ContainerState)]
    refused = [one for one in facts.containers if isinstance(one, LaunchFailed)]
    if running := [one.name for one in there if one.running]:
        seen = f"{', '.join(running)} run(s): whoever's turn it is would share the card until they are stopped"
        return warn(check, seen, f"docker stop {' '.join(running)}, unless a job is under way")
    if refused:
        judged = fail if facts.is_configured else warn
        seen = f"{len(there)} of {len(facts.containers)} are there; {refused[0]}"
        return judged(check, seen, "docker compose --profile gpu create")
    return ok(check, f"{len(there)} are there, none runs")


def _toolkit_found(facts: DockerFacts, *, has_cards: bool) -> Finding:
    check = "container toolkit"
    if facts.in_container:
        return not_applicable(check, "not to be seen from within a container: run this on the host")
    if facts.toolkit:
        return ok(check, ", ".join(facts.toolkit))
    if not has_cards or facts.url is None:
        return not_applicable(check, "no GPU here that a container could be given" if not has_cards else "no Docker")
    return fail(check, "none of its programs is on PATH, so no container gets the card", INSTALL_TOOLKIT)


def _group(facts: DockerFacts, gid: str | None) -> Finding:
    check = "Docker socket's group"
    if facts.socket_group is None or gid is None:
        return not_applicable(check, "no socket here, or no DOCKER_GID in .env")
    seen = f"the socket is group {facts.socket_group}'s, DOCKER_GID is {gid}"
    if gid == str(facts.socket_group):
        return ok(check, seen)
    return fail(check, f"{seen}: the proxy may not use it", f"DOCKER_GID={facts.socket_group} in .env")


def _reach(url: str) -> str | None:
    """Why nobody answers; `None`: somebody does."""
    try:
        if url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(_CONNECT_S)
                probe.connect(url.removeprefix("unix://"))
        else:
            parts = urlsplit(url)
            socket.create_connection((parts.hostname or "", parts.port or 2375), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None


def _group_of(url: str | None) -> int | None:
    if url is None or not url.startswith("unix://"):
        return None
    try:
        return Path(url.removeprefix("unix://")).stat().st_gid
    except OSError:
        return None


def _toolkit(root: Path) -> tuple[str, ...]:
    folders = os.pathsep.join([os.environ.get("PATH", ""), str(root / "usr/bin"), str(root / "usr/local/bin")])
    programs = [name for name in TOOLKIT if shutil.which(name, path=folders)]
    described = [str(path) for folder in ("etc/cdi", "var/run/cdi") for path in sorted((root / folder).glob("nvidia*"))]
    return (*programs, *described)
