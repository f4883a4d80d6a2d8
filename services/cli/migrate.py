"""`enginebench migrate`: bring the database's schema up to date, and end."""

from __future__ import annotations

import argparse
import sys


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
        migrate(read_settings().database_url.get_secret_value())
    except (BadInput, Unavailable, OSError) as error:
        return refused("migrate", error)
    return 0


def refused(command: str, error: Exception) -> int:
    """Says what keeps a command from starting, each setting by its variable; 2: wrong settings, 1: database away."""
    from services.domain.errors import BadInput
    from services.settings import variable_of

    match error:
        case BadInput():
            for problem in error.problems:
                where = f"{variable_of(problem.field)}: {problem.problem} ({problem.mend})"
                print(f"enginebench {command}: {where}", file=sys.stderr)
            return 2
        case OSError():
            # only SQLite's folder is made on the way to the database
            where = f"{variable_of('database_url')}: {error.filename} cannot be used: {error.strerror}"
            print(f"enginebench {command}: {where} (name a file in a folder that may be written)", file=sys.stderr)
            return 2
    print(f"enginebench {command}: {error}", file=sys.stderr)
    return 1
