"""Draws every dashboard from real answers: `python -m tests.stack.pictures`, some five minutes, needs Prometheus.

The stack of the dashboards' test (the service, two simulated engines, a real Prometheus, a real Postgres) carries out
jobs; the queries of every panel are asked as that test asks them, some while a job runs; what they gave is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engines.clock import sleep_s, utc_now
from tests.fakes.grafana import PROMETHEUS, Moments, dashboards, variable_queries
from tests.fakes.postgres import postgres_server
from tests.fakes.service import await_true
from tests.stack.answers import Answer
from tests.stack.pictures.page import Shown, draw
from tests.stack.test_dashboards import Stack, ask_all, choices, running_stack, target

FOLDER = Path(__file__).parents[3] / "dashboards" / "pictures"
#: Looked at while the sweep runs; the others after it.
WHILE_RUNNING = ("live", "service-health")
CHAT: dict[str, Any] = {
    "name": "chat",
    "requests": 32,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 64}},
    "output_tokens": {"kind": "fixed", "tokens": 64},
    "arrival": {"kind": "closed_loop", "concurrency": 8},
    "warmup_batches": 0,
}
SWEPT = CHAT | {"name": "swept", "requests": 8}
SWEEP = {"axis": "concurrency", "values": [1, 2, 4, 8, 16, 32], "waves": 4}
REPEATS = 3
#: Jobs of one workload, one after the other; before the last, TGI is made slower, so that a regression is to be seen.
DAYS = 6
SLOWER = {"kind": "stall", "token": 20, "seconds": 0.2, "every": 1}
JOB_WITHIN_S = 420.0
#: By dashboard, what a reader should know beside what is chosen.
NOTES = {"history": {"planned": "TGI's last job was made slower"}}


def main() -> int:
    """Draw them all; 0, or 1 where this machine was too busy for a VALID run of each."""
    with (
        TemporaryDirectory() as folder,
        postgres_server() as postgres,
        running_stack(postgres.create_database(), Path(folder), "services.cli.main") as stack,
    ):
        shown = carry_out(stack)
        lost = [run for run in runs_of(stack) if run["validity"] != "VALID"]
    for name, one in shown.items():
        path = draw(one, FOLDER / f"{name}.png")
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    for run in lost:
        print(f"not VALID, so in no figure: {run['target']} {run['workload']}: {run['reason_codes']}", file=sys.stderr)
    return 1 if lost else 0


def carry_out(stack: Stack) -> dict[str, Shown]:
    """The jobs, and what each dashboard shows of them."""
    targets = [target(f"{name}-mistral-7b", name, server) for name, server in stack.engines.items()]
    job: dict[str, Any] = {"targets": targets, "calibration": False}
    for day in range(DAYS):
        if day == DAYS - 1:
            stack.engines["tgi"].set_faults(SLOWER)
        stack.service.await_job(stack.service.submit(**job, workloads=[CHAT], repeats=2))
    stack.engines["tgi"].set_faults()
    swept_since = utc_now()
    swept = stack.service.submit(**job, workloads=[SWEPT], sweep=SWEEP, repeats=REPEATS)
    await_true(lambda: done_share(stack, swept) > 0.6, JOB_WITHIN_S, stack.service.log_tail)
    # In the middle of a run of TGI, with one of vLLM before it in sight.
    await_true(lambda: is_measuring(stack, swept, "tgi-mistral-7b"), 60.0, stack.service.log_tail)
    sleep_s(1.5)
    now = utc_now()
    boards = dashboards()
    shown = {name: look(stack, name, boards[name], now - timedelta(seconds=75), now) for name in WHILE_RUNNING}
    stack.service.await_job(swept, JOB_WITHIN_S)
    sleep_s(11.0)
    until = utc_now() + timedelta(seconds=1)
    since = {"compare": stack.since, "history": stack.since, "engine-internals": swept_since}
    picked = {"compare": {"workload": ["swept"]}, "history": {"workload": ["chat"]}, "engine-internals": {}}
    # History ends where its jobs do.
    ended = {"history": swept_since + timedelta(seconds=2)}
    for name, first in since.items():
        shown[name] = look(stack, name, boards[name], first, ended.get(name, until), picked[name])
    return {name: shown[name] for name in boards}


def look(
    stack: Stack,
    name: str,
    board: Mapping[str, Any],
    since: datetime,
    until: datetime,
    picked: Mapping[str, Sequence[str]] = {},
) -> Shown:
    """What a dashboard shows now, all chosen that can be unless `picked` says which."""
    moments = Moments(since, until)
    every, _ = choices(name, board, stack.sources, moments)
    chosen = every | {variable: list(values) for variable, values in picked.items()}
    answers: dict[str, dict[str, Answer]] = {}
    for (_, title), found in ask_all(name, board, stack.sources, chosen, moments).items():
        answers[title] = found
    marks = [row for title, found in answers.items() if title.startswith("annotation ") for row in found["Anno"]]
    words = in_words(board, chosen, texts_of(stack, name, board, moments)) | NOTES.get(name, {})
    return Shown(board, answers, words, since, until, marks)


def texts_of(stack: Stack, name: str, board: Mapping[str, Any], moments: Moments) -> dict[str, str]:
    """A variable's value -> its text, where the two differ."""
    rows = [
        row
        for query in variable_queries(name, board)
        if query.source != PROMETHEUS
        for row in stack.sources.ask(query, {}, moments)
    ]
    return {str(row["__value"]): str(row["__text"]) for row in rows if "__text" in row}


def in_words(board: Mapping[str, Any], chosen: Mapping[str, Sequence[str]], texts: Mapping[str, str]) -> dict[str, str]:
    """Variable's label -> what is chosen, as its list shows it."""
    labels = {one["name"]: one["label"] for one in board["templating"].get("list", [])}
    return {
        labels[name]: "All" if values == ["$__all"] else " + ".join(texts.get(value, value) for value in values)
        for name, values in chosen.items()
    }


def runs_of(stack: Stack) -> list[dict[str, Any]]:
    """Every run there is."""
    return list(stack.service.client.get("/v1/runs", params={"limit": 500}).raise_for_status().json()["items"])


def done_share(stack: Stack, job: str) -> float:
    """Of its runs, those that have ended."""
    counts = stack.service.client.get(f"/v1/jobs/{job}").raise_for_status().json()["counts"]
    return float(counts.get("completed", 0) / sum(counts.values()))


def is_measuring(stack: Stack, job: str, name: str) -> bool:
    """A run of the job on this target is under its load now."""
    runs = stack.service.client.get(f"/v1/jobs/{job}").raise_for_status().json()["runs"]
    under_way = [run for run in runs if run["status"] == "running" and run["target"] == name]
    return any((run["progress"] or {}).get("stage") == "measuring" for run in under_way)


if __name__ == "__main__":
    raise SystemExit(main())
