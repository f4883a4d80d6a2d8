"""Of a job that has starts, the dashboards say what the API says: the starts are the samples, not their bursts."""

from __future__ import annotations

from datetime import timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from engines.clock import utc_now
from services.api.app import create_app
from services.settings import Settings
from services.store.database import Database
from services.store.runs import get_run
from tests.fakes.grafana import Moments, dashboards, fill, panel_queries
from tests.fakes.history import add_runs
from tests.fakes.postgres import libpq_url
from tests.fakes.results import make_result

#: How long each burst took, ms, by start: starts lie farther apart than the bursts of one, and are not of one size.
STARTS = {"s0": (1000, 1004, 1010), "s1": (1200, 1190), "s2": (900, 905, 890, 901)}
REPEATS = (1100, 1120, 1160, 1090)
#: Quantile 0.975 of Student's t with two degrees of freedom, for three starts.
T_OF_THREE = 4.303
CURVE = "Output tokens per second per GPU against tokens per second per user"
CHOSEN = {
    "model": ["mistralai/Mistral-7B-Instruct-v0.2"],
    "workload": ["tiny"],
    "hardware": ["A100-80GB"],
    "precision": ["BF16"],
    "flags": ["as-shipped"],
    "kind": ["real"],
    "target": ["vllm", "tgi"],
}
#: The table's column -> the API's metric.
COLUMNS = {
    "input tokens/s": "input_tokens_per_s",
    "output tokens/s": "output_tokens_per_s",
    "execution time": "duration_s",
    "TTFT p50": "ttft_p50_s",
    "TPOT p50": "tpot_p50_s",
}


def a_burst(start: str | None, took_ms: float) -> dict[str, Any]:
    """One run: of vLLM where it has a start, else of TGI; it drew a joule a token for each second it took."""
    result = make_result(target={"engine": "vllm" if start else "tgi"}, took_ms=took_ms)
    result["summary"] |= {"joules_per_output_token": took_ms / 1000}
    if start is not None:
        result["environment"]["start"] = {"id": start}
    return result


@pytest.fixture
def cells(database: Database, url: str, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The newest job's cells by engine, as the API has them: vLLM in starts, TGI in repeats; a job was before it."""
    add_runs(database, a_burst("before", 1000), a_burst(None, 1000))
    bursts = [a_burst(start, took_ms) for start, times in STARTS.items() for took_ms in times]
    (run, *_) = add_runs(database, *bursts, *(a_burst(None, took_ms) for took_ms in REPEATS))
    job = get_run(database, run).run.job_id
    settings = Settings(database_url=url, state_dir=tmp_path / "state")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8700") as client:
        told = client.get(f"/v1/jobs/{job}").raise_for_status().json()["cells"]
    return {cell["engine"]: cell for cell in told}


def ask(url: str, board: str, title: str, ref: str = "A") -> list[dict[str, Any]]:
    """What one query of a panel gives."""
    moments = Moments(utc_now() - timedelta(hours=1), utc_now() + timedelta(hours=1))
    (query,) = [q for q in panel_queries(board, dashboards()[board]) if (q.title, q.ref) == (title, ref)]
    with psycopg.connect(libpq_url(url), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(fill(query, CHOSEN, moments).encode()).fetchall()


def test_the_table_s_spread_is_the_api_s_over_starts(cells: dict[str, dict[str, Any]], url: str) -> None:
    rows = {row["engine · target"].split(" · ")[0]: row for row in ask(url, "compare", "Engines side by side")}
    assert {name: row["repeats or starts"] for name, row in rows.items()} == {"vllm": len(STARTS), "tgi": len(REPEATS)}
    for column, metric in COLUMNS.items():
        spread = cells["vllm"]["metrics"][metric]
        assert (spread["n"], spread["bursts"]) == (len(STARTS), sum(map(len, STARTS.values())))
        low, high = spread["interval"]
        assert rows["vllm"][column] == pytest.approx((low + high) / 2), column
        assert rows["vllm"][f"{column} ±"] == pytest.approx((high - low) / 2 / T_OF_THREE * sqrt(len(STARTS))), column
    # s
    assert rows["vllm"]["execution time"] == pytest.approx((1.004 + 1.195 + 0.9005) / 3)
    assert rows["tgi"]["execution time"] == pytest.approx(sum(REPEATS) / 1000 / len(REPEATS))


@pytest.mark.parametrize(
    ("title", "metric", "least", "most"),
    [
        ("Execution time", "duration_s", "quickest", "slowest"),
        ("Energy of an output token", "joules_per_output_token", "least", "most"),
    ],
)
def test_a_bar_s_ends_are_the_api_s(
    cells: dict[str, dict[str, Any]], url: str, title: str, metric: str, least: str, most: str
) -> None:
    rows = {row["target"].split(" · ")[0]: row for row in ask(url, "compare", title)}
    assert rows.keys() == cells.keys()
    for engine, row in rows.items():
        spread = cells[engine]["metrics"][metric]
        assert (row[least], row[most]) == pytest.approx((spread["min"], spread["max"])), engine


def test_the_curve_s_dots_and_whiskers_are_starts(cells: dict[str, dict[str, Any]], url: str) -> None:
    y = "output tokens/s per GPU"
    dots, ends = ask(url, "compare", CURVE, "B"), ask(url, "compare", CURVE, "C")
    for engine, samples in (("vllm", len(STARTS)), ("tgi", len(REPEATS))):
        spread = cells[engine]["metrics"]["output_tokens_per_s_per_gpu"]
        own = [row[y] for row in dots if row["series"].startswith(f"{engine} ")]
        assert len(own) == samples
        assert (min(own), max(own)) == pytest.approx((spread["min"], spread["max"]))
        upright = [row[y] for row in ends if row["series"].startswith(f"{engine} ") and row["series"].endswith("t")]
        assert (min(upright), max(upright)) == pytest.approx((spread["min"], spread["max"]))


def test_the_history_s_median_of_a_job_is_the_api_s(cells: dict[str, dict[str, Any]], url: str) -> None:
    title = "Newest job of each target and workload against the five before"
    rows = {row["engine"]: row["output tokens/s"] for row in ask(url, "history", title)}
    wanted = {engine: cell["metrics"]["output_tokens_per_s"]["median"] for engine, cell in cells.items()}
    assert rows == pytest.approx(wanted)
