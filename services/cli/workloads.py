"""`enginebench workloads`: the presets. They are data of this installation, so no service is asked."""

from __future__ import annotations

import argparse
import sys

from services.cli.service import print_json, print_table


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench workloads …`."""
    workloads = commands.add_parser("workloads", help="list and show the preset workloads", allow_abbrev=False)
    workloads.add_argument("name", nargs="?", metavar="NAME", help="show this one with its full spec")
    workloads.add_argument("--json", action="store_true", help="print JSON instead of tables")
    workloads.set_defaults(func=_show)


def _show(arguments: argparse.Namespace) -> int:
    from bench_runner.plan.presets import DESCRIPTIONS, PRESETS

    chosen = {n: w for n, w in PRESETS.items() if arguments.name in (None, n)}
    if not chosen:
        print(f"enginebench: there is no preset {arguments.name!r}; there are {', '.join(PRESETS)}", file=sys.stderr)
        return 2
    if arguments.name is not None:
        print_json(PRESETS[arguments.name].model_dump(mode="json"))
    elif arguments.json:
        items = [
            {"name": n, "description": DESCRIPTIONS[n], "spec": w.model_dump(mode="json")} for n, w in chosen.items()
        ]
        print_json(items)
    else:
        print_table("", ("workload", "what it asks for"), ((name, DESCRIPTIONS[name]) for name in chosen))
    return 0
