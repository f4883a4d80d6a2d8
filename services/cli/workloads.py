"""`enginebench workloads`: the presets. They are data of this installation, so no service is asked unless told to."""

from __future__ import annotations

import argparse
from typing import Any

from services.cli.service import Refused, Service, print_json, print_table, refusing


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench workloads …`."""
    workloads = commands.add_parser(
        "workloads",
        help="list and show the preset workloads",
        usage="enginebench workloads [list | [show] NAME] [--server URL] [--json]",
        description="The presets of this installation; with --server, those of a service.",
        allow_abbrev=False,
    )
    workloads.add_argument("words", nargs="*", metavar="NAME", help="show this one with its full spec")
    workloads.add_argument("--json", action="store_true", help="print JSON instead of tables")
    workloads.add_argument("--server", metavar="URL", help="ask this service; default: this installation's own presets")
    workloads.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the service's API key")
    workloads.set_defaults(func=refusing(_run))


def _run(arguments: argparse.Namespace) -> int:
    match arguments.words:
        case [] | ["list"]:
            return _list(arguments)
        case ["show", name] | [name] if name != "show":
            print_json(_find(_presets(arguments), name)["spec"])
            return 0
        case ["show"]:
            raise Refused("show: give the name of a workload")
        case _:
            raise Refused(f"give one name, not {' '.join(arguments.words)!r}")


def _list(arguments: argparse.Namespace) -> int:
    presets = _presets(arguments)
    if arguments.json:
        print_json(presets)
    else:
        print_table("", ("workload", "what it asks for"), ((each["name"], each["description"]) for each in presets))
    return 0


def _find(presets: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for each in presets:
        if each["name"] == name:
            return each
    raise Refused(f"there is no preset {name!r}; there are {', '.join(each['name'] for each in presets)}")


def _presets(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Name, description and spec of each, as the API has them."""
    if arguments.server is not None:
        with Service.opened(arguments) as service:
            return list(service.get("/v1/workloads")["items"])
    from bench_runner.plan.presets import DESCRIPTIONS, PRESETS

    return [
        {"name": name, "description": DESCRIPTIONS[name], "spec": spec.model_dump(mode="json")}
        for name, spec in PRESETS.items()
    ]
