"""`enginebench admin keys`: who may use the API, each with a key and a role."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from services.cli.database import opened, say
from services.cli.service import print_json, print_table

if TYPE_CHECKING:
    from services.store.database import Database
    from services.store.keys import ApiKey

#: As `services.domain.key.Role` has them, which is not imported for a parser alone; a test holds the two together.
ROLES = ("read", "run", "admin")
LONGEST_NAME = 100


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench admin keys …`."""
    keys = actions.add_parser(
        "keys",
        help="make, list and revoke keys of the API",
        description="A service whose database has keys wants one with each request but health. read: look at "
        "everything; run: send load too (jobs, cancel, targets, probes); admin: all else, such as leaving runs out of "
        "rankings and deleting targets. Keys are not part of a backup.",
        allow_abbrev=False,
    )
    verbs = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = verbs.add_parser("create", help="a new key, shown this once", allow_abbrev=False)
    create.add_argument("--name", required=True, metavar="NAME", help="whose it is, or what for")
    create.add_argument("--role", required=True, choices=ROLES, help="what it may do")
    create.set_defaults(func=opened(_create))
    listing = verbs.add_parser("list", help="all there ever were, the oldest first", allow_abbrev=False)
    listing.set_defaults(func=opened(_list))
    revoke = verbs.add_parser("revoke", help="it opens nothing any more, from now on", allow_abbrev=False)
    revoke.add_argument("key", metavar="ID", help="public id, as `list` shows it")
    revoke.set_defaults(func=opened(_revoke))
    for verb in (create, listing, revoke):
        verb.add_argument("--json", action="store_true", help="print JSON instead of words and tables")


def _create(arguments: argparse.Namespace, database: Database) -> int:
    from services.domain.key import Role
    from services.domain.text import fault_in_text
    from services.store.database import ping
    from services.store.keys import create_key

    name = arguments.name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or fault_in_text(name) or not name.isprintable():
        return say(f"--name: give 1 to {LONGEST_NAME} characters that can be printed", 2)
    ping(database)
    key, text = create_key(database, name=name, role=Role(arguments.role))
    if arguments.json:
        print_json({**_as_json(key), "key": text})
        return 0
    # The key alone on standard output, so that a script can take it.
    print(text)
    words = f"key {key.id} ({key.name}, {key.role.value}) is made; it is shown this once, so keep it"
    print(f"{words}, and send it as Authorization: Bearer KEY", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace, database: Database) -> int:
    from services.store.database import ping
    from services.store.keys import list_keys

    ping(database)
    keys = list_keys(database)
    if arguments.json:
        print_json([_as_json(key) for key in keys])
        return 0
    columns = ("id", "name", "role", "created", "last used", "revoked")
    print_table("", columns, [tuple(_as_json(key).values()) for key in keys])
    return 0


def _revoke(arguments: argparse.Namespace, database: Database) -> int:
    from services.store.database import ping
    from services.store.keys import revoke_key

    ping(database)
    key = revoke_key(database, arguments.key)
    if arguments.json:
        print_json(_as_json(key))
    else:
        print(f"key {key.id} ({key.name}) opens nothing from {_as_json(key)['revoked_at']} on")
    return 0


def _as_json(key: ApiKey) -> dict[str, Any]:
    moments = (("created_at", key.created_at), ("last_used_at", key.last_used_at), ("revoked_at", key.revoked_at))
    shown = {name: moment and moment.isoformat(timespec="seconds") for name, moment in moments}
    return {"id": key.id, "name": key.name, "role": key.role.value, **shown}
