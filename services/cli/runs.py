"""`enginebench runs`: the history of a service."""

from __future__ import annotations

import argparse
import sys

from services.cli.service import Service, add_service_arguments, print_json, print_table, shown, speaking

FILTERS = ("engine", "model", "workload", "target", "hardware", "flag_class", "status", "validity", "label")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench runs …`."""
    runs = commands.add_parser("runs", help="list and show runs and their requests", allow_abbrev=False)
    runs.set_defaults(
        func=speaking(_list), limit=20, sort=None, job=None, since=None, until=None, **{name: [] for name in FILTERS}
    )
    add_service_arguments(runs)
    actions = runs.add_subparsers(title="actions", metavar="ACTION")
    _add_list(actions)
    show = actions.add_parser("show", help="one run with its whole result", allow_abbrev=False)
    show.add_argument("run", metavar="RUN")
    show.set_defaults(func=speaking(_show))
    add_service_arguments(show, inner=True)
    requests = actions.add_parser("requests", help="its request records, as CSV (or --json)", allow_abbrev=False)
    requests.add_argument("run", metavar="RUN")
    requests.set_defaults(func=speaking(_requests))
    add_service_arguments(requests, inner=True)
    exclude = actions.add_parser(
        "exclude", help="leave it out of rankings; it stays, with the note", allow_abbrev=False
    )
    exclude.add_argument("run", metavar="RUN")
    exclude.add_argument("--note", required=True, metavar="TEXT", help="why")
    exclude.set_defaults(func=speaking(_exclude))
    add_service_arguments(exclude, inner=True)
    include = actions.add_parser("include", help="let it count again", allow_abbrev=False)
    include.add_argument("run", metavar="RUN")
    include.set_defaults(func=speaking(_exclude), note=None)
    add_service_arguments(include, inner=True)
    cancel = actions.add_parser("cancel", help="cancel it, or ask it to stop", allow_abbrev=False)
    cancel.add_argument("run", metavar="RUN")
    cancel.set_defaults(func=speaking(_cancel))
    add_service_arguments(cancel, inner=True)


def _add_list(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = actions.add_parser("list", help="newest first (default)", allow_abbrev=False)
    for name in FILTERS:
        metavar = "NAME=VALUE" if name == "label" else name.upper()
        listing.add_argument(
            f"--{name.replace('_', '-')}", action="append", default=[], metavar=metavar, help="repeatable"
        )
    listing.add_argument("--job", metavar="JOB")
    listing.add_argument("--since", metavar="TIME", help="such as 2026-01-31T12:00:00Z")
    listing.add_argument("--until", metavar="TIME")
    listing.add_argument(
        "--sort",
        metavar="FIELD",
        help="such as duration_s; descending: --sort=-duration_s",
    )
    listing.add_argument("--limit", type=int, default=20, metavar="N")
    listing.set_defaults(func=speaking(_list))
    add_service_arguments(listing, inner=True)


def _list(arguments: argparse.Namespace, service: Service) -> int:
    params = {name: getattr(arguments, name) for name in (*FILTERS, "job", "since", "until", "sort")}
    runs = list(service.pages("/v1/runs", params, arguments.limit))
    if arguments.json:
        print_json(runs)
        return 0
    columns = (
        *("run", "engine", "model", "workload", "status", "validity"),
        *("input tok/s", "output tok/s", "duration s", "TTFT p50 ms", "TPOT p50 ms"),
    )
    rows = []
    for run in runs:
        metrics = run["metrics"]
        rows.append(
            (
                run["id"],
                run["engine"] + (" (simulated)" if run["simulated"] else ""),
                run["model"],
                run["workload"],
                run["status"],
                "excluded" if run["excluded_at"] else run["validity"],
                shown(metrics["input_tokens_per_s"]),
                shown(metrics["output_tokens_per_s"]),
                shown(metrics["duration_s"], 3),
                shown(metrics["ttft_p50_s"], 1, 1000),
                shown(metrics["tpot_p50_s"], 2, 1000),
            )
        )
    print_table("", columns, rows)
    return 0


def _show(arguments: argparse.Namespace, service: Service) -> int:
    run = service.get(f"/v1/runs/{arguments.run}")
    if arguments.json:
        print_json(run)
    elif run["result"] is None:
        print(f"run {run['id']}: {run['status']}{': ' + run['error'] if run['error'] else ''}; no result yet")
    else:
        from bench_runner.report import print_report

        print_report(run["result"])
    return 1 if run["status"] == "failed" or run["validity"] in ("INVALID", "INCONCLUSIVE") else 0


def _requests(arguments: argparse.Namespace, service: Service) -> int:
    if arguments.json:
        print_json(service.get(f"/v1/runs/{arguments.run}/requests")["items"])
    else:
        sys.stdout.write(service.get_text(f"/v1/runs/{arguments.run}/requests", {"format": "csv"}))
    return 0


def _exclude(arguments: argparse.Namespace, service: Service) -> int:
    run = service.patch(f"/v1/runs/{arguments.run}", {"excluded_note": arguments.note})
    if arguments.json:
        print_json(run)
    else:
        print(f"run {run['id']} {'is left out of rankings' if run['excluded_at'] else 'counts again'}")
    return 0


def _cancel(arguments: argparse.Namespace, service: Service) -> int:
    run = service.post(f"/v1/runs/{arguments.run}/cancel")
    if arguments.json:
        print_json(run)
    else:
        asked = run["status"] == "running"
        print(f"run {run['id']}: {'asked to stop' if asked else run['status']}")
    return 0
