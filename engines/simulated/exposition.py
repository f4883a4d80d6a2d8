"""The simulated engine's `/metrics`, under the names that the real engine uses."""

from __future__ import annotations

from bisect import bisect_left

from engines.clock import utc_now
from engines.simulated.prefix_cache import PrefixCache
from engines.simulated.scheduler import Scheduler
from engines.simulated.truth import TruthRecord

_LATENCY_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
#: vLLM's own bounds, of the gaps between tokens and of the wait in the queue
_BETWEEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_WAIT_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)


class Histogram:
    """Counts below bounds, as Prometheus has them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        # a page is rendered while tokens are to be sent
        self._words = [*map(str, bounds), "+Inf"]
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Take one value in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Sample lines; `labels` without braces."""
        lines = []
        total = 0
        comma = "," if labels else ""
        start = f'{name}_bucket{{{labels}{comma}le="'
        for bound, count in zip(self._words, self._counts, strict=True):
            total += count
            lines.append(f'{start}{bound}"}} {total}.0')
        braces = f"{{{labels}}}" if labels else ""
        return [*lines, f"{name}_count{braces} {total}.0", f"{name}_sum{braces} {self._sum}"]


class Exposition:
    """Counts of what happened, rendered when asked."""

    def __init__(self, engine: str, model: str, scheduler: Scheduler, cache: PrefixCache | None) -> None:
        self._engine = engine
        self._model = model
        self._scheduler = scheduler
        self._cache = cache
        self._started_s = utc_now().timestamp()
        #: generation requests, and those refused
        self.requests = 0
        self.rejected = 0
        self._finished = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        self._ttft_s = Histogram(_LATENCY_S)
        self._itl_s = Histogram(_BETWEEN_S)
        self._queue_s = Histogram(_WAIT_S)
        self._e2e_s = Histogram(_LATENCY_S)
        self._tpot_s = Histogram(_LATENCY_S)
        self._prompt_tokens = Histogram(_TOKENS)
        self._generated_tokens = Histogram(_TOKENS)

    def made_token(self, truth: TruthRecord, now_ns: int) -> None:
        """The engine has one more token of an answer, just about to be sent; its moments are kept in the truth."""
        if truth.last_made_ns is None:
            truth.first_made_ns = now_ns
            self._ttft_s.add((now_ns - truth.arrival_ns) / 1e9)
        else:
            self._itl_s.add((now_ns - truth.last_made_ns) / 1e9)
        truth.last_made_ns = now_ns

    def finished(self, truth: TruthRecord) -> None:
        """One answer has ended."""
        if truth.queued_ns is not None and truth.begun_ns is not None:
            self._queue_s.add((truth.begun_ns - truth.queued_ns) / 1e9)
        reason = truth.finish_reason if truth.outcome in ("complete", "abort") else "error"
        self._finished[reason if reason in self._finished else "error"] += 1
        stamps = truth.token_ns
        if not stamps:
            return
        self._e2e_s.add((stamps[-1] - truth.arrival_ns) / 1e9)
        self._prompt_tokens.add(truth.prompt_tokens)
        self._generated_tokens.add(len(stamps))
        if len(stamps) > 1:
            self._tpot_s.add((stamps[-1] - stamps[0]) / 1e9 / (len(stamps) - 1))

    def render(self) -> str:
        """The whole page."""
        lines = ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self._started_s}"]
        lines += self._vllm() if self._engine == "vllm" else self._tgi()
        return "\n".join(lines) + "\n"

    def _vllm(self) -> list[str]:
        scheduler, counters = self._scheduler, self._scheduler.counters
        queried, hits = (self._cache.queried_tokens, self._cache.hit_tokens) if self._cache else (0, 0)
        labels = f'engine="0",model_name="{self._model}"'
        lines: list[str] = []
        for name, kind, value in (
            ("vllm:num_requests_running", "gauge", scheduler.running),
            ("vllm:num_requests_waiting", "gauge", len(self._scheduler.waiting)),
            ("vllm:kv_cache_usage_perc", "gauge", scheduler.kv_usage_ratio),
            ("vllm:prefix_cache_queries_total", "counter", queried),
            ("vllm:prefix_cache_hits_total", "counter", hits),
            ("vllm:num_preemptions_total", "counter", counters.preemptions),
            ("vllm:prompt_tokens_total", "counter", counters.prompt_tokens + hits),
            ("vllm:prompt_tokens_cached_total", "counter", hits),
            ("vllm:generation_tokens_total", "counter", counters.generated_tokens),
        ):
            lines += [f"# TYPE {name} {kind}", f"{name}{{{labels}}} {float(value)}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason, count in self._finished.items():
            lines.append(
                f'vllm:request_success_total{{engine="0",finished_reason="{reason}",model_name="{self._model}"}} '
                f"{float(count)}"
            )
        for name, histogram in (
            ("vllm:time_to_first_token_seconds", self._ttft_s),
            ("vllm:inter_token_latency_seconds", self._itl_s),
            ("vllm:request_queue_time_seconds", self._queue_s),
            ("vllm:request_time_per_output_token_seconds", self._tpot_s),
            ("vllm:e2e_request_latency_seconds", self._e2e_s),
            ("vllm:request_prompt_tokens", self._prompt_tokens),
            ("vllm:request_generation_tokens", self._generated_tokens),
        ):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name, labels)]
        return lines

    def _tgi(self) -> list[str]:
        counters = self._scheduler.counters
        succeeded = sum(self._finished[reason] for reason in ("stop", "length"))
        failed = self.rejected + self._finished["error"] + self._finished["abort"]
        lines: list[str] = []
        for name, kind, value in (
            ("tgi_request_count", "counter", self.requests),
            ("tgi_request_success", "counter", succeeded),
            ("tgi_request_failure", "counter", failed),
            ("tgi_batch_inference_count", "counter", counters.steps),
            ("tgi_batch_inference_success", "counter", counters.steps),
            ("tgi_queue_size", "gauge", len(self._scheduler.waiting)),
            ("tgi_batch_current_size", "gauge", self._scheduler.running),
            ("tgi_batch_current_max_tokens", "gauge", self._scheduler.policy.kv_capacity_tokens),
        ):
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        for name, histogram in (
            ("tgi_request_duration", self._e2e_s),
            ("tgi_request_queue_duration", self._queue_s),
            ("tgi_request_mean_time_per_token_duration", self._tpot_s),
            ("tgi_request_input_length", self._prompt_tokens),
            ("tgi_request_generated_tokens", self._generated_tokens),
        ):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name, "")]
        return lines
