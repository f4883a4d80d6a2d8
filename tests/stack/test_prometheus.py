"""A real Prometheus scrapes a real service while it works, and answers PromQL for each metric."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engines.simulated.start import simulated_engine
from tests.fakes.service import Service, await_true, running_service
from tests.stack.conftest import Prometheus, running_prometheus

KEY = "key-of-a-person"
SCRAPE_KEY = "key-of-prometheus"
REPEATS = 2
CONFIG = """
global:
  scrape_interval: 500ms
scrape_configs:
  - job_name: enginebench
    authorization:
      credentials: {key}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""

#: Metric -> field of a run's metrics that it must show.
FIGURES = {
    "enginebench_input_tokens_per_second": "input_tokens_per_s",
    "enginebench_output_tokens_per_second": "output_tokens_per_s",
    "enginebench_total_tokens_per_second": "total_tokens_per_s",
    "enginebench_run_duration_seconds": "duration_s",
    "enginebench_roofline_ratio": "roofline_ratio",
    'enginebench_time_to_first_token_seconds{quantile="0.5"}': "ttft_p50_s",
    'enginebench_time_to_first_token_seconds{quantile="0.95"}': "ttft_p95_s",
    'enginebench_time_to_first_token_seconds{quantile="0.99"}': "ttft_p99_s",
    'enginebench_time_per_output_token_seconds{quantile="0.5"}': "tpot_p50_s",
    'enginebench_time_per_output_token_seconds{quantile="0.95"}': "tpot_p95_s",
    'enginebench_time_per_output_token_seconds{quantile="0.99"}': "tpot_p99_s",
    'enginebench_end_to_end_latency_seconds{quantile="0.5"}': "e2e_p50_s",
    'enginebench_end_to_end_latency_seconds{quantile="0.95"}': "e2e_p95_s",
    'enginebench_end_to_end_latency_seconds{quantile="0.99"}': "e2e_p99_s",
    "enginebench_run_requests": "requests",
}

#: Long enough to be seen under way by several scrapes and a worker's heartbeat.
SLOW: dict[str, Any] = {
    "name": "slow",
    "requests": 60,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 24}},
    "output_tokens": {"kind": "fixed", "tokens": 100},
    "arrival": {"kind": "closed_loop", "concurrency": 4},
    "warmup_batches": 0,
}


def test_a_job_is_seen_in_promql(tmp_path: Path, promtool: str) -> None:
    settings = {
        "ENGINEBENCH_API_KEYS": KEY,
        "ENGINEBENCH_METRICS_KEY": SCRAPE_KEY,
        "ENGINEBENCH_METRICS_LABEL_SETS": "1",
    }
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        simulated_engine("vllm-mistral-7b") as server,
        running_service(
            f"sqlite:///{tmp_path / 'e.sqlite'}",
            tmp_path / "state",
            settings=settings,
            headers=headers,
            program="tests.fakes.calm",
        ) as service,
        running_prometheus(CONFIG.format(key=SCRAPE_KEY, port=service.port), tmp_path / "prometheus") as prometheus,
    ):
        target = {
            "name": "v",
            "engine": "vllm",
            "model": server.model,
            "reach": {"kind": "attached", "url": server.url},
            "hardware": "A100-80GB",
            "precision": "BF16",
        }
        server.set_faults({"kind": "status", "status": 503, "every": 4})
        service.await_job(service.submit(targets=[target | {"name": "live"}], workloads=[SLOW]))
        server.set_faults()
        check_failures(service, prometheus)
        check_live_progress(prometheus)
        run = newest_run(service, target)
        # Two scrapes after the end, so that the newest result is in.
        await_true(
            lambda: prometheus.ask_one("enginebench_run_end_timestamp_seconds") == ended_at(service, run["id"]),
            30.0,
            service.log_tail,
        )
        check_results(prometheus, run)
        check_service(prometheus)
        check_names(service, prometheus, promtool)


def newest_run(service: Service, target: dict[str, Any]) -> dict[str, Any]:
    """The newest of a job's runs, which are all VALID."""
    job = service.await_job(service.submit(targets=[target], workloads=["burst-100x128x128"], repeats=REPEATS))
    assert job["counts"] == {"completed": REPEATS}, job
    run: dict[str, Any] = service.client.get("/v1/runs?limit=1&sort=-ended_at").json()["items"][0]
    assert run["validity"] == "VALID", run["reason_codes"]
    return run


def ended_at(service: Service, run_id: str) -> float:
    return datetime.fromisoformat(service.client.get(f"/v1/runs/{run_id}").json()["ended_at"]).timestamp()


def check_results(prometheus: Prometheus, run: dict[str, Any]) -> None:
    for query, field in FIGURES.items():
        (sample,) = prometheus.ask(query)
        assert sample["value"] == pytest.approx(run["metrics"][field]), query
        labels = {name: sample["metric"][name] for name in ("engine", "model", "workload", "target", "hardware")}
        assert labels == {name: run[name] for name in labels}, query
        assert sample["metric"]["simulated"] == "true", query
    validity = {s["metric"]["state"]: s["value"] for s in prometheus.ask("enginebench_run_validity")}
    assert validity == {"VALID": 1, "INVALID": 0, "INCONCLUSIVE": 0}
    assert prometheus.ask_one("enginebench_run_failed_requests") == 0
    assert prometheus.ask("enginebench_run_failures") == []
    wall_s = prometheus.ask_one("enginebench_run_wall_seconds")
    assert wall_s is not None
    assert wall_s > run["metrics"]["duration_s"]
    # A simulated engine has no card, so there is nothing, and not 0.
    assert prometheus.ask("enginebench_joules_per_output_token") == []
    assert prometheus.ask("enginebench_output_tokens_per_second_per_watt") == []


def check_service(prometheus: Prometheus) -> None:
    assert prometheus.ask_one('up{job="enginebench"}') == 1
    assert prometheus.ask_one("enginebench_store_up") == 1
    assert prometheus.ask_one("enginebench_queue_depth") == 0
    assert prometheus.ask_one("max_over_time(enginebench_queue_depth[5m])") is not None
    assert prometheus.ask_one('enginebench_runs{state="completed"}') == REPEATS + 1
    assert prometheus.ask_one("enginebench_workers") == 1
    assert prometheus.ask_one("max_over_time(enginebench_workers_busy[5m])") == 1
    assert 0 <= (prometheus.ask_one("enginebench_worker_silent_seconds") or 0) < 120
    assert (prometheus.ask_one("enginebench_worker_max_open_files") or 0) > 100
    free = prometheus.ask_one("enginebench_state_dir_free_bytes / enginebench_state_dir_size_bytes")
    assert free is not None
    assert 0 < free < 1
    # The label set of the run that ended before.
    assert prometheus.ask_one("enginebench_label_sets_dropped") == 1
    requests = 'enginebench_http_requests_total{route="/v1/jobs",method="POST",status="202"}'
    assert prometheus.ask_one(requests) == 2
    slowest = "histogram_quantile(0.9, sum by (le) (enginebench_http_request_duration_seconds_bucket))"
    assert prometheus.ask_one(slowest) is not None


def check_failures(service: Service, prometheus: Prometheus) -> None:
    """A run that is not VALID shows its failures, and no figures."""
    run = service.client.get("/v1/runs?target=live").json()["items"][0]
    rejected = run["failures"]["rejected"]
    query = 'enginebench_run_failures{target="live",kind="rejected"}'
    await_true(lambda: prometheus.ask_one(query) == rejected > 0, 30.0, service.log_tail)
    assert prometheus.ask_one('enginebench_run_failed_requests{target="live"}') == rejected
    assert prometheus.ask_one('enginebench_run_validity{target="live",state="VALID"}') == 0
    assert prometheus.ask("enginebench_output_tokens_per_second") == []


def check_live_progress(prometheus: Prometheus) -> None:
    """While the run went on, it was seen to, and at its end it was gone."""
    between = "count_over_time((enginebench_progress_ratio > 0 < 1)[5m:500ms])"
    assert (prometheus.ask_one(between) or 0) > 0
    for name in ("finished", "failed"):
        most = prometheus.ask_one(f"max_over_time(enginebench_progress_{name}_requests[5m])")
        assert most is not None
        assert 0 < most <= SLOW["requests"], name
    assert prometheus.ask_one('max_over_time(enginebench_runs{state="running"}[5m])') == 1
    assert prometheus.ask("enginebench_progress_ratio") == []


def check_names(service: Service, prometheus: Prometheus, promtool: str) -> None:
    """promtool finds nothing to say, and no metric was left out above."""
    text = service.client.get("/metrics", headers={"authorization": f"Bearer {SCRAPE_KEY}"}).text
    check = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
    asked = {name for query in prometheus.asked for name in re.findall(r"enginebench_[a-z_]+", query)}
    there = set(re.findall(r"^# TYPE (enginebench_[a-z_]+) ", text, re.MULTILINE))
    assert len(there) > 20
    assert {name for name in there if not {name, f"{name}_bucket"} & asked} == set()
