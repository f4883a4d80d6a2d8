"""What a run keeps of its engine's own words is what the simulated engine knows of each request."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from bench_runner import runner
from bench_runner.load.contract import RunControl
from bench_runner.plan.spec import RunSpec
from bench_runner.report import to_text
from engines.simulated.start import simulated_engine
from engines.target import Site

REQUESTS = 40


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_a_run_keeps_the_servers_own_ttft_and_queue_time(engine: str, site: Site) -> None:
    """A burst of long prompts, so that most wait in the queue; the warm-up and the probe are none of the run's."""
    with simulated_engine(f"{engine}-mistral-7b", speed=3) as server:
        result = runner.run(spec(engine, server.model, server.url), control=RunControl(), site=site).result
        truth = server.truth()[-REQUESTS:]
    assert result.failures == {}
    assert result.telemetry is not None
    told = result.telemetry["server"]
    waited_s = [(one["begun_ns"] - one["queued_ns"]) / 1e9 for one in truth]
    assert max(waited_s) > 10 * min(waited_s)
    assert told["queue_requests"] == REQUESTS
    assert told["queue_mean_s"] == pytest.approx(fmean(waited_s), abs=1e-8)
    before, after = result.telemetry["counters"]["before"], result.telemetry["counters"]["after"]
    name = "queue_time_seconds_count"
    assert after[name] - before.get(name, 0) == REQUESTS
    if engine == "tgi":
        assert told["ttft_mean_s"] is None
        assert told["kv_cache_usage_max_ratio"] is None
        assert told["preemptions"] is None
        return
    made_s = [(one["first_made_ns"] - one["arrival_ns"]) / 1e9 for one in truth]
    assert told["ttft_requests"] == REQUESTS
    assert told["ttft_mean_s"] == pytest.approx(fmean(made_s), abs=1e-8)
    # The client waits for it to be sent, too.
    assert told["queue_mean_s"] < told["ttft_mean_s"] < result.summary["ttft_s"]["mean"]
    assert 0 < told["kv_cache_usage_mean_ratio"] <= told["kv_cache_usage_max_ratio"] <= 1
    assert told["preemptions"] == 0
    assert f"time to first token {told['ttft_mean_s'] * 1e3:,.2f} ms" in to_text(result.to_json())


def spec(engine: str, model: str, url: str) -> RunSpec:
    workload: dict[str, Any] = {
        "requests": REQUESTS,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 600}},
        "output_tokens": {"kind": "fixed", "tokens": 40},
        "warmup_batches": 1,
    }
    target = {"engine": engine, "model": model, "reach": {"kind": "attached", "url": url}}
    told: dict[str, Any] = {"target": target, "workload": workload, "calibration": False, "seed": 1}
    return RunSpec.model_validate(told | {"scrape_interval_s": 0.05})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
