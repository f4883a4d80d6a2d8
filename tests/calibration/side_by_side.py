"""One load, carried out by one client after another: ours, plain httpx, plain aiohttp, and one in C where there is one.

Each gives the same rows, so that whatever is said of one is worked out in the same way for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench_runner.load.contract import LoadOutcome, LoadPlan, RunControl, SocketPolicy
from bench_runner.load.fleet import drive_fleet
from bench_runner.plan.arrival import schedule
from bench_runner.plan.spec import Poisson
from engines.contract import Origin, WireRequest
from engines.dialects.http1 import encode_http
from tests.calibration.known_server import KnownServer
from tests.calibration.plain_clients import PROMPT

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a client: so many in flight, or an open Poisson loop."""

    requests: int
    #: as many as requests: a burst; 0: open loop
    concurrency: int
    tokens: int = 128
    rate_per_s: float = 0.0
    #: of an open loop
    seed: int = 20_26

    @property
    def offsets_ns(self) -> array[int] | None:
        """Of an open loop: the schedule that ours draws by itself from the same seed."""
        if not self.rate_per_s:
            return None
        arrival = Poisson(rate_per_s=self.rate_per_s)
        return schedule(arrival, self.requests, seed=self.seed, repeat=0, attempt=1).offsets_ns


@dataclass(frozen=True, slots=True)
class Row:
    """One request as the client has it; stamps are monotonic nanoseconds."""

    port: int
    due_ns: int
    sent_ns: int
    event_ns: list[int]


@dataclass(frozen=True, slots=True)
class Carried:
    """One load, carried out."""

    #: empty where only totals were asked for
    rows: list[Row]
    #: of the whole process, start-up and decoding included
    wall_s: float
    cpu_s: float
    #: of its largest process
    peak_bytes: int
    #: that came
    tokens: int
    #: ours: what the run says of itself
    validity: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients run and what they may use."""

    #: a scratch folder
    folder: Path
    #: the core that clients are held to; `None`: any
    core: int | None = None
    cclient: Path | None = None
    #: certificate that is trusted
    ca_file: Path | None = None


def carry_out(client: str, server: KnownServer, load: Load, place: Place, *, brief: bool = False) -> Carried:
    """The load by "enginebench", "httpx", "aiohttp" or "C", in a process of its own.

    Args:
        client: which.
        server: to be driven.
        load: to be carried out.
        place: where.
        brief: totals are enough, so no client spends time on writing out each stamp.

    Raises:
        RuntimeError: it failed; its last words.
    """
    out = place.folder / "rows.jsonl"
    out.unlink(missing_ok=True)
    match client:
        case "enginebench":
            return _ours(server, load, place, None if brief else out)
        case "C":
            assert place.cclient is not None
            sizes = ["-n", load.requests, "-c", load.concurrency, "--tokens", load.tokens]
            command = [place.cclient, "--port", urlsplit(server.url).port, *sizes, "--kts"]
            carried = _launch(command if brief else [*command, "--out", out], place)
            rows = [] if brief else [Row(r["port"], r["send"], r["send"], r["k"]) for r in _read(out)]
            # where the finish reason has an event of its own, it counts that as a token too
            counted = json.loads(carried["said"].splitlines()[-1])["tokens"]
            tokens = min(counted, load.requests * load.tokens)
        case _:
            command = [sys.executable, "-m", "tests.calibration.plain_clients", client, "--url", server.url]
            command += ["--requests", load.requests, "--concurrency", load.concurrency, "--tokens", load.tokens]
            if (offsets_ns := load.offsets_ns) is not None:
                offsets = place.folder / "offsets"
                offsets.write_bytes(offsets_ns.tobytes())
                command += ["--offsets", offsets]
            carried = _launch([*command, "--out", out, *(["--brief"] if brief else [])], place)
            told = _read(out)
            rows = [] if brief else [Row(r["port"], r["due_ns"], r["sent_ns"], r["event_ns"]) for r in told]
            tokens = told[0]["tokens"] if brief else sum(len(row.event_ns) for row in rows)
    return Carried(rows, carried["wall_s"], carried["cpu_s"], carried["peak_bytes"], tokens)


def _ours(server: KnownServer, load: Load, place: Place, out: Path | None) -> Carried:
    """`enginebench run`, from the command line, as a person would."""
    workload = place.folder / "workload.yaml"
    workload.write_text(json.dumps(_workload(load)))
    result = place.folder / "result.json"
    result.unlink(missing_ok=True)
    command: list[Any] = [sys.executable, "-m", "services.cli.main", "run", "--engine", "openai", "--url", server.url]
    command += ["--model", server.model, "--workload", workload, "--seed", load.seed, "--calibration", "off"]
    command += ["--json", result, *(["--records", out] if out else [])]
    carried = _launch(command, place, allowed=(0, 1))
    if not result.exists():
        raise RuntimeError(f"enginebench run wrote no result: {carried['said'][-500:]}")
    told = json.loads(result.read_bytes())
    if told["outcome"] != "completed":
        raise RuntimeError(f"enginebench run: {told['error']}")
    records = _read(out) if out else []
    rows = [Row(r["local_port"], r["scheduled_ns"], r["sent_ns"] or 0, r["event_ns"]) for r in records]
    validity, tokens = told["validity"], told["summary"]["total_output_tokens"]
    codes = tuple(reason["code"] for reason in validity["reasons"] if reason["severity"] != "note")
    return Carried(rows, carried["wall_s"], carried["cpu_s"], carried["peak_bytes"], tokens, validity["state"], codes)


def _workload(load: Load) -> dict[str, Any]:
    arrival: dict[str, Any] = {"kind": "closed_loop", "concurrency": load.concurrency}
    if load.rate_per_s:
        arrival = {"kind": "poisson", "rate_per_s": load.rate_per_s}
    elif load.concurrency == load.requests:
        arrival = {"kind": "burst"}
    return {
        "requests": load.requests,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 128}},
        "output_tokens": {"kind": "fixed", "tokens": load.tokens},
        "arrival": arrival,
        "warmup_batches": 0,
        "socket": {"connections": "reused"},
    }


def drive_alone(server: KnownServer, load: Load, place: Place, *, processes: int = 1) -> LoadOutcome:
    """The load process by itself, with the very requests that the plain clients send. Runs where the caller does."""
    port = urlsplit(server.url).port or 0
    origin = Origin("http", "127.0.0.1", port, "", "127.0.0.1")
    body = {
        "model": server.model,
        "prompt": PROMPT,
        "max_tokens": load.tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    wire = encode_http(origin, "/v1/completions", json.dumps(body).encode(), keep_alive=True)
    spool = place.folder / "spool"
    spool.mkdir(exist_ok=True)
    burst = load.concurrency == load.requests
    plan = LoadPlan(
        origin=origin,
        requests=tuple(WireRequest(k, wire) for k in range(load.requests)),
        offsets_ns=array("q", bytes(8 * load.requests)) if burst else load.offsets_ns,
        concurrency=None if burst or load.rate_per_s else load.concurrency,
        socket=SocketPolicy(fresh_connections=False, quick_ack=True),
        request_timeout_s=_LIMIT_S,
        connect_timeout_s=10.0,
        run_timeout_s=_LIMIT_S,
        spool=spool,
        processes=processes,
    )
    return drive_fleet(plan, RunControl())


def _launch(command: list[Any], place: Place, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    core = "-1" if place.core is None else str(place.core)
    launcher = [sys.executable, "-S", "-P", "-m", "tests.calibration.launcher", core]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    if place.ca_file is not None:
        environment["SSL_CERT_FILE"] = str(place.ca_file)
    done = subprocess.run(
        [*launcher, *map(str, command)], capture_output=True, text=True, env=environment, cwd=_ROOT, timeout=_LIMIT_S
    )
    told = json.loads(done.stdout) if done.stdout else {"code": done.returncode}
    if told["code"] not in allowed:
        last = next(reversed(done.stderr.strip().splitlines()), "it said nothing")
        raise RuntimeError(f"{command[0]} {command[1]} ended with {told['code']}: {last}")
    assert isinstance(told, dict)
    return told | {"said": done.stderr}


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
