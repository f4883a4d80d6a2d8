"""Metrics from rows: one series a label set, figures of VALID runs only, and never a broken scrape."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from services.api.exporter import LABELS, progress_metrics, queue_metrics, result_metrics, worker_metrics
from services.store.rows import Run, RunMetrics, RunStatus, WorkerHost, WorkerRow

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_run(number: int = 0, **more: Any) -> Run:
    values: dict[str, Any] = {
        "id": f"run-{number:05d}",
        "job_id": "job",
        "job_name": "",
        "labels": {},
        "position": number,
        "priority": 0,
        "status": RunStatus.COMPLETED,
        "engine": "vllm",
        "model": "m",
        "target": "t",
        "workload": "w",
        "hardware": None,
        "precision": None,
        "endpoint": None,
        "flag_class": "as-shipped",
        "repeat": 0,
        "spec_digest": "d",
        "workload_digest": "d",
        "simulated": False,
        "resources": (),
        "lengths_from": None,
        "created_at": START,
        "started_at": START,
        "ended_at": START + timedelta(seconds=number),
        "attempt": 1,
        "worker": "w",
        "cancel_requested": False,
        "progress": None,
        "validity": "VALID",
        "reason_codes": (),
        "metrics": RunMetrics(duration_s=2.0, ttft_p50_s=0.5, requests=4),
        "failures": {},
        "error": None,
    }
    return Run(**(values | more))


class Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def samples(metrics: Iterable[Metric]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """As Prometheus would read them off the wire."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given(metrics))
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_the_same_labels_twice_are_one_series_of_the_newest() -> None:
    runs = [make_run(1, metrics=RunMetrics(duration_s=1.0)), make_run(2), make_run(0)]
    # No stated hardware and hardware stated as "unknown" are the same series.
    runs.append(make_run(3, hardware="unknown", metrics=RunMetrics(duration_s=9.0)))
    assert [value for _, value in samples(result_metrics(runs))["enginebench_run_duration_seconds"]] == [9.0]


def test_missing_figures_have_no_series() -> None:
    found = samples(result_metrics([make_run(metrics=RunMetrics())]))
    assert "enginebench_run_duration_seconds" not in found
    assert "enginebench_time_to_first_token_seconds" not in found
    assert [v for labels, v in found["enginebench_run_validity"] if labels["state"] == "VALID"] == [1]


def test_only_valid_runs_have_figures() -> None:
    found = samples(result_metrics([make_run(validity="INCONCLUSIVE", failures={"timeout": 3})]))
    assert "enginebench_run_duration_seconds" not in found
    assert [labels["state"] for labels, value in found["enginebench_run_validity"] if value] == ["INCONCLUSIVE"]
    assert [(labels["kind"], v) for labels, v in found["enginebench_run_failures"]] == [("timeout", 3)]
    assert [v for _, v in found["enginebench_run_failed_requests"]] == [3]


def test_quantiles_are_a_summary() -> None:
    found = samples(result_metrics([make_run()]))
    ((labels, value),) = found["enginebench_time_to_first_token_seconds"]
    assert (labels["quantile"], value) == ("0.5", 0.5)
    assert set(labels) == {*LABELS, "quantile"}


def test_what_is_not_shown_is_counted() -> None:
    assert samples(result_metrics([make_run()], 7))["enginebench_label_sets_dropped"] == [({}, 7)]


def test_names_of_people_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    ((labels, _),) = samples(result_metrics([make_run(target=odd)]))["enginebench_run_duration_seconds"]
    assert labels["target"] == odd


def test_progress_before_the_first_request_has_no_ratio() -> None:
    runs = [
        make_run(0, status=RunStatus.RUNNING, progress=None),
        make_run(1, target="u", progress={"stage": "measuring", "finished": 3, "requests": 4}),
        make_run(2, target="u", progress={"finished": 1, "requests": 4}),
    ]
    found = samples(progress_metrics(runs))
    assert [(labels["target"], v) for labels, v in found["enginebench_progress_ratio"]] == [("u", 0.75)]
    assert len(found["enginebench_progress_finished_requests"]) == 2


def test_a_silent_worker_does_not_count() -> None:
    workers = [
        WorkerRow("a", START, START, 1.0, "run", "0.1.0", WorkerHost(1024, 30, 100)),
        WorkerRow("b", START, START, 3.0, None, "0.1.0"),
        WorkerRow("c", START, START, 500.0, "run", "0.1.0", WorkerHost(1024, 30, 100)),
    ]
    told = samples(worker_metrics(workers))
    assert told["enginebench_worker_silent_seconds"] == [
        ({"worker": "a"}, 1.0),
        ({"worker": "b"}, 3.0),
        ({"worker": "c"}, 500.0),
    ]
    assert told["enginebench_state_dir_free_bytes"] == [({"worker": "a"}, 30)]
    assert told["enginebench_state_dir_size_bytes"] == [({"worker": "a"}, 100)]
    assert told["enginebench_worker_max_open_files"] == [({"worker": "a"}, 1024)]
    found = samples(queue_metrics(5, {"queued": 5, "running": 0}, workers))
    assert found["enginebench_workers"] == [({}, 2)]
    assert found["enginebench_workers_busy"] == [({}, 1)]
    assert found["enginebench_queue_depth"] == [({}, 5)]
