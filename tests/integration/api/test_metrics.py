"""/metrics over HTTP: from stored results at scrape time, on both databases."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.api.app import create_app
from services.settings import Settings
from services.store.database import Database
from services.store.queue import renew
from services.store.results import finish
from services.store.workers import beat
from tests.fakes.history import add_runs, one_run, queue_job, take
from tests.fakes.results import make_result

LABELS = {
    "engine": "vllm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "workload": "tiny",
    "target": "vllm",
    "hardware": "A100-80GB",
    "simulated": "false",
}


def scrape(client: TestClient) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    """The one sample with these labels among its own; `None`: there is none."""
    family = families[name]
    found = [s.value for s in family.samples if labels.items() <= s.labels.items()]
    assert len(found) <= 1, found
    return found[0] if found else None


def test_the_newest_valid_run_of_each_label_set(client: TestClient, database: Database) -> None:
    one_run(database, took_ms=2000)
    one_run(database, took_ms=1000, repeat=1)
    seen = scrape(client)
    assert value(seen, "enginebench_run_duration_seconds", **LABELS) == 1.0
    assert value(seen, "enginebench_output_tokens_per_second", **LABELS) == 30.0
    assert value(seen, "enginebench_input_tokens_per_second", **LABELS) == 100.0
    assert value(seen, "enginebench_total_tokens_per_second", **LABELS) == 130.0
    assert value(seen, "enginebench_time_to_first_token_seconds", quantile="0.5", **LABELS) == 0.1
    assert value(seen, "enginebench_end_to_end_latency_seconds", quantile="0.99", **LABELS) == 1.0
    assert value(seen, "enginebench_time_per_output_token_seconds", quantile="0.95", **LABELS) == 0.45
    assert value(seen, "enginebench_roofline_ratio", **LABELS) is not None
    assert value(seen, "enginebench_run_validity", state="VALID", **LABELS) == 1
    assert value(seen, "enginebench_run_validity", state="INVALID", **LABELS) == 0
    assert value(seen, "enginebench_run_requests", **LABELS) == 10
    assert value(seen, "enginebench_run_failed_requests", **LABELS) == 0
    assert seen["enginebench_run_failures"].samples == []


def test_energy_is_shown_where_the_cards_were_read(client: TestClient, database: Database) -> None:
    one_run(database)
    names = ("enginebench_joules_per_output_token", "enginebench_output_tokens_per_second_per_watt")
    assert [value(scrape(client), name, **LABELS) for name in names] == [None, None]
    read = make_result(repeat=1)
    read["summary"] |= {"joules_per_output_token": 0.25, "output_tokens_per_s_per_w": 4.0}
    add_runs(database, read)
    assert [value(scrape(client), name, **LABELS) for name in names] == [0.25, 4.0]
    (newest, _) = client.get("/v1/runs").json()["items"]
    assert newest["metrics"]["joules_per_output_token"] == 0.25


def test_a_run_that_is_not_valid_shows_only_that(client: TestClient, database: Database) -> None:
    one_run(database)
    bad = make_result(repeat=1)
    bad["validity"]["state"], bad["failures"] = "INVALID", {"timeout": 4}
    job = queue_job(database, bad)
    assert finish(database, take(database), bad, [])
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "completed"
    seen = scrape(client)
    assert value(seen, "enginebench_run_validity", state="INVALID", **LABELS) == 1
    assert value(seen, "enginebench_run_failed_requests", **LABELS) == 4
    assert value(seen, "enginebench_run_failures", kind="timeout", **LABELS) == 4
    assert value(seen, "enginebench_output_tokens_per_second", **LABELS) is None
    assert value(seen, "enginebench_time_to_first_token_seconds", **LABELS) is None


def test_the_queue_and_the_progress_of_what_runs(client: TestClient, database: Database) -> None:
    queue_job(database, make_result(), make_result(repeat=1))
    claimed = take(database)
    renew(database, claimed, {"stage": "measuring", "sent": 8, "finished": 5, "failed": 1, "requests": 10}, 60)
    beat(database, "test-worker", claimed.run_id, "0.1.0")
    seen = scrape(client)
    assert value(seen, "enginebench_queue_depth") == 1
    assert value(seen, "enginebench_runs", state="running") == 1
    assert value(seen, "enginebench_runs", state="failed") == 0
    assert value(seen, "enginebench_progress_ratio", target="vllm") == 0.5
    assert value(seen, "enginebench_progress_failed_requests", target="vllm") == 1
    assert value(seen, "enginebench_workers_busy") == 1
    assert value(seen, "enginebench_store_up") == 1


def test_a_restart_forgets_no_result(client: TestClient, database: Database, settings: Settings) -> None:
    one_run(database)
    before = scrape(client)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as again:
        after = scrape(again)
    name = "enginebench_output_tokens_per_second"
    assert value(after, name, **LABELS) == value(before, name, **LABELS) == 30.0


def test_http_requests_are_counted_by_route_and_not_by_path(client: TestClient) -> None:
    for name in ("a", "b", "c"):
        client.get(f"/v1/runs/{name}")
    client.get("/whatever/a/stranger/types")
    seen = scrape(client)
    name = "enginebench_http_requests"
    assert value(seen, name, route="/v1/runs/{run_id}", method="GET", status="404") == 3
    assert value(seen, name, route="unmatched", method="GET", status="404") == 1
    counts = [
        s.value
        for s in seen["enginebench_http_request_duration_seconds"].samples
        if s.name.endswith("_count") and s.labels["route"] == "/v1/runs/{run_id}"
    ]
    assert counts == [3]
    assert not [s for family in seen.values() for s in family.samples if "stranger" in str(s.labels)]


def test_only_so_many_label_sets_are_shown(client: TestClient, database: Database, settings: Settings) -> None:
    for model in ("one", "two", "three"):
        one_run(database, target={"model": model})
    few = create_app(settings.model_copy(update={"metrics_label_sets": 2}))
    with TestClient(few, base_url="http://127.0.0.1:8700") as bounded:
        seen = scrape(bounded)
    shown = {sample.labels["model"] for sample in seen["enginebench_run_requests"].samples}
    assert shown == {"two", "three"}
    assert value(seen, "enginebench_label_sets_dropped") == 1
    assert value(scrape(client), "enginebench_label_sets_dropped") == 0
