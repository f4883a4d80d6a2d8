"""Can the service run here: its ports, its database, its state folder?"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.checks.finding import Finding, State, fail, not_applicable, ok, warn

if TYPE_CHECKING:
    from services.settings import Settings

#: Captures of a large load and results that wait.
STATE_BYTES = 2_000_000_000
_WAIT_S = 2.0
_DATABASE_WAIT_S = 10.0

#: who -> the page that tells of its health, and what that has at the least: the API's among its `checks`
_HEALTH = {
    "API": ("/readyz", {"database", "schema"}),
    "Grafana": ("/api/health", {"database", "version"}),
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port that somebody is to listen on."""

    #: who: "API", "Grafana", "engines"
    of: str
    host: str
    #: `None`: what the variable says is none
    port: int | None
    #: the variable that names another
    variable: str
    #: taken is a FAIL: it is published or bound by us
    is_ours: bool = True
    #: what the variable says
    said: str = ""


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port as it was found."""

    port: Port
    #: `None`: free; else why it cannot be had
    error: str | None
    #: what answers there is what is to be there
    is_service: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The database as it was found; its URL stays out of here."""

    #: "sqlite" or "postgresql"
    kind: str
    #: it is a file that nobody made yet
    is_absent: bool = False
    #: why it does not answer; `None`: it does
    error: str | None = None
    #: what is wrong with its schema; `None`: nothing
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """The worker's folder, or the nearest above it that is there."""

    folder: str
    looked_at: str
    is_writable: bool
    free_bytes: int | None


def judge_ports(found: Sequence[PortFacts]) -> list[Finding]:
    """Each is free, or this service's own."""
    return [_port(one) for one in found]


def judge_database(facts: DatabaseFacts) -> Finding:
    """It answers and has the schema of this version, or will be made."""
    check = "database"
    if facts.error is not None:
        mend = "see that it runs and that ENGINEBENCH_DATABASE_URL names it: docker compose up -d postgres"
        return fail(check, f"{facts.kind}: {facts.error}", mend)
    if facts.is_absent:
        return ok(check, f"{facts.kind}: not there yet; enginebench serve makes it")
    if facts.schema is not None:
        return warn(
            check, f"{facts.kind}: it {facts.schema}", "enginebench admin backup FILE, then enginebench migrate"
        )
    return ok(check, f"{facts.kind}: answers, its schema is this version's")


def judge_folder(facts: FolderFacts) -> Finding:
    """It may be written and has some room."""
    check = "state folder"
    if not facts.is_writable:
        mend = f"sudo chown $USER {facts.looked_at}, or name another in ENGINEBENCH_STATE_DIR"
        return fail(check, f"{facts.looked_at} may not be written", mend)
    if facts.free_bytes is None:
        return not_applicable(check, f"{facts.looked_at} cannot be looked at")
    seen = f"{facts.folder}: may be written, {facts.free_bytes / 1e9:.0f} GB free"
    if facts.free_bytes < STATE_BYTES:
        mend = "free some space: a load's captures and results that wait for the database are kept there"
        return warn(check, seen, mend)
    return ok(check, seen)


def _port(found: PortFacts) -> Finding:
    port = found.port
    if port.port is None:
        mend = f"write ADDRESS:PORT with a port from 1 to 65535: {port.variable}"
        return fail(f"port ({port.of})", f"{port.variable}: {port.said!r} names no port", mend)
    check = f"port {port.port} ({port.of})"
    if found.error is None:
        return ok(check, f"free on {port.host}")
    if found.is_service:
        return ok(check, f"{'this service' if port.of == 'API' else port.of} answers there")
    seen = f"{port.host}: {found.error}"
    mend = f"see who has it: ss -ltnp 'sport = :{port.port}'; or choose another: {port.variable}"
    return Finding(check, State.FAIL if port.is_ours else State.WARN, seen, mend)


def read_ports(ports: Sequence[Port]) -> list[PortFacts]:
    """Tries to listen on each; what cannot be had is asked whether it is who is to be there."""
    found = []
    for port in ports:
        error = "no port" if port.port is None else _listen_error(port.host, port.port)
        found.append(PortFacts(port, error, error is not None and _is_service(port)))
    return found


def read_database(url: str) -> DatabaseFacts:
    """Asks the database; a SQLite file that is not there is not made."""
    from services.domain.errors import BadInput, Unavailable
    from services.store.database import close, open_database
    from services.store.schema import schema_fault

    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    path = Path(url.partition("///")[2])
    if kind == "sqlite" and not path.exists():
        return DatabaseFacts(kind, is_absent=True)
    try:
        database = open_database(url, timeout_s=_DATABASE_WAIT_S)
    except (BadInput, OSError) as error:
        return DatabaseFacts(kind, error=str(error))
    try:
        return DatabaseFacts(kind, schema=schema_fault(database))
    except Unavailable as error:
        return DatabaseFacts(kind, error=str(error))
    except Exception as error:
        # a file that is no database, a role without rights: its text may hold the statement, so the kind must do
        return DatabaseFacts(kind, error=f"cannot be read ({type(error).__name__})")
    finally:
        close(database)


def read_keys(settings: Settings, facts: DatabaseFacts) -> Finding:
    """Would `serve` start, or would the API be open to whoever reaches this host?"""
    from services.api.keyring import refuse_public_and_open
    from services.domain.errors import BadInput, Unavailable
    from services.store.database import close, open_database

    check = "API keys"
    if facts.error is not None or facts.schema is not None:
        return not_applicable(check, "the database says nothing of them yet")
    try:
        url = settings.database_url.get_secret_value()
        database = None if facts.is_absent else open_database(url, timeout_s=_DATABASE_WAIT_S)
        try:
            refuse_public_and_open(settings, database)
        finally:
            if database is not None:
                close(database)
    except BadInput as error:
        return fail(check, error.problems[0].problem, error.problems[0].mend)
    except (Unavailable, OSError) as error:
        return not_applicable(check, str(error))
    reach = "reached from this host only" if settings.is_loopback else "there are keys, or it is open knowingly"
    return ok(check, f"{settings.host}: {reach}")


def read_folder(folder: Path) -> FolderFacts:
    """Makes nothing: where it is not there, its nearest parent counts."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    try:
        free = shutil.disk_usage(nearest).free
    except OSError:
        free = None
    return FolderFacts(str(folder), str(nearest), writable, free)


def ports_of(settings: Settings | None, published: dict[str, str] | None) -> list[Port]:
    """What is to be free: the API's, and where `docker compose` has a .env, what that publishes."""
    ports = []
    if published is not None:
        ports.append(_published("API", "PUBLISH", published.get("PUBLISH") or "127.0.0.1:8700"))
        ports.append(_published("Grafana", "PUBLISH_GRAFANA", published.get("PUBLISH_GRAFANA") or "127.0.0.1:3000"))
    elif settings is not None and settings.port:
        ports.append(Port("API", settings.host, settings.port, "ENGINEBENCH_PORT"))
    ports.append(Port("engines by default", "127.0.0.1", 8000, "the engine's --port", is_ours=False))
    return ports


def _published(of: str, variable: str, value: str) -> Port:
    host, _, word = value.rpartition(":")
    port = int(word) if re.fullmatch("[0-9]{1,5}", word) and 1 <= int(word) <= 65535 else None
    return Port(of, host.strip("[]") or "0.0.0.0", port, f"{variable} in .env", said=value)  # noqa: S104


def _listen_error(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return str(error.strerror or error)
    except TypeError:
        # It cannot be written as a name of a host at all.
        return "no address"
    return None


def _is_service(port: Port) -> bool:
    """Whether its own page of health has what nothing else that is found at such ports says."""
    import httpx

    page = _HEALTH.get(port.of)
    if page is None or port.port is None:
        return False
    path, fields = page
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(port.host, port.host)  # noqa: S104
    try:
        with httpx.Client(trust_env=False, timeout=_WAIT_S) as client:
            said = client.get(f"http://{f'[{host}]' if ':' in host else host}:{port.port}{path}").json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
    if port.of == "API":
        said = said.get("checks") if isinstance(said, dict) else None
    return isinstance(said, dict) and fields <= said.keys()
