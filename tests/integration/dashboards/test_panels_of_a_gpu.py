"""Panels that need a GPU are filled by a run whose cards were read: their own SQL over a real Postgres.

What the GPU's exporter gives to Prometheus is not here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

from bench_runner.measure.cards import CardLog, describe_cards
from dashboards.source.panels import NEEDS_GPU
from engines.cards.reading import CardFacts, CardReading
from engines.clock import utc_now
from services.store.database import Database
from tests.fakes.grafana import POSTGRES, Moments, dashboards, fill, panel_queries, panels
from tests.fakes.history import add_runs
from tests.fakes.postgres import libpq_url
from tests.fakes.results import make_result

S = 1_000_000_000
#: 0.5 s from reading to reading, two cards of 300 and 100 W
MOMENTS = [round(step * 0.5 * S) for step in range(81)]


def log() -> CardLog:
    def read(watts: float) -> list[CardReading]:
        return [CardReading(at, at, watts, watts * at / S, memory_used_bytes=2**30) for at in MOMENTS]

    facts = [CardFacts(index, "NVIDIA H100", 80 * 2**30, 700.0, True, False) for index in (0, 1)]
    return CardLog([(facts[0], read(300)), (facts[1], read(100))], own=True)


def a_run_on_cards() -> dict[str, Any]:
    result = make_result()
    result["telemetry"] = {"cards": describe_cards(log(), (0, 40 * S))}
    result["summary"] |= {"joules_per_output_token": 0.5, "output_tokens_per_s_per_w": 2.0}
    return result


def test_every_panel_of_a_gpu_that_asks_the_database_shows_the_run(database: Database, url: str) -> None:
    (run,) = add_runs(database, a_run_on_cards())
    add_runs(database, make_result(target={"engine": "tgi"}))
    moments = Moments(utc_now() - timedelta(hours=1), utc_now() + timedelta(hours=1))
    chosen = {
        "model": ["mistralai/Mistral-7B-Instruct-v0.2"],
        "workload": ["tiny"],
        "hardware": ["A100-80GB"],
        "precision": ["BF16"],
        "flags": ["as-shipped"],
        "kind": ["real"],
        "target": ["vllm", "tgi"],
        "run": [run],
    }
    found: dict[str, list[dict[str, Any]]] = {}
    with psycopg.connect(libpq_url(url), row_factory=psycopg.rows.dict_row) as connection:
        for name, board in dashboards().items():
            of_a_gpu = {panel["title"] for panel in panels(board) if panel["description"].endswith(NEEDS_GPU)}
            for query in panel_queries(name, board):
                if query.title in of_a_gpu and query.source == POSTGRES:
                    found[f"{name}: {query.title}"] = connection.execute(fill(query, chosen, moments)).fetchall()
    assert all(found.values()), found
    power = found.pop("engine-internals: GPU power during the run")
    assert [row["seconds"] for row in power] == [at / S for at in MOMENTS]
    assert {row["power_w"] for row in power} == {400}
    memory = found.pop("engine-internals: GPU memory during the run")
    assert {row["memory_used_bytes"] for row in memory} == {2**31}
    (energy,) = found.pop("compare: Energy of an output token")
    assert (energy["target"], energy["mean"]) == ("vllm · vllm tiny", 0.5)
    (per_watt,) = found.pop("compare: Output tokens per second per watt")
    assert per_watt["mean"] == 2
    (over_time,) = found.pop("history: Energy of an output token")
    assert (over_time["metric"], over_time["value"]) == ("vllm · vllm · tiny · as-shipped", 0.5)
    assert found == {}
