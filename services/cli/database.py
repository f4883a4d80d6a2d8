"""The database as the command line sees it: opened by the settings, its refusals in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.store.database import Database


def opened(command: Callable[[argparse.Namespace, Database], int]) -> Callable[[argparse.Namespace], int]:
    """A command of `admin` with the database of the settings. 1: the database is away; 2: wrong use or settings."""

    def run(arguments: argparse.Namespace) -> int:
        from services.cli.migrate import refused
        from services.domain.errors import BadInput, Conflict, NotFound, Unavailable
        from services.settings import read_settings
        from services.store.database import close, open_database

        try:
            database = open_database(read_settings().database_url.get_secret_value())
        except (BadInput, OSError) as error:
            return refused("admin", error)
        try:
            return command(arguments, database)
        except Unavailable as error:
            return say(str(error), 1)
        except (BadInput, Conflict, NotFound) as error:
            return say("; ".join(f"{p.field}: {p.problem} ({p.mend})" for p in error.problems), 2)
        except OSError as error:
            return say(f"{error.filename or arguments.file}: {error.strerror}", 2)
        finally:
            close(database)

    return run


def say(words: str, code: int) -> int:
    """On standard error; gives the exit code back."""
    print(f"enginebench admin: {words}", file=sys.stderr)
    return code
