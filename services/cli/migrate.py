"""`enginebench migrate`: bring the database's schema up to date, and end."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench migrate`."""
    parser = commands.add_parser(
        "migrate",
        help="bring the database's schema up to date, and end",
        description="The database is ENGINEBENCH_DATABASE_URL. `enginebench serve` does the same as it starts.",
        allow_abbrev=False,
    )
    parser.set_defaults(func=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0: at the newest schema; 1: the database is away; 2: wrong settings."""
    from services.domain.errors import BadInput, Unavailable
    from services.settings import read_settings
    from services.store.database import migrate

    try:
        settings = read_settings()
        if not sys.stderr.isatty():
            _log_to_stderr(settings.log_level, settings.known_secrets())
        migrate(settings.database_url.get_secret_value())
    except (BadInput, Unavailable, OSError) as error:
        return refused("migrate", error)
    return 0


#: Whose standard error is a log: a line of it that no program reads as JSON would be lost there.
LOGGED = ("serve", "migrate")


def refused(command: str, error: Exception) -> int:
    """Says what keeps a command from starting, each setting by its variable; 2: wrong settings, 1: database away.

    In words; of a service whose standard error is no terminal, in lines of its log.
    """
    from services.domain.errors import BadInput
    from services.settings import variable_of

    code = 2
    match error:
        case BadInput():
            reasons = [f"{variable_of(one.field)}: {one.problem} ({one.mend})" for one in error.problems]
        case OSError():
            # only SQLite's folder is made on the way to the database
            where = f"{variable_of('database_url')}: {error.filename} cannot be used: {error.strerror}"
            reasons = [f"{where} (name a file in a folder that may be written)"]
        case _:
            reasons, code = [str(error)], 1
    if command in LOGGED and not sys.stderr.isatty():
        _log_to_stderr("info")
        for reason in reasons:
            logging.getLogger(__name__).error("cannot start", extra={"command": command, "reason": reason})
        return code
    for reason in reasons:
        print(f"enginebench {command}: {reason}", file=sys.stderr)
    return code


def _log_to_stderr(level: str, secrets: Iterable[str] = ()) -> None:
    from services.telemetry.logs import configure_logs

    configure_logs(level, secrets)
