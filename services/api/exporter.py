"""Stored results for Prometheus, read at scrape time, so that a restart forgets nothing.

One series for each label set, from its newest run with a result. Only VALID runs have figures; of the others only
their validity and their failures are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bench_runner.measure.result import ValidityState
from services.domain.errors import ServiceError
from services.store.database import Database
from services.store.gauges import latest_for_metrics, queue_depth, running_progress, state_counts
from services.store.retention import Retention, retention_so_far
from services.store.rows import Run, WorkerRow
from services.store.workers import list_workers

LABELS = ("engine", "model", "workload", "target", "hardware", "simulated")
#: A worker that was silent for longer does not count as there.
WORKER_SILENT_S = 120.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One gauge of a VALID run."""

    name: str
    help: str
    #: field of RunMetrics
    field: str


FIGURES = (
    Figure(
        "enginebench_input_tokens_per_second",
        "Input tokens of successful requests over the execution time.",
        "input_tokens_per_s",
    ),
    Figure(
        "enginebench_output_tokens_per_second",
        "Output tokens of successful requests over the execution time.",
        "output_tokens_per_s",
    ),
    Figure(
        "enginebench_total_tokens_per_second",
        "Input and output tokens of successful requests over the execution time.",
        "total_tokens_per_s",
    ),
    Figure(
        "enginebench_run_duration_seconds",
        "Execution time: first request sent to last token, or the window.",
        "duration_s",
    ),
    Figure(
        "enginebench_roofline_ratio",
        "Least time the hardware allows over the time taken.",
        "roofline_ratio",
    ),
    Figure(
        "enginebench_joules_per_output_token",
        "Energy that the target's cards drew over its window for each output token of a successful request.",
        "joules_per_output_token",
    ),
    Figure(
        "enginebench_output_tokens_per_second_per_watt",
        "Output tokens per second over the mean power of the target's cards.",
        "output_tokens_per_s_per_w",
    ),
)

#: name, help, field of RunMetrics by quantile
QUANTILES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "enginebench_time_to_first_token_seconds",
        "Request sent to first token, over the requests of one run.",
        {"0.5": "ttft_p50_s", "0.95": "ttft_p95_s", "0.99": "ttft_p99_s"},
    ),
    (
        "enginebench_time_per_output_token_seconds",
        "First to last token over output tokens less one, over the requests of one run.",
        {"0.5": "tpot_p50_s", "0.95": "tpot_p95_s", "0.99": "tpot_p99_s"},
    ),
    (
        "enginebench_end_to_end_latency_seconds",
        "Request sent to last token, over the requests of one run.",
        {"0.5": "e2e_p50_s", "0.95": "e2e_p95_s", "0.99": "e2e_p99_s"},
    ),
)


class StoreCollector(Collector):
    """Asks the store at each scrape. Where it does not answer, says so and gives nothing else."""

    def __init__(self, database: Database, most_label_sets: int, *, has_retention: bool = False) -> None:
        """`has_retention`: old records are let go of, so that it is told how that goes."""
        self._database = database
        self._most_label_sets = most_label_sets
        self._has_retention = has_retention

    def describe(self) -> Iterable[Metric]:
        """Nothing: to know the names is not to ask the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything there is to know about results, queue and workers."""
        try:
            runs, dropped = latest_for_metrics(self._database, self._most_label_sets)
            waiting = queue_depth(self._database)
            states = state_counts(self._database)
            under_way = running_progress(self._database)
            workers = list_workers(self._database)
            retention = retention_so_far(self._database) if self._has_retention else None
        except ServiceError:
            yield _gauge("enginebench_store_up", "The database answers.", 0)
            return
        yield _gauge("enginebench_store_up", "The database answers.", 1)
        yield from result_metrics(runs, dropped)
        yield from queue_metrics(waiting, states, workers)
        yield from worker_metrics(workers)
        yield from progress_metrics(under_way)
        if retention is not None:
            yield from retention_metrics(retention)


def result_metrics(runs: Sequence[Run], dropped: int = 0) -> Iterator[Metric]:
    """The newest result of each label set; `dropped`: label sets that are there and not among the runs."""
    kept = _newest_of_each(runs)
    yield _gauge("enginebench_label_sets_dropped", "Label sets beyond the most that are shown.", dropped)
    validity = GaugeMetricFamily(
        "enginebench_run_validity", "1 for the state the newest run is in.", labels=(*LABELS, "state")
    )
    failed = GaugeMetricFamily("enginebench_run_failed_requests", "Failed requests of the newest run.", labels=LABELS)
    failures = GaugeMetricFamily(
        "enginebench_run_failures",
        "Failed requests of the newest run by kind; only kinds that occurred.",
        labels=(*LABELS, "kind"),
    )
    requests = GaugeMetricFamily("enginebench_run_requests", "Requests of the newest run.", labels=LABELS)
    ended = GaugeMetricFamily("enginebench_run_end_timestamp_seconds", "When the newest run ended.", labels=LABELS)
    took = GaugeMetricFamily(
        "enginebench_run_wall_seconds",
        "From taking the newest run up to its end: start-up, warm-up and decoding included.",
        labels=LABELS,
    )
    for run in kept:
        labels = labels_of(run)
        for state in ValidityState:
            validity.add_metric((*labels, state.value), float(run.validity == state.value))
        kinds = run.failures or {}
        failed.add_metric(labels, sum(kinds.values()))
        for kind, count in kinds.items():
            failures.add_metric((*labels, kind), count)
        if run.metrics.requests is not None:
            requests.add_metric(labels, run.metrics.requests)
        if run.ended_at is not None:
            ended.add_metric(labels, run.ended_at.timestamp())
            if run.started_at is not None:
                took.add_metric(labels, (run.ended_at - run.started_at).total_seconds())
    yield from (validity, failed, failures, requests, ended, took)
    yield from _figures([run for run in kept if run.validity == ValidityState.VALID])


def _figures(valid: Sequence[Run]) -> Iterator[Metric]:
    for figure in FIGURES:
        family = GaugeMetricFamily(figure.name, f"{figure.help} Newest run, where VALID.", labels=LABELS)
        for run in valid:
            value = getattr(run.metrics, figure.field)
            if value is not None:
                family.add_metric(labels_of(run), value)
        yield family
    for name, words, fields in QUANTILES:
        # A summary whose quantiles were counted from the records: no sum, no count, nothing to rate().
        summary = Metric(name, f"{words} Newest run, where VALID.", "summary")
        for run in valid:
            labels = dict(zip(LABELS, labels_of(run), strict=True))
            for quantile, field in fields.items():
                value = getattr(run.metrics, field)
                if value is not None:
                    summary.add_sample(name, {**labels, "quantile": quantile}, value)
        yield summary


def queue_metrics(waiting: int, states: Mapping[str, int], workers: Sequence[WorkerRow]) -> Iterator[Metric]:
    """The queue and who works on it."""
    yield _gauge("enginebench_queue_depth", "Runs that wait.", waiting)
    by_state = GaugeMetricFamily("enginebench_runs", "Runs by state.", labels=("state",))
    for state, count in states.items():
        by_state.add_metric((state,), count)
    yield by_state
    there = [worker for worker in workers if worker.silent_s <= WORKER_SILENT_S]
    yield _gauge("enginebench_workers", "Workers heard of within two minutes.", len(there))
    busy = sum(worker.run_id is not None for worker in there)
    yield _gauge("enginebench_workers_busy", "Workers that carry out a run.", busy)


def worker_metrics(workers: Sequence[WorkerRow]) -> Iterator[Metric]:
    """Each worker of the last day; one that was told to end has signed off and is not among them."""
    silent = GaugeMetricFamily(
        "enginebench_worker_silent_seconds",
        "Since the worker was heard of; one that was told to end is not shown, a dead one for a day.",
        labels=("worker",),
    )
    free = GaugeMetricFamily(
        "enginebench_state_dir_free_bytes", "Free where the worker's state folder is.", labels=("worker",)
    )
    size = GaugeMetricFamily(
        "enginebench_state_dir_size_bytes", "Size of the file system that it is on.", labels=("worker",)
    )
    files = GaugeMetricFamily(
        "enginebench_worker_max_open_files",
        "Files, connections among them, that the worker's load process may open; not shown where there is no limit.",
        labels=("worker",),
    )
    for worker in workers:
        silent.add_metric((worker.name,), worker.silent_s)
        if worker.silent_s > WORKER_SILENT_S:
            continue
        if worker.host.open_files is not None:
            files.add_metric((worker.name,), worker.host.open_files)
        if worker.host.state_free_bytes is not None and worker.host.state_size_bytes is not None:
            free.add_metric((worker.name,), worker.host.state_free_bytes)
            size.add_metric((worker.name,), worker.host.state_size_bytes)
    yield from (silent, free, size, files)


def progress_metrics(under_way: Sequence[Run]) -> Iterator[Metric]:
    """Live progress: one series for each target and workload under way; a lease keeps it to one run each."""
    labels = ("engine", "model", "workload", "target")
    ratio = GaugeMetricFamily("enginebench_progress_ratio", "Requests finished over planned.", labels=labels)
    finished = GaugeMetricFamily("enginebench_progress_finished_requests", "Requests finished so far.", labels=labels)
    failed = GaugeMetricFamily("enginebench_progress_failed_requests", "Requests failed so far.", labels=labels)
    seen: set[tuple[str, ...]] = set()
    for run in under_way:
        key = (run.engine, run.model, run.workload, run.target)
        progress: Mapping[str, Any] = run.progress or {}
        if key in seen:
            continue
        seen.add(key)
        done = progress.get("finished") or 0
        finished.add_metric(key, done)
        failed.add_metric(key, progress.get("failed") or 0)
        planned = progress.get("requests")
        if planned:
            ratio.add_metric(key, done / planned)
    yield from (ratio, finished, failed)


def retention_metrics(told: Retention) -> Iterator[Metric]:
    """What workers let go of by themselves, since the beginning."""
    yield CounterMetricFamily(
        "enginebench_retention_dropped_runs", "Runs whose old request records went.", value=told.dropped.runs
    )
    yield CounterMetricFamily(
        "enginebench_retention_dropped_bytes", "Size of the request records that went.", value=told.dropped.size_bytes
    )
    yield _gauge(
        "enginebench_retention_failed", "1: the last try to let go of old records failed.", told.error is not None
    )
    if told.ended_at is not None:
        words = "When old records were last looked through to the end."
        yield _gauge("enginebench_retention_last_pass_timestamp_seconds", words, told.ended_at.timestamp())


def labels_of(run: Run) -> tuple[str, ...]:
    """In the order of `LABELS`."""
    return (
        run.engine,
        run.model,
        run.workload,
        run.target,
        run.hardware or "unknown",
        "true" if run.simulated else "false",
    )


def _newest_of_each(runs: Sequence[Run]) -> list[Run]:
    """Newest first, one for each label set: the same labels twice would void the whole scrape."""
    by_labels: dict[tuple[str, ...], Run] = {}
    for run in sorted(runs, key=lambda r: (r.ended_at or r.created_at, r.id), reverse=True):
        by_labels.setdefault(labels_of(run), run)
    return list(by_labels.values())


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
