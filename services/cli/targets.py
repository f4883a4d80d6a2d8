"""`enginebench targets`: running endpoints by name."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from services.cli.service import Refused, Service, add_service_arguments, print_json, print_table, speaking


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench targets …`."""
    targets = commands.add_parser("targets", help="create, list, probe and delete targets", allow_abbrev=False)
    targets.set_defaults(func=speaking(_list), engine=None, limit=100)
    add_service_arguments(targets)
    actions = targets.add_subparsers(title="actions", metavar="ACTION")
    listing = actions.add_parser("list", help="by name (default)", allow_abbrev=False)
    listing.add_argument("--engine", metavar="ENGINE")
    listing.add_argument("--limit", type=int, default=100, metavar="N")
    listing.set_defaults(func=speaking(_list))
    add_service_arguments(listing, inner=True)
    _add_create(actions)
    for name, words, command in (
        ("show", "one target", _show),
        ("probe", "ask it for one short generation; exit code 1 where it does not answer", _probe),
        ("delete", "forget it; its runs stay", _delete),
    ):
        action = actions.add_parser(name, help=words, allow_abbrev=False)
        action.add_argument("name", metavar="NAME")
        if command is _probe:
            action.add_argument(
                "--timeout", type=float, default=30.0, metavar="S", help="longest wait for it, 1 to 60 (default: 30)"
            )
        action.set_defaults(func=speaking(command))
        add_service_arguments(action, inner=True)


def _add_create(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    create = actions.add_parser("create", help="keep a target under a name", allow_abbrev=False)
    create.add_argument("name", nargs="?", metavar="NAME")
    create.add_argument("--engine", metavar="ENGINE")
    create.add_argument("--url", metavar="http://HOST:PORT")
    create.add_argument("--model", metavar="NAME", help="as the server knows it")
    create.add_argument(
        "--compose", action="store_true", help="instead of NAME: the four engines of docker-compose.yml, in one class"
    )
    create.add_argument("--endpoint", choices=("completions", "chat", "native"))
    create.add_argument("--hardware", metavar="NAME", help="such as A100-80GB; needed for the roofline")
    create.add_argument("--gpus", type=int, metavar="N")
    create.add_argument("--precision", metavar="P", help="such as BF16")
    create.add_argument(
        "--class", "--flag-class", dest="flag_class", metavar="CLASS", help="as-shipped or matched (--compose: matched)"
    )
    create.add_argument("--flag", action="append", default=[], metavar="FLAG", help="a flag it runs with; repeatable")
    create.add_argument("--resource", action="append", default=[], metavar="NAME", help="what it occupies, as gpu:0")
    create.add_argument("--tokenizer", metavar="PATH", help="on the service's host")
    create.add_argument("--header", action="append", default=[], metavar="K=V")
    create.add_argument("--secret", metavar="NAME", help="the service's secret that holds the target's key")
    create.add_argument(
        "--secret-header", metavar="HEADER", help="send the key in this header as it is (default: as a bearer token)"
    )
    create.set_defaults(func=speaking(_create))
    add_service_arguments(create, inner=True)


def _create(arguments: argparse.Namespace, service: Service) -> int:
    if arguments.compose:
        return _create_compose(arguments, service)
    missing = [name for name in ("engine", "url", "model") if not getattr(arguments, name)]
    if not arguments.name or missing:
        lacking = ", ".join([*([] if arguments.name else ["NAME"]), *(f"--{name}" for name in missing)])
        raise Refused(f"a target needs {lacking}; or give --compose for the engines of docker-compose.yml")
    headers = [header.partition("=") for header in arguments.header]
    if any(not equals for _, equals, _ in headers):
        raise Refused("--header: give it as K=V")
    given: dict[str, Any] = {
        "name": arguments.name,
        "engine": arguments.engine,
        "model": arguments.model,
        "reach": {"kind": "attached", "url": arguments.url} | _key(arguments),
        "endpoint": arguments.endpoint,
        "hardware": arguments.hardware,
        "gpus": arguments.gpus,
        "precision": arguments.precision,
        "flag_class": arguments.flag_class,
        "flags": arguments.flag,
        "resources": arguments.resource,
        "tokenizer": arguments.tokenizer,
        "headers": {name: value for name, _, value in headers},
    }
    target = service.post("/v1/targets", {name: value for name, value in given.items() if value is not None})
    if arguments.json:
        print_json(target)
    else:
        print(f"target {target['name']}; see whether it answers with `enginebench targets probe {target['name']}`")
    return 0


def _key(arguments: argparse.Namespace) -> dict[str, str]:
    """What the reach says of the target's key."""
    if arguments.secret_header and not arguments.secret:
        raise Refused("--secret-header: name the secret that goes there with --secret")
    given = {"api_key_env": arguments.secret, "api_key_header": arguments.secret_header}
    return {name: value for name, value in given.items() if value is not None}


def _create_compose(arguments: argparse.Namespace, service: Service) -> int:
    """The four engines of docker-compose.yml, in one class."""
    from engines.launch.container_flags import AS_SHIPPED, MATCHED, compose_targets

    own = ("name", "engine", "url", "model", "endpoint", "gpus", "precision", "tokenizer", "secret", "secret_header")
    given = [name for name in own if getattr(arguments, name)]
    given += [name for name in ("flag", "resource", "header") if getattr(arguments, name)]
    if given:
        raise Refused(f"--compose names its targets itself: leave out {', '.join(given)}")
    flag_class = arguments.flag_class or MATCHED
    if flag_class not in (MATCHED, AS_SHIPPED):
        raise Refused(f"--class: give {MATCHED} or {AS_SHIPPED}, not {flag_class!r}")
    created, present = [], []
    for target in compose_targets(flag_class, arguments.hardware):
        try:
            created.append(service.post("/v1/targets", target))
        except Refused as refusal:
            if refusal.status != 409:
                raise
            present.append(target["name"])
    if arguments.json:
        print_json(created)
    else:
        for target in created:
            print(f"target {target['name']}: container {target['reach']['container']}, started for its runs")
    for name in present:
        how = f"see `enginebench targets show {name}`; to make it anew, `enginebench targets delete {name}` first"
        print(f"target {name} is there already and stays as it is: {how}", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace, service: Service) -> int:
    targets = list(service.pages("/v1/targets", {"engine": arguments.engine}, arguments.limit))
    if arguments.json:
        print_json(targets)
        return 0
    rows = (
        (
            t["name"],
            t["engine"],
            t["model"],
            t["reach"].get("container") or t["reach"].get("url") or "launched",
            t["hardware"],
            t["precision"],
        )
        for t in targets
    )
    print_table("", ("target", "engine", "model", "where", "hardware", "precision"), rows)
    return 0


def _show(arguments: argparse.Namespace, service: Service) -> int:
    print_json(service.get(f"/v1/targets/{arguments.name}"))
    return 0


def _probe(arguments: argparse.Namespace, service: Service) -> int:
    probe = service.post(f"/v1/targets/{arguments.name}/probe?timeout_s={arguments.timeout}")
    if arguments.json:
        print_json(probe)
    elif probe["ok"]:
        print(f"target {probe['target']} answers{' (simulated)' if probe['simulated'] else ''}")
    else:
        print(f"target {probe['target']} does not answer: {probe['message']}")
    return 0 if probe["ok"] else 1


def _delete(arguments: argparse.Namespace, service: Service) -> int:
    service.delete(f"/v1/targets/{arguments.name}")
    if arguments.json:
        print_json({"deleted": arguments.name})
    else:
        print(f"target {arguments.name} is forgotten; its runs stay")
    return 0
