"""One short generation of a stored target, asked for by a person: does it answer, and with what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from engines.address import AddressPolicy, look_up
from engines.errors import EngineError, TargetUnavailable
from engines.spec import Container, Launched, TargetSpec
from engines.target import Secret, Site, open_target
from services.api.schemas import ProbeOut
from services.domain.errors import BadInput, Conflict, Problem
from services.domain.target import occupied_resources
from services.settings import Settings
from services.store.database import Database
from services.store.gauges import running_progress

#: Longest wait for the generation where none is given; a person is waiting.
PROBE_TIMEOUT_S = 30.0
#: Probes at once: each keeps a thread for as long as its target is silent.
MOST_PROBES = 4


def probe_target(
    store: Database, name: str, spec: TargetSpec, settings: Settings, timeout_s: float = PROBE_TIMEOUT_S
) -> ProbeOut:
    """What the target shows. Everything it does wrong is in the answer.

    Args:
        store: tells who drives the target now.
        name: of the target.
        spec: of the target.
        settings: secrets, and which addresses may be asked.
        timeout_s: longest wait for the generation.

    Raises:
        BadInput: the target is launched by runs, so there is no server to ask.
        Conflict: a run drives it now, and a probe would be foreign traffic.
    """
    if isinstance(spec.reach, Launched | Container):
        raise BadInput(Problem("name", "this target is launched for each run", "ask for a run instead"))
    held = set(occupied_resources(spec, look_up))
    busy = next((run.id for run in running_progress(store) if held & set(run.resources)), None)
    if busy is not None:
        driven = f"the run {busy} drives this target now; a probe would disturb it"
        raise Conflict(driven, (Problem("name", driven, "probe it once the run has ended"),))
    with TemporaryDirectory(prefix="enginebench-probe-") as folder:
        site = site_of(settings, folder)
        try:
            with open_target(spec, site, probe_timeout_s=timeout_s) as target:
                facts = asdict(target.facts)
                return ProbeOut(
                    target=name,
                    ok=True,
                    simulated=bool(facts.get("simulated")),
                    failure=None,
                    message=None,
                    figures=facts,
                )
        except EngineError as error:
            failure = error.failure if isinstance(error, TargetUnavailable) else None
            return ProbeOut(
                target=name,
                ok=False,
                simulated=None,
                failure=failure.kind.value if failure is not None else None,
                message=str(error),
                figures={},
            )


def site_of(settings: Settings, folder: str) -> Site:
    """Where the probe happens: the settings' secrets and rules, and nothing is ever launched."""
    return Site(
        state_dir=Path(folder),
        secrets={name: Secret(value, settings.secrets[name]) for name, value in settings.secret_values().items()},
        address_policy=AddressPolicy(settings.allow_loopback, settings.allow_private_networks),
        allow_launch=False,
    )
