"""`enginebench job` asks for runs; `enginebench jobs` lists, shows, draws curves, follows and cancels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from services.cli.curve import add_axis_flags, axis_of, print_curve, print_search
from services.cli.service import (
    Refused,
    Service,
    add_service_arguments,
    print_json,
    print_table,
    shown,
    speaking,
)

#: Two streams that end without an end: the service is going down, or a proxy cuts.
MOST_RECONNECTS = 20


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench job …` and `enginebench jobs …`."""
    _add_job(commands)
    jobs = commands.add_parser("jobs", help="list, show, follow and cancel jobs, and their curves", allow_abbrev=False)
    jobs.set_defaults(func=speaking(_list), status=[], label=[], limit=20)
    add_service_arguments(jobs)
    actions = jobs.add_subparsers(title="actions", metavar="ACTION")
    listing = actions.add_parser("list", help="newest first (default)", allow_abbrev=False)
    listing.add_argument("--status", action="append", default=[], metavar="STATUS")
    listing.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    listing.add_argument("--limit", type=int, default=20, metavar="N")
    listing.set_defaults(func=speaking(_list))
    add_service_arguments(listing, inner=True)
    for name, words, command in (
        ("show", "its runs, and each target × workload over its repeats", _show),
        ("curve", "throughput and interactivity along the axis of its sweep or search", _curve),
        ("wait", "follow it to its end", _wait),
        ("cancel", "cancel what waits, stop what runs", _cancel),
    ):
        action = actions.add_parser(name, help=words, allow_abbrev=False)
        action.add_argument("job", metavar="JOB")
        action.set_defaults(func=speaking(command))
        add_service_arguments(action, inner=True)


def _add_job(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    job = commands.add_parser("job", help="ask a service for runs: targets × workloads × repeats", allow_abbrev=False)
    job.add_argument("file", nargs="*", metavar="submit|FILE", help="a job as YAML or JSON; - for standard input")
    job.add_argument("--target", action="append", default=[], metavar="NAME", help="a stored target; repeatable")
    job.add_argument("--workload", action="append", default=[], metavar="PRESET|FILE.yaml", help="repeatable")
    job.add_argument("--repeats", type=int, metavar="N")
    job.add_argument("--starts", type=int, metavar="N", help="start each engine N times, A B B A, for --bursts runs")
    job.add_argument("--bursts", type=int, metavar="N", help="runs of each workload in a start (default: 5, 3 starts)")
    job.add_argument("--order", choices=("interleaved", "grouped", "abba"))
    job.add_argument("--name", metavar="TEXT")
    job.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    job.add_argument("--priority", type=int, metavar="P", help="higher goes first")
    job.add_argument("--seed", type=int, metavar="S")
    job.add_argument("--idempotency-key", metavar="KEY", help="the same key and body again give the same job")
    job.add_argument("--wait", action="store_true", help="follow it to its end; exit code 0 only if every run is VALID")
    job.add_argument(
        "--dry-run", action="store_true", help="only say what would run, in which order; nothing is queued"
    )
    add_axis_flags(job)
    job.set_defaults(func=speaking(_submit))
    add_service_arguments(job)


def _submit(arguments: argparse.Namespace, service: Service) -> int:
    if arguments.dry_run:
        return _ask(arguments, service)
    headers = {"Idempotency-Key": arguments.idempotency_key} if arguments.idempotency_key else {}
    job = service.post("/v1/jobs", _job_body(arguments), headers)
    if arguments.wait:
        return _follow(service, job["id"], as_json=arguments.json)
    if arguments.json:
        print_json(job)
    else:
        runs = sum(job["counts"].values())
        print(f"job {job['id']}: {runs} runs {job['status']}; follow it with `enginebench jobs wait {job['id']}`")
        _print_asymmetries(job)
    return 0


def _ask(arguments: argparse.Namespace, service: Service) -> int:
    """What the job would do."""
    found = service.post("/v1/jobs?dry_run=true", _job_body(arguments))
    if arguments.json:
        print_json(found)
        return 0
    print(f"{found['runs']} runs, in this order; nothing was queued")
    for step in found["steps"]:
        waits = "" if step["waits_for"] is None else f", after {step['waits_for']} gave its lengths"
        print(f"{step['position']:>4}  {step['target']} on {', '.join(step['resources'])}{waits}: {step['words']}")
    for note in found["notes"]:
        print(f"note: {note}")
    _print_asymmetries(found)
    return 0


def _print_asymmetries(told: dict[str, Any]) -> None:
    """What the job's targets are not alike in, a line each."""
    for one in told["asymmetries"]:
        print(f"not alike: {one['words']}")


def _job_body(arguments: argparse.Namespace) -> dict[str, Any]:
    files = [name for name in arguments.file if name != "submit"]
    if len(files) > 1:
        raise Refused("give one job file")
    body: dict[str, Any] = _read_mapping(files[0]) if files else {}
    if arguments.target:
        body["targets"] = [*body.get("targets", []), *arguments.target]
    if arguments.workload:
        body["workloads"] = [*body.get("workloads", []), *(_workload(name) for name in arguments.workload)]
    if arguments.label:
        body["labels"] = {**body.get("labels", {}), **dict(_pair(label) for label in arguments.label)}
    for name in ("repeats", "order", "name", "priority", "seed"):
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    said = {"count": arguments.starts, "bursts": arguments.bursts}
    if starts := {name: value for name, value in said.items() if value is not None}:
        body["starts"] = {**(body.get("starts") or {}), **starts}
    body |= axis_of(arguments)
    if not body.get("targets") or not body.get("workloads"):
        raise Refused("a job needs targets and workloads: give a FILE, or --target and --workload")
    return body


def _read_mapping(name: str) -> dict[str, Any]:
    import yaml

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        body = yaml.safe_load(text)
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}; give a file that can be read") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{name}: {error}") from None
    except yaml.YAMLError as error:
        raise Refused(f"{name} is not YAML or JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(f"{name} must hold one job: a mapping with targets and workloads")
    return body


def _workload(name: str) -> object:
    """A preset's name as it is; a file as what it holds."""
    return _read_mapping(name) if name.endswith((".yaml", ".yml", ".json")) else name


def _pair(label: str) -> tuple[str, str]:
    name, equals, value = label.partition("=")
    if not equals or not name:
        raise Refused(f"--label: {label!r} is not NAME=VALUE")
    return name, value


def _list(arguments: argparse.Namespace, service: Service) -> int:
    params = {"status": arguments.status, "label": arguments.label}
    jobs = list(service.pages("/v1/jobs", params, arguments.limit))
    if arguments.json:
        print_json(jobs)
        return 0
    rows = ((j["id"], j["name"], j["status"], _counts(j["counts"]), j["created_at"][:19]) for j in jobs)
    print_table("", ("job", "name", "status", "runs", "created (UTC)"), rows)
    return 0


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _show(arguments: argparse.Namespace, service: Service) -> int:
    job = service.get(f"/v1/jobs/{arguments.job}")
    if arguments.json:
        print_json(job)
    else:
        print_job(job)
    return 0


def _curve(arguments: argparse.Namespace, service: Service) -> int:
    curve = service.get(f"/v1/jobs/{arguments.job}/curve")
    if arguments.json:
        print_json(curve)
    else:
        print_curve(curve)
    return 0


def _cancel(arguments: argparse.Namespace, service: Service) -> int:
    job = service.post(f"/v1/jobs/{arguments.job}/cancel")
    if arguments.json:
        print_json(job)
    else:
        print(f"job {job['id']}: {_counts(job['counts'])}")
    return 0


def _wait(arguments: argparse.Namespace, service: Service) -> int:
    return _follow(service, arguments.job, as_json=arguments.json)


def _follow(service: Service, job_id: str, *, as_json: bool) -> int:
    """Progress on standard error until the job ends; 0 only if every run is VALID, or every search has its answer."""
    follow_to_end(service, job_id)
    job = service.get(f"/v1/jobs/{job_id}")
    if as_json:
        print_json(job)
    else:
        print_job(job)
    return 0 if is_good(job) else 1


def is_good(job: dict[str, Any]) -> bool:
    """Every run is VALID; of a search, it came to an answer, whatever runs it repeated on the way."""
    if job["searches"]:
        return all(search["state"] in ("found", "all_meet", "none_meets") for search in job["searches"])
    return all(run["validity"] == "VALID" for run in job["runs"])


def follow_to_end(service: Service, job_id: str) -> None:
    """A line on standard error at every change; rewritten in place on a terminal.

    Raises:
        Refused: there is no such job, or the service went away for good.
    """
    from engines.clock import sleep_s

    last = ""
    in_place = sys.stderr.isatty()
    for _ in range(MOST_RECONNECTS):
        for name, data in service.events(f"/v1/jobs/{job_id}/events"):
            if name == "end":
                if in_place:
                    print(file=sys.stderr)
                return
            line = progress_line(job_id, data)
            if line != last:
                print(
                    f"\r\x1b[K{line}" if in_place else line, end="" if in_place else "\n", file=sys.stderr, flush=True
                )
                last = line
        sleep_s(0.5)
    raise Refused(f"the events of job {job_id} break off; look again with `enginebench jobs show {job_id}`", 1)


def progress_line(job_id: str, data: dict[str, Any]) -> str:
    """How a job stands, in one line."""
    counts = data["counts"]
    total = sum(counts.values())
    ended = sum(counts.get(status, 0) for status in ("completed", "failed", "cancelled"))
    line = f"job {job_id}: {ended} of {total} runs ended"
    for run in data["running"][:3]:
        progress = run["progress"] or {}
        requests = progress.get("requests")
        done = f", {progress.get('finished', 0)} of {requests} requests" if requests else ""
        line += f"; {run['target']} × {run['workload']} #{run['repeat']}: {progress.get('stage', 'taken up')}{done}"
    return line


def print_job(job: dict[str, Any]) -> None:
    """The job's cells over their repeats or starts, then what went wrong."""
    by = f", asked for by {_creator(job['created_by'])}" if job.get("created_by") else ""
    title = f"job {job['id']} {job['name']}: {job['status']}, {_counts(job['counts'])}{by}"
    columns = ("target", "workload", "valid", "input tok/s", "output tok/s", "± tok/s", "duration s", "TTFT p50 ms")
    rows = []
    for cell in job["cells"]:
        metrics = cell["metrics"]
        output = metrics.get("output_tokens_per_s", {})
        rows.append(
            (
                cell["target"] + (" (simulated)" if cell["simulated"] else ""),
                cell["workload"],
                f"{cell['valid']} of {cell['repeats']}",
                shown(metrics.get("input_tokens_per_s", {}).get("median")),
                shown(output.get("median")),
                shown((output["max"] - output["min"]) / 2) if output.get("n", 0) > 1 else None,
                shown(metrics.get("duration_s", {}).get("median"), 3),
                shown(metrics.get("ttft_p50_s", {}).get("median"), 1, 1000),
            )
        )
    print_table(title, columns, rows)
    _print_starts(job["cells"])
    for search in job["searches"]:
        print_search(search)
    for run in job["runs"]:
        if run["error"] or run["validity"] not in (None, "VALID"):
            why = run["error"] or ", ".join(run["reason_codes"])
            print(f"run {run['id']} ({run['target']} × {run['workload']}): {run['validity'] or run['status']}: {why}")
    _print_asymmetries(job)


def _creator(key: dict[str, Any]) -> str:
    """Whose key it came with; two keys may have one name, so a stored one's id goes along."""
    return f"{key['name']} (key {key['id']})" if key["id"] else str(key["name"])


def _print_starts(cells: list[dict[str, Any]]) -> None:
    """Output tokens a second by start: what the starts differ by, and what the bursts of one do."""
    rows = []
    for cell in cells:
        if not cell["starts"]:
            continue
        told = [start["metrics"].get("output_tokens_per_s", {}).get("median") for start in cell["starts"]]
        over = cell["metrics"].get("output_tokens_per_s", {})
        interval = over.get("interval")
        rows.append(
            (
                cell["target"],
                cell["workload"],
                f"{over.get('n', 0)} × {(over.get('bursts') or 0) / (over.get('n') or 1):g}",
                "  ".join(shown(one) or "-" for one in told),
                _percent(over.get("relative")),
                _percent(over.get("relative_within")),
                None if interval is None else f"{shown(interval[0])} to {shown(interval[1])}",
            )
        )
    if rows:
        columns = ("target", "workload", "starts × bursts", "tok/s of each start", "± starts", "± in one", "95 %")
        print_table("output tok/s by start of the engine; the starts are the samples", columns, rows)


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.1%}"
