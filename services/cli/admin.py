"""`enginebench admin`: backup, restore, retention and the API's keys, on the database itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli import keys
from services.cli.database import opened, say

if TYPE_CHECKING:
    from services.store.database import Database


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench admin …`."""
    admin = commands.add_parser(
        "admin",
        help="back up and restore the database, let go of old request records, make and revoke API keys",
        description="Works on the database that ENGINEBENCH_DATABASE_URL names; no service is asked.",
        allow_abbrev=False,
    )
    actions = admin.add_subparsers(title="actions", metavar="ACTION", required=True)
    backup = actions.add_parser("backup", help="the whole database as one file, while it is used", allow_abbrev=False)
    backup.add_argument("file", type=Path, metavar="FILE")
    backup.add_argument("--force", action="store_true", help="over a file that is there")
    backup.set_defaults(func=opened(_backup))
    restore = actions.add_parser("restore", help="fill a new database from a backup", allow_abbrev=False)
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.set_defaults(func=opened(_restore))
    retention = actions.add_parser(
        "retention", help="let go of old request records; results stay for ever", allow_abbrev=False
    )
    retention.add_argument("--keep-days", type=float, required=True, metavar="DAYS", help="of runs that ended before")
    retention.add_argument("--dry-run", action="store_true", help="only say what would go")
    retention.set_defaults(func=opened(_retention))
    keys.add_parser(actions)


def _backup(arguments: argparse.Namespace, database: Database) -> int:
    from services.store.backup import write_backup
    from services.store.database import ping

    if arguments.file.is_dir():
        return say(f"{arguments.file} is a folder; name a file in it", 2)
    if arguments.file.exists() and not arguments.force:
        return say(f"{arguments.file} is there; give another name, or --force", 2)
    ping(database)
    count = write_backup(database, arguments.file)
    print(f"{count} rows in {arguments.file}, {arguments.file.stat().st_size / 1e6:.1f} MB")
    return 0


def _restore(arguments: argparse.Namespace, database: Database) -> int:
    from services.store.backup import restore_backup

    print(f"{restore_backup(database, arguments.file)} rows restored; API keys are not among them, make new ones")
    return 0


def _retention(arguments: argparse.Namespace, database: Database) -> int:
    from datetime import timedelta

    from services.store.database import ping
    from services.store.retention import drop_records

    if not 0 <= arguments.keep_days <= 100_000:
        return say("--keep-days: give a number of days from 0 to 100000", 2)
    ping(database)
    went = drop_records(database, timedelta(days=arguments.keep_days), dry_run=arguments.dry_run)
    words = "would be let go of" if arguments.dry_run else "are let go of"
    print(f"request records of {went.runs} runs, {went.size_bytes / 1e6:.1f} MB, {words}")
    return 0
