"""Which keys open this service: those of the environment, and those in its database."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from anyio import to_thread

from engines.clock import monotonic_ns
from services.domain.errors import BadInput, Problem, Unavailable
from services.domain.key import Holder, Role
from services.settings import Settings
from services.store.database import Database
from services.store.keys import find_key, is_any_in_force, is_any_made

#: Until an open service sees that a first key was made. From then on each request's key is looked up anew.
LOOK_EVERY_S = 1.0
ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key was one."""


class Keyring:
    """A service is open until it has keys. Once one was made it wants keys, also when all of them are revoked."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        #: opened as the server starts
        self.database = database
        self._environment = tuple(key.get_secret_value() for key in settings.api_keys)
        self._metrics_key = settings.metrics_key.get_secret_value() if settings.metrics_key else None
        may_be_open = settings.is_loopback or settings.allow_unauthenticated_public
        #: as last known; `None`: the database has not said yet
        self._wants_keys: bool | None = True if self._environment or not may_be_open else None
        self._looked_ns = 0

    @property
    def wants_keys(self) -> bool:
        """As last known."""
        return self._wants_keys is True

    async def look(self) -> None:
        """See whether a service that was open has keys by now. Raises Unavailable where that was never known."""
        if self._wants_keys or (self._wants_keys is False and _age_s(self._looked_ns) < LOOK_EVERY_S):
            return
        self._looked_ns = monotonic_ns()
        try:
            self._wants_keys = await to_thread.run_sync(is_any_made, self._opened())
        except Unavailable:
            # What was open stays so: without its database it has nothing to give away.
            if self._wants_keys is None:
                raise

    async def holder_of(self, text: str) -> Holder | Revoked | None:
        """Whose key it is; `None`: nobody's. A stored key is looked up each time. Raises Unavailable."""
        if equals_any(text, self._environment):
            # Whoever writes the environment may do everything.
            return Holder(None, ENVIRONMENT, Role.ADMIN)
        found = await to_thread.run_sync(find_key, self._opened(), text)
        if found is None:
            return None
        return Revoked() if found.revoked_at is not None else Holder(found.id, found.name, found.role)

    @property
    def has_metrics_key(self) -> bool:
        """`/metrics` has a key of its own."""
        return self._metrics_key is not None

    def is_metrics_key(self, text: str) -> bool:
        """It opens /metrics and nothing else."""
        return self._metrics_key is not None and equals_any(text, (self._metrics_key,))

    def _opened(self) -> Database:
        if self.database is None:
            raise Unavailable("the service has not opened its database yet")
        return self.database


def refuse_public_and_open(settings: Settings, database: Database | None) -> None:
    """Raises BadInput where the API would be reached from outside and nobody has a key; Unavailable.

    A database of `None` is one that nobody made yet: it has no keys.
    """
    if settings.is_loopback or settings.allow_unauthenticated_public or settings.api_keys:
        return
    if database is None or not is_any_in_force(database):
        raise BadInput(
            Problem(
                "host",
                f"{settings.host} is reachable from outside, and there is no API key",
                "make one with `enginebench admin keys create --name NAME --role admin`, or set ENGINEBENCH_API_KEYS, "
                "or ENGINEBENCH_ALLOW_UNAUTHENTICATED_PUBLIC=true to leave it open knowingly",
            )
        )


def equals_any(text: str, keys: tuple[str, ...]) -> bool:
    """Takes as long for a near miss as for a far one."""
    offered = text.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(offered, key.encode()) for key in keys]
    return any(matches)


def bearer_in(authorization: str) -> str:
    """The key of an Authorization header; "": it has none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _age_s(stamp_ns: int) -> float:
    return (monotonic_ns() - stamp_ns) / 1e9
