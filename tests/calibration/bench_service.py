"""`make bench`: answer times of the API over 10,000 stored runs with full records, on SQLite and on a real Postgres."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import update

from bench_runner.measure.record import to_json
from engines.clock import monotonic_ns
from services.store import tables
from services.store.database import Database, close, migrate, open_database
from services.store.queue import claim
from services.store.records import pack
from services.store.results import finish
from tests.fakes.jobs import planned, put, run_spec
from tests.fakes.postgres import postgres_server
from tests.fakes.records import make_record
from tests.fakes.results import make_result
from tests.fakes.service import running_service

RUNS, RUNS_A_JOB = 10_000, 100
REQUESTS, TOKENS = 100, 128
ENGINES, MODELS, TARGETS = ("vllm", "tgi", "transformers", "sglang"), ("mistral", "qwen", "llama", "phi"), 6
ASKED = 30
LIMIT_MS = 100.0
QUERIES = {
    "newest page": "/v1/runs?limit=50",
    "filtered by engine and validity": "/v1/runs?engine=vllm&validity=VALID&limit=50",
    "filtered by label": "/v1/runs?label=batch%3D7&limit=50",
    "filtered by model, sorted by speed": "/v1/runs?model=qwen&sort=-output_tokens_per_s&limit=50",
    "filtered by time, 200 rows": "/v1/runs?since=2020-01-01T00:00:00Z&limit=200",
    "jobs": "/v1/jobs?limit=50",
    "metrics": "/metrics",
}


def fill(database: Database) -> None:
    """10,000 ended runs of 96 label sets, through the store's own verbs; the records' blob is packed once."""
    jitter = random.Random(0)  # stamps without it would pack far better than real ones
    records = [
        make_record(
            k,
            events_ms=tuple(50.0 + 13.7 * t + jitter.uniform(0, 5) for t in range(TOKENS)),
            engine_output_tokens=TOKENS,
        )
        for k in range(REQUESTS)
    ]
    result = make_result(records, simulated=True)
    packed, count = pack(to_json(record) for record in records)
    labels = itertools.cycle(itertools.product(ENGINES, MODELS, range(TARGETS)))
    for job in range(RUNS // RUNS_A_JOB):
        runs = [
            planned(
                position,
                spec=run_spec(engine, model, "A100-80GB", repeat=position),
                target=f"{engine}-{model}-{number}",
                resources=(f"gpu:{number}",),
            )
            for position, (engine, model, number) in zip(range(RUNS_A_JOB), labels, strict=False)
        ]
        put(database, *runs, labels={"batch": str(job % 10)})
        while (claimed := claim(database, "bench", 60.0)) is not None:
            finish(database, claimed, result, [])
        print(f"\r{(job + 1) * RUNS_A_JOB:>6} runs", end="", file=sys.stderr, flush=True)
    with database.write() as connection:
        connection.execute(update(tables.records).values(records=count, data=packed))
    print(f", {RUNS * len(packed) / 1e9:.1f} GB of records", file=sys.stderr)


def following(client: httpx.Client) -> str:
    """A page deep in the history, by its cursor."""
    path = first = "/v1/runs?engine=vllm&limit=200"
    for _ in range(8):
        path = f"{first}&cursor={client.get(path).raise_for_status().json()['next']}"
    return path


def ask(client: httpx.Client, path: str) -> list[float]:
    """Milliseconds of each answer, whole, as a client sees them; the first, which warms caches, is left out."""
    times = []
    for _ in range(ASKED + 1):
        before = monotonic_ns()
        client.get(path).raise_for_status()
        times.append((monotonic_ns() - before) / 1e6)
    return times[1:]


def bench(table: Table, name: str, url: str, folder: Path) -> bool:
    """Fill one database and ask; whether every answer came in time."""
    print(f"filling {name}", file=sys.stderr)
    migrate(url)
    database = open_database(url)
    try:
        fill(database)
    finally:
        close(database)
    good = True
    with running_service(url, folder / "state", "--api-only") as service:
        for what, path in {**QUERIES, "a page deep in the history": following(service.client)}.items():
            times = ask(service.client, path)
            good &= max(times) < LIMIT_MS
            table.add_row(
                name, what, f"{min(times):.1f}", f"{median(times):.1f}", f"{max(times):.1f}",
                "yes" if max(times) < LIMIT_MS else "no",
            )  # fmt: skip
    return good


def main() -> int:
    """Print the table; 1 where an answer took longer than the limit."""
    table = Table(title=f"{RUNS} stored runs × {REQUESTS} records × {TOKENS} tokens; each route asked {ASKED} times")
    for heading in ("database", "route", "min ms", "median ms", "max ms", f"all < {LIMIT_MS:.0f} ms"):
        table.add_column(heading)
    with TemporaryDirectory() as folder:
        good = bench(table, "SQLite", f"sqlite:///{folder}/bench.sqlite", Path(folder))
        with postgres_server() as server:
            url = server.create_database()
            good &= bench(table, "Postgres", url, Path(folder))
    Console(width=120).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
