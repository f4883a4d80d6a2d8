"""`enginebench compare`: runs held against each other along one axis."""

from __future__ import annotations

import argparse

from services.cli.service import Service, add_service_arguments, print_json, speaking


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench compare …`."""
    compare = commands.add_parser("compare", help="hold runs against each other along one axis", allow_abbrev=False)
    compare.add_argument("run", nargs="+", metavar="RUN", help="the first is the baseline")
    compare.add_argument("--axis", default="engine", metavar="AXIS", help="what may differ; default: engine")
    compare.set_defaults(func=speaking(_compare))
    add_service_arguments(compare)


def _compare(arguments: argparse.Namespace, service: Service) -> int:
    verdict = service.get("/v1/compare", {"runs": ",".join(arguments.run), "axis": arguments.axis})
    print_json(verdict)
    return 0
