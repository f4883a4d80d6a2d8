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
    except BadInput as error:
        for problem in error.problems:
            print(f"enginebench migrate: {problem.field}: {problem.problem} ({problem.mend})", file=sys.stderr)
        return 2
    except Unavailable as error:
        print(f"enginebench migrate: {error}", file=sys.stderr)
        return 1
    return 0
