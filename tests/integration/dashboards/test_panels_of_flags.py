"""Engines as shipped and matched engines are never held against each other: one class is chosen, or told apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from engines.clock import utc_now
from services.store.database import Database
from tests.fakes.grafana import Moments, dashboards, fill, panel_queries, variable_queries
from tests.fakes.history import add_runs
from tests.fakes.postgres import libpq_url
from tests.fakes.results import make_result

CLASSES = ("as-shipped", "matched")
ALIKE = {
    "model": ["mistralai/Mistral-7B-Instruct-v0.2"],
    "workload": ["tiny"],
    "hardware": ["A100-80GB"],
    "precision": ["BF16"],
    "kind": ["real"],
    "target": ["vllm", "tgi"],
}


def ask(url: str, board: str, chosen: dict[str, list[str]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(title, ref) -> rows, of a dashboard's panels and variables."""
    moments = Moments(utc_now() - timedelta(hours=1), utc_now() + timedelta(hours=1))
    shown = dashboards()[board]
    with psycopg.connect(libpq_url(url), row_factory=psycopg.rows.dict_row) as connection:
        return {
            (query.title, query.ref): connection.execute(fill(query, chosen, moments).encode()).fetchall()
            for query in [*panel_queries(board, shown), *variable_queries(board, shown)]
        }


@pytest.fixture
def jobs(database: Database) -> None:
    """Two jobs of two engines, the first as shipped and quick, the second matched, at half the speed."""
    for flags, took_ms in zip(CLASSES, (1000, 2000), strict=True):
        runs = [make_result(target={"engine": e, "flag_class": flags}, took_ms=took_ms) for e in ("vllm", "tgi")]
        add_runs(database, *runs, names=[f"{e}-{flags}" for e in ("vllm", "tgi")])
        add_runs(database, *runs)


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(("flags", "took_s"), [("as-shipped", 1.0), ("matched", 2.0)])
def test_compare_shows_the_chosen_class_alone(url: str, flags: str, took_s: float) -> None:
    found = ask(url, "compare", ALIKE | {"flags": [flags]})
    assert [row["flag_class"] for row in found["variable flags", ""]] == list(CLASSES)
    shown = {f"{engine} · {name}" for engine in ("vllm", "tgi") for name in (engine, f"{engine}-{flags}")}
    table = found["Engines side by side", "A"]
    assert {row["engine · target"] for row in table} == shown
    assert {row["execution time"] for row in table} == {took_s}
    assert {row["mean"] for row in found["Execution time", "A"]} == {took_s}
    curve = "Output tokens per second per GPU against tokens per second per user"
    assert {row["series"] for row in found[curve, "A"]} == shown
    dots = "Output tokens per second of each run, with the published figures as lines"
    assert {row["metric"] for row in found[dots, "A"]} == shown


@pytest.mark.usefixtures("jobs")
def test_history_draws_a_line_a_class_and_holds_none_against_the_other(url: str) -> None:
    found = ask(url, "history", ALIKE | {"flags": list(CLASSES)})
    rates = {row["metric"]: row["value"] for row in found["Execution time", "A"]}
    assert rates == {
        f"{e} · {e} · tiny · {flags}": 1 + (flags == "matched") for e in ("vllm", "tgi") for flags in CLASSES
    }
    title = "Newest job of each target and workload against the five before"
    assert found[title, "A"] == [], "each class has one job so far"
    assert found["Output tokens per second against the five jobs before", "A"] == []


@pytest.mark.usefixtures("jobs")
def test_history_holds_a_job_against_those_of_its_class(database: Database, url: str) -> None:
    add_runs(database, make_result(target={"flag_class": "as-shipped"}, took_ms=500))
    title = "Newest job of each target and workload against the five before"
    (row,) = ask(url, "history", ALIKE | {"flags": list(CLASSES)})[title, "A"]
    assert (row["target"], row["flags"], row["jobs before"]) == ("vllm", "as-shipped", 1)
    assert row["change of output tokens/s"] == pytest.approx(1.0)
