"""`enginebench demo`: the main job, whole, on simulated engines; over HTTP only, as any user of the service would."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.serve import end_with_parent

if TYPE_CHECKING:
    import httpx

PROFILES = ("vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-qwen2.5-7b", "tgi-mistral-7b")
HARDWARE, PRECISION = "A100-80GB", "BF16"
#: the mission's batch on all four, and the published table's on the two it has rows for
BATCH, PUBLISHED = "burst-100x128x128", "published-a100"
READY_TIMEOUT_S = 60.0
JOB_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
#: reasons that speak of the machine the load came from, and of nothing else
MACHINE_REASONS = frozenset({"client_cpu", "client_lag", "send_lag", "cpu_stolen", "cpu_wait", "calibration"})


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench demo …`."""
    parser = commands.add_parser("demo", help="the main job on four simulated engines", allow_abbrev=False)
    parser.add_argument("--json", metavar="FILE", help="write what the tables show as JSON too")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--data", default="enginebench-data/demo", metavar="FOLDER", help="database, state and logs")
    parser.set_defaults(func=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0: every run completed without a failed request, and none is INVALID; 1 otherwise.

    A busy machine alone makes runs INCONCLUSIVE: those are carried out once more, and what is still not VALID then is
    said in words.
    """
    from services.cli.demo_report import build_report, is_good, print_demo

    if not 1 <= arguments.repeats <= 100:
        print("enginebench demo: --repeats must be from 1 to 100", file=sys.stderr)
        return 2
    data = Path(arguments.data)
    try:
        data.mkdir(parents=True, exist_ok=True)
        output = Path(arguments.json).open("w", encoding="utf-8") if arguments.json else None  # noqa: SIM115
    except OSError as error:
        print(f"enginebench demo: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    # Told to end, it still takes down what it started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        urls = _start_engines(stack)
        client = stack.enter_context(_running_service(data))
        mistral = {name: url for name, url in urls.items() if "mistral" in name}
        jobs = [
            *_carry_out(client, "the mission's batch", urls, BATCH, arguments.repeats),
            *_carry_out(client, "the published table", mistral, PUBLISHED, 1),
        ]
        report = build_report(client, jobs)
    print_demo(report, data)
    if output is not None:
        with output:
            json.dump(report, output, indent=1)
            output.write("\n")
    return 0 if is_good(report) else 1


def _start_engines(stack: ExitStack) -> dict[str, tuple[str, str]]:
    """Profile -> (base URL, model on the wire) of each simulated engine."""
    from engines.simulated.start import simulated_engine

    print("starting four simulated engines (vLLM and TGI, two models, timed as on an A100-80GB)", file=sys.stderr)
    servers = {name: stack.enter_context(simulated_engine(name)) for name in PROFILES}
    return {name: (server.url, server.model) for name, server in servers.items()}


@contextmanager
def _running_service(data: Path) -> Iterator[httpx.Client]:
    """`enginebench serve` on a free port and the embedded database; a client of it."""
    import httpx

    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEBENCH_")}
    environment |= {
        "ENGINEBENCH_DATABASE_URL": f"sqlite:///{(data / 'enginebench.sqlite').resolve()}",
        "ENGINEBENCH_STATE_DIR": str((data / "worker").resolve()),
        "ENGINEBENCH_POLL_S": "0.2",
    }
    command = [sys.executable, "-m", "services.cli.main", "serve", "--port", str(port)]
    with (data / "service.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
        )
        try:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, trust_env=False, timeout=30.0) as client:
                _await_ready(client, process, data / "service.log")
                print(f"the service answers at {url}", file=sys.stderr)
                yield client
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    import httpx

    from engines.clock import monotonic_ns, sleep_s

    deadline_ns = monotonic_ns() + int(READY_TIMEOUT_S * 1e9)
    while process.poll() is None and monotonic_ns() < deadline_ns:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        sleep_s(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise SystemExit(f"enginebench demo: the service did not get ready; its log ends:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _carry_out(
    client: httpx.Client, name: str, urls: dict[str, tuple[str, str]], workload: str, repeats: int
) -> list[str]:
    """A job on these targets, to its end, and another of what the machine spoilt; their ids."""
    job_ids = [_submit(client, name, urls, workload, repeats)]
    _follow(client, job_ids[0])
    spoilt = _spoilt(client, job_ids[0])
    if spoilt:
        print(f"this machine was too busy for {sum(spoilt.values())} of them: once more", file=sys.stderr)
        again = {profile: urls[profile] for profile in spoilt}
        job_ids.append(_submit(client, f"{name}, again", again, workload, max(spoilt.values())))
        _follow(client, job_ids[1])
    return job_ids


def _spoilt(client: httpx.Client, job_id: str) -> Counter[str]:
    """Target -> how many of its runs are not VALID for what this machine did, and for nothing else."""
    from services.cli.demo_report import reasons_of, runs_of_job

    lost = [run for run in runs_of_job(client, job_id) if run["validity"] == "INCONCLUSIVE"]
    return Counter(run["target"] for run in lost if {code for code, _ in reasons_of(client, run)} <= MACHINE_REASONS)


def _submit(client: httpx.Client, name: str, urls: dict[str, tuple[str, str]], workload: str, repeats: int) -> str:
    """Post a job on these targets; its id."""
    targets = [
        {
            "name": profile,
            "engine": profile.partition("-")[0],
            "model": model,
            "reach": {"kind": "attached", "url": url},
            "hardware": HARDWARE,
            "precision": PRECISION,
            # One card for all of them: they take turns, as real engines on one GPU must.
            "resources": ["gpu:0"],
        }
        for profile, (url, model) in urls.items()
    ]
    body = {"name": name, "targets": targets, "workloads": [workload], "repeats": repeats, "labels": {"demo": "yes"}}
    answer = client.post("/v1/jobs", json=body)
    if answer.status_code != 202:
        raise SystemExit(f"enginebench demo: the service refused the job: {answer.text}")
    job_id = str(answer.json()["id"])
    print(f"job {job_id}: {name}, {workload} on {len(targets)} targets × {repeats}", file=sys.stderr)
    return job_id


def _follow(client: httpx.Client, job_id: str) -> None:
    """Print the job's progress from its event stream until it has ended: live on a terminal, else run by run."""
    import httpx

    live = sys.stderr.isatty()
    start, end = ("\r\x1b[K  ", "") if live else ("  ", "\n")
    last = ""
    try:
        with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=JOB_TIMEOUT_S) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                text = _progress_line(json.loads(line.removeprefix("data:")), live=live)
                if text != last:
                    print(f"{start}{text}", file=sys.stderr, end=end, flush=True)
                    last = text
    except httpx.HTTPError as error:
        raise SystemExit(f"enginebench demo: the service broke off ({error}); its log says why") from None
    if live:
        print(file=sys.stderr)


def _progress_line(event: dict[str, Any], *, live: bool) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(event.get("counts", {}).items()))
    running = [_running_line(run, live=live) for run in event.get("running", [])]
    return "; ".join([counts, *running])


def _running_line(run: dict[str, Any], *, live: bool) -> str:
    name = f"{run['target']} #{run['repeat'] + 1}"
    progress = run.get("progress")
    if not live or not progress:
        return name
    figures = f"{progress['finished'] or 0} of {progress['requests']} finished"
    return f"{name} {progress['stage']}, {figures}, {(progress['received_bytes'] or 0) / 1e6:.1f} MB received"
