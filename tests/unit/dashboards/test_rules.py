"""Rules, alerts and panels ask only for metrics that are exported by the service, the engines, or Prometheus itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from engines.catalog import ENGINES
from engines.simulated.exposition import Exposition
from engines.simulated.profiles import PROFILES
from services.api.exporter import (
    progress_metrics,
    queue_metrics,
    result_metrics,
    retention_metrics,
    worker_metrics,
)
from services.store.retention import Dropped, Retention
from services.telemetry.metrics import HttpMetrics
from tests.fakes.grafana import PROMETHEUS, dashboards, panel_queries, variable_queries

RULES = Path(__file__).parents[3] / "dashboards" / "prometheus"
RECORDED = Path(__file__).parents[2] / "recordings" / "vllm-0.33.0-metrics.txt"
#: Made by Prometheus for each target.
SCRAPE = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
#: Of dcgm-exporter's default set.
DCGM = {"DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL"}
NAME = re.compile(r"\b(?:enginebench_\w+|engine:[\w:]+|vllm:\w+|tgi_\w+|DCGM_\w+|up\b|scrape_\w+)")


def rules() -> list[dict[str, Any]]:
    files = sorted((RULES / "rules").glob("*.yml"))
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def of_the_service() -> set[str]:
    families: list[Metric] = [*result_metrics([]), *queue_metrics(0, {}, []), *worker_metrics([])]
    families += progress_metrics([])
    families += retention_metrics(Retention(Dropped(0, 0), datetime.now(UTC), None))
    registry = CollectorRegistry()
    HttpMetrics(lambda *_: None, registry)  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    http = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    histogram = {f"{name}{end}" for name in http for end in ("_bucket", "_sum", "_count")}
    return {family.name for family in families} | {"enginebench_store_up"} | http | histogram


def of_the_simulated() -> set[str]:
    text = ""
    for profile in ("vllm-mistral-7b", "tgi-mistral-7b"):
        told = PROFILES[profile]
        text += Exposition(told.engine, told.model.name, told.scheduler(), None).render()
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}


def test_every_metric_asked_for_is_exported() -> None:
    asked = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    for name, board in dashboards().items():
        for query in (*panel_queries(name, board), *variable_queries(name, board)):
            if query.source == PROMETHEUS:
                asked |= set(NAME.findall(query.text))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert asked - recorded - of_the_service() - of_the_simulated() - SCRAPE - DCGM == set()
    assert recorded - asked == set()


def test_the_real_vllm_exports_what_the_rules_ask_of_it() -> None:
    there = set(re.findall(r'name="(vllm:\w+)"', RECORDED.read_text()))
    asked = {name for rule in rules() for name in re.findall(r"vllm:\w+", rule["expr"])}
    assert asked
    # The source names a counter without the ending that its page gives it.
    there |= {f"{name}_total" for name in there}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked} - there == set()


def test_the_rules_read_what_a_run_s_telemetry_reads() -> None:
    """The same canonical gauge is the same of the engine's metrics, in Prometheus and in a run."""
    by_name = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    for canonical, record in {
        "requests_running": "engine:requests_running",
        "requests_waiting": "engine:requests_waiting",
        "kv_cache_usage_ratio": "engine:kv_cache_usage:ratio",
        "prompt_tokens_total": "engine:prompt_tokens:rate10s",
        "generation_tokens_total": "engine:generation_tokens:rate10s",
        "requests_success_total": "engine:requests_success:rate10s",
        "preemptions_total": "engine:preemptions:rate10s",
        "time_to_first_token_seconds_sum": "engine:time_to_first_token_seconds:mean_rate10s",
        "time_to_first_token_seconds_count": "engine:time_to_first_token_seconds:mean_rate10s",
        "queue_time_seconds_sum": "engine:queue_time_seconds:mean_rate10s",
        "queue_time_seconds_count": "engine:queue_time_seconds:mean_rate10s",
    }.items():
        for engine in ("vllm", "tgi"):
            name = ENGINES[engine].metric_names.get(canonical)
            if name is not None:
                assert re.search(rf"{re.escape(name)}\b", by_name[record]), (engine, canonical)


def test_the_scrape_keeps_every_metric_the_rules_read() -> None:
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    (engines,) = [job for job in config["scrape_configs"] if job["job_name"] == "engines"]
    (keep,) = engines["metric_relabel_configs"]
    asked = {name for rule in rules() for name in re.findall(r"\b(?:vllm:|tgi_)\w+", rule["expr"])}
    assert {name for name in asked if not re.fullmatch(keep["regex"], name)} == set()


def test_every_alert_is_fired_and_silenced_in_its_tests() -> None:
    tests = yaml.safe_load((RULES / "tests" / "alerts.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    fired = {check["alertname"] for check in checks if check["exp_alerts"]}
    quiet = {check["alertname"] for check in checks if not check["exp_alerts"]}
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert fired == quiet == set(alerts)
    for alert in alerts.values():
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert set(alert["annotations"]) == {"summary", "action"}
