"""A connection to Postgres that does not wait for ever: a server that hangs takes bytes and never answers.

Neither the kernel's keepalives nor the server's own statement timeout see that: its host and its socket are well.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import URL

from engines.clock import monotonic_ns

#: Longest wait for a new connection.
CONNECT_TIMEOUT_S = 5.0
#: Share of the wait for an answer after which the server gives a statement up by itself, and what it holds.
STATEMENT_SHARE = 0.8


class PatientConnection(psycopg.Connection[Any]):
    """One whose every exchange with the server has a longest wait; it is closed where that is over."""

    #: `None`: as long as it takes
    timeout_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As its parent does. Raises OperationalError where there is no answer in time."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        return super().wait(gen if self.timeout_s is None else self._in_time(gen, self.timeout_s), interval)

    def _in_time(self, gen: PQGen[RV], timeout_s: float) -> PQGen[RV]:
        """The same exchange, which is looked at whenever there was nothing to read or write for an interval."""
        deadline_ns = monotonic_ns() + int(timeout_s * 1e9)
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and monotonic_ns() > deadline_ns:
                    # What was asked may yet be answered, and then nobody would know to what.
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {timeout_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: RV = end.value
            return answer


def connect_arguments(url: URL, timeout_s: float | None) -> dict[str, Any]:
    """What libpq is told beside the URL, so that a server that is gone, cut off or slow is noticed.

    Args:
        url: its own `options` are kept.
        timeout_s: longest wait for an answer; `None`: as long as it takes, while the server's host answers.
    """
    found: dict[str, Any] = {
        "connect_timeout": round(min(CONNECT_TIMEOUT_S, timeout_s or CONNECT_TIMEOUT_S)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if timeout_s is not None:
        given = url.query.get("options", "")
        given = given if isinstance(given, str) else " ".join(given)
        limit = f"-c statement_timeout={round(1000 * STATEMENT_SHARE * timeout_s)}"
        found |= {"tcp_user_timeout": round(1000 * timeout_s), "options": f"{given} {limit}".strip()}
    return found
