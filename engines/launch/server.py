"""A target's server: found where it is attached, started where it is a process or a container."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engines.address import resolve, takes_connections
from engines.contract import Engine, Origin
from engines.errors import TargetRefused
from engines.site import Site, bearer_token, key_headers
from engines.spec import Attached, Container, Launched, TargetSpec, card_numbers

if TYPE_CHECKING:
    from engines.launch.container import LaunchedContainer
    from engines.launch.process import LaunchedProcess


@dataclass(frozen=True, slots=True)
class Server:
    """Where a target is; one that was started for it may not be listening yet."""

    origin: Origin
    #: what it may know its model as
    names: Sequence[str]
    #: `None`: attached
    process: LaunchedProcess | LaunchedContainer | None = None
    ready_timeout_s: float = 0.0
    flags: tuple[str, ...] = ()
    #: its bearer token, where it has one; the keys of one that was started
    secrets: tuple[str, ...] = ()
    #: the container and image it runs in
    made_of: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """It was started, and is no more."""
        return self.process is not None and self.process.exit_code is not None


def bring_up(
    spec: TargetSpec,
    site: Site,
    engine: Engine,
    overlay: bool,
    should_stop: Callable[[], bool],
    stack: ExitStack,
) -> Server:
    """Finds the server, or starts it; what was started ends with the stack."""
    match spec.reach:
        case Attached() as reach:
            token = bearer_token(reach, site)
            headers = spec.headers | key_headers(reach, token)
            origin = resolve(reach.url, site.address_policy, headers, listens=takes_connections)
            return Server(origin, [spec.model], flags=spec.flags, secrets=() if token is None else (token,))
        case Launched() as reach:
            folder = _model_folder(reach, overlay, site, stack)
            process, origin = _launch(spec, reach, engine, site, folder, stack)
            names = list(dict.fromkeys((folder, spec.model)))
            return Server(origin, names, process, reach.ready_timeout_s, reach.args, process.secrets)
        case Container() as reach:
            container, origin = _start_container(spec, reach, site, overlay, should_stop, stack)
            patience_s, secrets, made_of = reach.ready_timeout_s, container.secrets, container.info
            return Server(origin, [spec.model], container, patience_s, container.flags, secrets, made_of)


def _model_folder(reach: Launched, overlay: bool, site: Site, stack: ExitStack) -> str:
    """The model to launch: as the spec names it, or an overlay of it that lives as long as the target."""
    if not overlay:
        return reach.model_path
    from engines.launch.overlay import overlaid

    return str(stack.enter_context(overlaid(reach.model_path, site.state_dir)))


def _launch(
    spec: TargetSpec, reach: Launched, engine: Engine, site: Site, folder: str, stack: ExitStack
) -> tuple[LaunchedProcess, Origin]:
    """A started process and where it will listen."""
    if not site.allow_launch:
        raise TargetRefused(
            "this service does not launch engines; attach to a running server, or allow launching in its settings",
            field="reach.kind",
        )
    from engines.launch.process import launch

    secrets = [secret.value for secret in site.secrets.values()]
    placed = reach.model_copy(update={"env": _on_its_cards(spec) | reach.env})
    process = stack.enter_context(launch(engine, placed, site.state_dir, secrets=secrets, model_path=folder))
    return process, Origin("http", "127.0.0.1", process.port, "", "127.0.0.1", dict(spec.headers))


def _on_its_cards(spec: TargetSpec) -> dict[str, str]:
    """Variables that hold an engine to the cards that its target states, counted as the driver counts them."""
    numbers = card_numbers(spec)
    if not numbers:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, numbers))}


def _start_container(
    spec: TargetSpec, reach: Container, site: Site, overlay: bool, should_stop: Callable[[], bool], stack: ExitStack
) -> tuple[LaunchedContainer, Origin]:
    """A started container, alone on what it occupies, and where it listens."""
    from engines.launch.container import await_address, run_container

    turn = run_container(reach, site.docker_url, site.containers, site.state_dir, holds=spec.cards, overlay=overlay)
    container = stack.enter_context(turn)
    origin = await_address(container, lambda: resolve(reach.url, site.address_policy, spec.headers), should_stop)
    return container, origin
