"""`enginebench compare`: runs held against each other along one axis."""

from __future__ import annotations

import argparse
from typing import Any

from services.cli.service import Service, add_service_arguments, print_json, print_table, shown, speaking


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench compare …`."""
    compare = commands.add_parser("compare", help="hold runs against each other along one axis", allow_abbrev=False)
    compare.add_argument("run", nargs="+", metavar="RUN", help="the first is the baseline")
    compare.add_argument("--axis", default="engine", metavar="AXIS", help="what may differ; default: engine")
    compare.set_defaults(func=speaking(_compare))
    add_service_arguments(compare)


def _compare(arguments: argparse.Namespace, service: Service) -> int:
    """0 where they are comparable, 1 where they are not."""
    found = service.get("/v1/compare", {"runs": ",".join(arguments.run), "axis": arguments.axis})
    if arguments.json:
        print_json(found)
    else:
        _print(found)
    return 0 if found["comparable"] else 1


def _print(found: dict[str, Any]) -> None:
    axis = found["axis"]
    if found["comparable"]:
        sides = found["sides"]
        columns = ["figure", *(f"{side['value']} ({len(side['runs'])} runs)" for side in sides), "ratio", "verdict"]
        rows = []
        for name, last in sides[-1]["figures"].items():
            medians = (side["figures"].get(name, {}).get("spread", {}).get("median") for side in sides)
            rows.append((name, *(shown(m, 4) for m in medians), shown(last["ratio"], 3), last["verdict"]))
        print_table(f"along {axis}; ratio and verdict of the last side against the first", columns, rows)
    else:
        print(f"not comparable along {axis}")
        for difference in found["differences"]:
            values = ", ".join(f"{run}: {value}" for run, value in difference["values"].items())
            print(f"  {difference['field']} differs ({values})")
    for run in found["left_out"]:
        print(f"left out: {run['run']} is {run['state']} ({', '.join(run['reasons'])})")
    for note in found["notes"]:
        print(f"note: {note}")
    for one in found["asymmetries"]:
        print(f"not alike: {one['words']}")
