"""`make bench`: 100,000 stored runs in a real Postgres: what /metrics, pages of the history and its dashboard take.

1,000 runs come through the store's own verbs, and SQL copies them to other days: what is measured is reading. A tenth
of the jobs have starts, whose bursts the dashboard's queries fold. `--copies N` takes another number than 100.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import Table as Kept
from sqlalchemy import select, text

from engines.clock import monotonic_ns, utc_now
from services.store.database import Database, close, migrate, open_database
from services.store.queue import claim
from services.store.results import finish
from services.store.tables import documents, job_labels, jobs, latest_runs, runs
from tests.calibration.bench_service import ENGINES, MODELS, TARGETS, ask
from tests.fakes.grafana import POSTGRES, Moments, Query, dashboards, fill, panel_queries, variable_queries
from tests.fakes.jobs import planned, put, run_spec
from tests.fakes.postgres import libpq_url, postgres_server
from tests.fakes.results import make_result
from tests.fakes.service import running_service

RUNS, COPIES = 1_000, 100
RUNS_A_JOB, REPEATS = 50, 5
#: Every tenth job, the last among them, has starts: two for each cell, of three bursts and of two.
STARTS_EVERY, BURSTS = 10, 3
#: Between two copies: all of them within the dashboard's 90 days.
STEP_HOURS = 18
ASKED = 5
BARS_MS = {"/metrics": 200.0, "/v1/runs": 100.0, "history": 500.0, "compare": 500.0}
PAGES = (
    "/metrics",
    "/v1/runs?limit=50",
    "/v1/runs?engine=vllm&validity=VALID&limit=50",
    "/v1/runs?model=qwen&sort=-output_tokens_per_s&limit=50",
    "/v1/runs?flag_class=matched&limit=50",
    "/v1/runs?label=batch%3D7&limit=50",
    "/v1/runs?target=vllm-qwen-1&since=2020-01-01T00:00:00Z&limit=200",
)
#: Columns that name a row, and so are another one's in each copy.
NAMES = {"id", "run_id", "job_id", "start_id"}
TIMES = {"created_at", "started_at", "ended_at"}


def seed(database: Database) -> None:
    """The first runs, of 96 label sets, five repeats of ten in each job."""
    result = make_result(simulated=True)
    labels = [(e, m, t) for e in ENGINES for m in MODELS for t in range(TARGETS)]
    for first in range(0, RUNS, RUNS_A_JOB):
        cells = range(first // REPEATS, (first + RUNS_A_JOB) // REPEATS)
        chosen = [labels[number % len(labels)] for number in cells for _ in range(REPEATS)]
        planned_runs = [
            planned(k, spec=run_spec(engine, model, "A100-80GB"), target=f"{engine}-{model}-{number}", resources=())
            for k, (engine, model, number) in enumerate(chosen)
        ]
        batch = first // RUNS_A_JOB
        put(database, *planned_runs, labels={"batch": str(batch % 10)})
        while (claimed := claim(database, "bench", 60.0)) is not None:
            given = in_start(result, claimed.run_id) if (batch + 1) % STARTS_EVERY == 0 else result
            finish(database, claimed, given, [])


def in_start(result: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The result as of a burst: a run's id ends with its place in the job."""
    job, _, position = run_id.rpartition("-")
    cell, burst = divmod(int(position), REPEATS)
    start = {"id": f"{job}-{cell}-{burst // BURSTS}"}
    return {**result, "environment": {**result["environment"], "start": start}}


def copy(database: Database, copies: int) -> None:
    """Each row again and again, on earlier days."""
    for table in (jobs, job_labels, runs, documents):
        wanted = ", ".join(column.name for column in table.columns)
        made = ", ".join(_copied(column.name) for column in table.columns)
        with database.write() as connection:
            connection.execute(
                text(
                    f"INSERT INTO {table.name} ({wanted}) SELECT {made} FROM {table.name}, generate_series(1, :most) g"
                ),
                {"most": copies - 1},
            )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _copied(name: str) -> str:
    if name in NAMES:
        return f"{name} || '-' || g"
    if name in TIMES:
        return f"{name} - g * interval '{STEP_HOURS} hours'"
    return name


def count(database: Database, table: Kept) -> int:
    """Rows."""
    with database.read() as connection:
        return len(connection.execute(select(table.primary_key.columns[0])).all())


def queries() -> list[Query]:
    """Of the two dashboards that read the history."""
    boards = dashboards()
    asked = [q for name in ("history", "compare") for q in panel_queries(name, boards[name])]
    asked += [q for name in ("history", "compare") for q in variable_queries(name, boards[name])]
    return [query for query in asked if query.source == POSTGRES]


def ask_panel(connection: psycopg.Connection, query: Query) -> tuple[list[float], int]:
    """Milliseconds of each answer, the first left out, and its rows."""
    until = utc_now()
    everything = [f"{e}-{m}-{t}" for e in ENGINES for m in MODELS for t in range(TARGETS)]
    chosen = {"workload": ["burst"], "kind": ["real", "simulated"], "hardware": ["A100-80GB"], "precision": ["unknown"]}
    chosen |= {"flags": ["as-shipped"], "target": everything, "model": ["mistral"]}
    sql = fill(query, chosen, Moments(until - timedelta(days=90), until), interval_s=7200)
    times, rows = [], 0
    for _ in range(ASKED + 1):
        before = monotonic_ns()
        rows = len(connection.execute(sql.encode()).fetchall())
        times.append((monotonic_ns() - before) / 1e6)
    return times[1:], rows


def main() -> int:
    """Print the table; 1 where an answer took longer than its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=COPIES, help=f"of {RUNS} runs (default: {COPIES})")
    copies = parser.parse_args().copies
    table = Table(title=f"{RUNS * copies} stored runs in Postgres; each asked {ASKED} times")
    for heading in ("what", "rows", "min ms", "median ms", "max ms", "bar ms"):
        table.add_column(heading)
    good = True

    def told(what: str, rows: int | None, times: list[float], bar_ms: float) -> None:
        nonlocal good
        good &= max(times) < bar_ms
        figures = (f"{value:.1f}" for value in (min(times), median(times), max(times)))
        table.add_row(what, "" if rows is None else str(rows), *figures, f"{bar_ms:.0f}")

    with TemporaryDirectory() as folder, postgres_server() as server:
        url = server.create_database()
        migrate(url)
        database = open_database(url)
        seed(database)
        copy(database, copies)
        print(f"{count(database, runs)} runs, {count(database, latest_runs)} label sets", file=sys.stderr)
        close(database)
        with running_service(url, Path(folder) / "state", "--api-only") as service:
            for path in PAGES:
                told(path, None, ask(service.client, path), BARS_MS["/metrics" if path == "/metrics" else "/v1/runs"])
        with psycopg.connect(libpq_url(url)) as connection:
            for query in queries():
                times, rows = ask_panel(connection, query)
                told(f"{query.dashboard}: {query.title} {query.ref}", rows, times, BARS_MS[query.dashboard])
    Console(width=140).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
