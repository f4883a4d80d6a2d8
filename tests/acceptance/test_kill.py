"""SIGKILL of workers and API at seeded random moments: every accepted job ends, no run twice, no load without a lease.

Two workers and an API in processes of their own, two simulated engines they attach to, and a third that they launch.
Some kills wait for the worst moment: a result is on the worker's disk, and the database may or may not have it yet.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from engines.clock import monotonic_ns, sleep_s, wall_offset_ns
from engines.simulated.start import SimulatedServer, simulated_engine
from services.store.database import Database
from services.store.gauges import state_counts
from services.store.rows import Attempt
from services.store.runs import get_records, get_run
from services.store.tables import runs
from tests.fakes.service import await_true, free_port

ROOT = Path(__file__).parents[2]
SEED = 20
#: What dies how often. "result": the worker whose result has just been put on its disk; "engine": the worker that has
#: an engine of its own at work.
KILLS = ["api"] * 5 + ["worker"] * 7 + ["result"] * 6 + ["engine"] * 2
#: Longest quiet time between two kills.
MOST_QUIET_S = 3.5
LEASE_S = 2.0
#: Where nobody is killed, and a lease that lapses on a busy machine would only start an engine more.
LONG_LEASE_S = 30.0
#: Where somebody is, and all wait for his lease to lapse.
PATIENT_LEASE_S = 5.0
#: Asked of the engines by runs only, never by probes: tells load from everything else in a truth log.
OUTPUT_TOKENS = 61
REQUESTS = 12
#: SQLite's clock has milliseconds, and the two clocks are read one after the other.
CLOCK_S = 0.005
PATIENCE_S = 120.0


@dataclass(slots=True)
class Site:
    """The processes under test, and what the test saw of them."""

    database: Database
    url: str
    folder: Path
    lease_s: float = LEASE_S
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    #: (run, attempt) -> end of its lease, for attempts whose worker was killed
    leases: dict[tuple[str, int], datetime] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    #: kills that left a result on disk
    caught: int = 0
    #: kills of a worker while an engine that it had launched was there
    orphaned: int = 0

    def start(self, name: str) -> None:
        """Start "api", "w1" or "w2"."""
        which = ["--api-only", "--port", str(self.port)] if name == "api" else ["--worker-only"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ENGINEBENCH_")}
        environment |= {
            "ENGINEBENCH_DATABASE_URL": self.url,
            "ENGINEBENCH_STATE_DIR": str(self.folder / name),
            "ENGINEBENCH_WORKER_ID": name,
            "ENGINEBENCH_LEASE_S": str(self.lease_s),
            "ENGINEBENCH_POLL_S": "0.1",
            "ENGINEBENCH_DRAIN_S": "0",
            "ENGINEBENCH_ALLOW_LAUNCH": "true",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "services.cli.main", "serve", *which, "--no-migrate"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def kill(self, name: str) -> None:
        """SIGKILL it, note which leases it leaves behind, and start it again."""
        self.processes[name].kill()
        self.processes[name].wait()
        self.leases |= self.held_by(name)
        self.start(name)

    def held_by(self, worker: str) -> dict[tuple[str, int], datetime]:
        """(run, attempt) -> end of its lease, for what the worker runs."""
        held = select(runs.c.id, runs.c.attempt, runs.c.lease_expires_at)
        with self.database.read() as connection:
            found = connection.execute(held.where(runs.c.worker == worker, runs.c.status == "running")).all()
        return {(run.id, run.attempt): run.lease_expires_at for run in found}

    def submit(self, targets: list[dict[str, Any]], **more: Any) -> None:
        """Post a job as a careful client does: again with the same key until it is told that the job is accepted."""
        body = {"name": f"job {len(self.jobs)}", "targets": targets, "workloads": [WORKLOAD], **more}
        key = {"Idempotency-Key": f"job-{len(self.jobs)}"}
        accepted: list[str] = []

        def post() -> bool:
            try:
                answer = httpx.post(f"http://127.0.0.1:{self.port}/v1/jobs", json=body, headers=key, trust_env=False)
            except httpx.TransportError:
                return False
            assert answer.status_code in (200, 202), answer.text
            accepted.append(answer.json()["id"])
            return True

        await_true(post, PATIENCE_S, self.tell)
        self.jobs += accepted

    def results(self) -> Iterator[str]:
        """Workers that have a result on disk."""
        for name in ("w1", "w2"):
            if any((self.folder / name / "results").glob("*.jsonl")):
                yield name

    def launching(self) -> Iterator[str]:
        """Workers that run the launched target while an engine of it is there."""
        for name in ("w1", "w2"):
            claimed = {run_id for run_id, _ in self.held_by(name)}
            if claimed & {*runs_on(self, "launched")} and engines_of(self.folder):
                yield name

    def tell(self) -> str:
        """The last lines of every log."""
        logs = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in self.folder.glob("*.log")}
        return "\n".join(f"== {name}\n" + "\n".join(lines) for name, lines in logs.items())


WORKLOAD = {
    "name": "small",
    "requests": REQUESTS,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 24}},
    "output_tokens": {"kind": "fixed", "tokens": OUTPUT_TOKENS},
    "arrival": {"kind": "closed_loop", "concurrency": 4},
    "warmup_batches": 0,
}


@contextmanager
def site(database: Database, database_url: str, folder: Path, *names: str, lease_s: float = LEASE_S) -> Iterator[Site]:
    """An API and workers; none is left at the end."""
    running = Site(database, database_url, folder, lease_s)
    try:
        for name in names:
            running.start(name)
        yield running
    finally:
        for process in running.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in running.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def attached(name: str, server: SimulatedServer) -> dict[str, Any]:
    return {"name": name, "engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}}


def launched(folder: Path) -> dict[str, Any]:
    """A target that the worker starts: a `vllm` on PATH that is a simulated engine."""
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "vllm"
    simulated = f'"{sys.executable}" -m engines.simulated --profile vllm-mistral-7b --model "$2" --port "$6"'
    program.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec {simulated}\n')
    program.chmod(0o755)
    reach = {"kind": "process", "model_path": "mistral", "env": {"PATH": f"{programs}:/usr/bin:/bin"}}
    return {"name": "launched", "engine": "vllm", "model": "mistral", "reach": reach}


def kill_once(site: Site, what: str, chance: random.Random) -> None:
    match what:
        case "api":
            sleep_s(chance.uniform(0, MOST_QUIET_S))
            site.kill("api")
        case "worker":
            sleep_s(chance.uniform(0, MOST_QUIET_S))
            site.kill(chance.choice(("w1", "w2")))
        case "engine":
            await_true(lambda: next(site.launching(), None) is not None, PATIENCE_S, site.tell)
            worker = next(site.launching(), "w1")
            site.orphaned += bool(engines_of(site.folder))
            site.kill(worker)
        case _:
            deadline_ns = monotonic_ns() + int(PATIENCE_S * 1e9)
            while (name := next(site.results(), None)) is None:
                assert monotonic_ns() < deadline_ns, site.tell()
                sleep_s(0.0005)
            site.processes[name].kill()
            site.processes[name].wait()
            site.caught += name in site.results()
            site.kill(name)


def unfinished(database: Database) -> int:
    counts = state_counts(database)
    return counts["queued"] + counts["running"]


def processes_of(folder: Path) -> list[str]:
    """Living processes whose environment names the folder: ours, their load processes, engines they launched."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                found.append(f"{entry.name}: {(entry / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


def engines_of(folder: Path) -> list[str]:
    """Living engines that workers launched."""
    return [process for process in processes_of(folder) if "engines.simulated" in process]


def hold(site: Site, run_id: str, attempt: Attempt) -> tuple[datetime, datetime]:
    """From when to when an attempt owned its target: no longer than its lease, where its worker was killed."""
    assert attempt.ended_at is not None, (run_id, attempt)
    lease_end = site.leases.get((run_id, attempt.attempt), attempt.ended_at)
    if attempt.ended == "superseded":
        # another attempt's late result ended the run; this one was still at it
        return attempt.started_at, max(attempt.ended_at, lease_end)
    return attempt.started_at, min(attempt.ended_at, lease_end)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_happens_twice_whoever_is_killed(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    kills = list(KILLS)
    chance.shuffle(kills)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(simulated_engine("vllm-mistral-7b", seed=n)) for n, name in enumerate("ab")
        }
        with site(database, database_url, tmp_path, "api", "w1", "w2") as running:
            targets = [*(attached(name, server) for name, server in servers.items()), launched(tmp_path)]
            for number, what in enumerate(kills):
                if number % 10 == 0 or unfinished(database) < 4 or (what == "engine" and not waiting(running)):
                    running.submit(targets, repeats=2)
                kill_once(running, what, chance)
            await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
            await_true(lambda: not [*running.results()], PATIENCE_S, running.tell)
            assert_every_job_ended(running)
            assert_runs_fail_only_of_lost_workers(running)
        await_true(lambda: not processes_of(tmp_path), 30.0, lambda: str(processes_of(tmp_path)))
        assert running.caught > 0, "no kill came between a result and its place in the database"
        assert running.orphaned > 0, "no kill came while a launched engine was there"
        for name, server in servers.items():
            assert_no_load_without_a_lease(running, name, server)


def test_a_paused_worker_sends_nothing_once_its_lease_is_over(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """The worker cannot stop its load, for it does not run; the load process must stop by itself."""
    workload = WORKLOAD | {"requests": 60, "arrival": {"kind": "closed_loop", "concurrency": 2}}
    with simulated_engine("vllm-mistral-7b", speed=3) as server:
        with site(database, database_url, tmp_path, "api", "w1") as running:
            running.submit([attached("a", server)], workloads=[workload])
            await_true(lambda: len(arrivals(server)) >= 4, PATIENCE_S, running.tell)
            # right after a renewal, so that it does not stop inside the next one with the database in its hands
            before = running.held_by("w1")
            await_true(lambda: running.held_by("w1") != before, PATIENCE_S, running.tell)
            running.processes["w1"].send_signal(signal.SIGSTOP)
            sent = len(arrivals(server))
            running.leases |= running.held_by("w1")
            ((key, lease_end),) = running.leases.items()
            await_true(lambda: datetime.now(UTC).timestamp() > lease_end.timestamp() + 1.0, PATIENCE_S, running.tell)
            seen = arrivals(server)
            assert sent < len(seen) < 60, "the load went on for a while, and did not get to its end"
            assert all(within(at, lease_end - timedelta(days=1), lease_end) for at, _ in seen)
            running.start("w2")
            await_true(lambda: bool(running.held_by("w2")), PATIENCE_S, running.tell)
            running.processes["w1"].send_signal(signal.SIGCONT)
            await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
            attempts = get_run(database, key[0]).attempts
            assert [attempt.worker for attempt in attempts if attempt.ended == "result"] == ["w2"]
        assert_no_load_without_a_lease(running, "a", server)


def assert_every_job_ended(site: Site) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{site.port}", trust_env=False, timeout=30.0) as client:

        def all_there() -> bool:
            try:
                return client.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False

        await_true(all_there, PATIENCE_S, site.tell)
        listed = client.get("/v1/jobs", params={"limit": 100}).json()["items"]
        assert Counter(job["id"] for job in listed) == Counter(site.jobs)
        for job in listed:
            assert job["status"] in ("completed", "failed"), job
            assert sum(job["counts"].values()) == 6


def assert_runs_fail_only_of_lost_workers(site: Site) -> None:
    """And few do: what was killed is carried out again."""
    with site.database.read() as connection:
        found = connection.execute(select(runs.c.id, runs.c.target, runs.c.status, runs.c.error)).all()
    for run in found:
        assert run.status == "completed" or (run.status, "its worker was lost" in str(run.error)) == ("failed", True), (
            run.id,
            run.target,
            run.status,
            run.error,
        )
    completed = Counter(run.target for run in found if run.status == "completed")
    for target in ("a", "b", "launched"):
        assert 2 * completed[target] > sum(run.target == target for run in found), (target, completed)


def waiting(site: Site) -> bool:
    """A run on the launched target is still to come."""
    with site.database.read() as connection:
        queued = select(runs.c.id).where(runs.c.target == "launched", runs.c.status == "queued")
        return connection.execute(queued).first() is not None


def runs_on(site: Site, target: str) -> Iterator[str]:
    with site.database.read() as connection:
        yield from connection.scalars(select(runs.c.id).where(runs.c.target == target))


def arrivals(server: SimulatedServer) -> list[tuple[datetime, int]]:
    """When each request of a load reached the engine, and from which port; its own account."""
    offset_ns = wall_offset_ns()
    return [
        (datetime.fromtimestamp((row["arrival_ns"] + offset_ns) / 1e9, UTC), row["local_port"])
        for row in server.truth()
        if row["max_tokens"] == OUTPUT_TOKENS
    ]


def assert_no_load_without_a_lease(site: Site, target: str, server: SimulatedServer) -> None:
    """Every request that reached the engine was sent by whoever held it then, and every result is of one attempt."""
    seen = arrivals(server)
    holds = []
    for run_id in runs_on(site, target):
        detail = get_run(site.database, run_id)
        kept = [attempt for attempt in detail.attempts if attempt.ended == "result"]
        own_hold = [hold(site, run_id, attempt) for attempt in detail.attempts]
        holds += own_hold
        if detail.run.status == "failed":
            assert "its worker was lost" in str(detail.run.error)
            continue
        assert [attempt.ended for attempt in detail.attempts].count("result") == 1, detail.attempts
        start, end = hold(site, run_id, kept[0])
        sent = Counter(record["local_port"] for record in get_records(site.database, run_id))
        assert sum(sent.values()) == detail.spec["workload"]["requests"]
        assert Counter(port for at, port in seen if within(at, start, end)) == sent, run_id
    stray = [at for at, _ in seen if not any(within(at, start, end) for start, end in holds)]
    assert stray == [], f"load without a lease on {target}"


def within(at: datetime, start: datetime, end: datetime) -> bool:
    return (start - at).total_seconds() <= CLOCK_S and (at - end).total_seconds() <= CLOCK_S
