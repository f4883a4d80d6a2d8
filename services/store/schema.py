"""Is the database's schema the one this version knows?"""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from services.store.database import Database, migration_config


def schema_fault(database: Database) -> str | None:
    """What is wrong with the schema, in words; `None`: it is the one this version knows. Raises Unavailable."""
    with database.read() as connection:
        wanted = _head(str(migration_config(connection).get_main_option("script_location")))
        found = MigrationContext.configure(connection).get_current_revision()
    if found == wanted:
        return None
    if found is None:
        return "is not migrated; `enginebench serve` does it at its start"
    return f"is at revision {found}, and this version wants {wanted}; serve one version on one database"


@cache
def _head(script_location: str) -> str | None:
    config = Config()
    config.set_main_option("script_location", script_location.replace("%", "%%"))
    return ScriptDirectory.from_config(config).get_current_head()
