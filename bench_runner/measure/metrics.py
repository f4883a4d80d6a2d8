"""METRICS: every number a run gives, defined once. A new metric is one row here and its arithmetic in `summary`."""

from __future__ import annotations

from dataclasses import dataclass

_HOUSE = "this project's definition"
_SERVING = "usual in the serving benchmarks of the field"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a Summary."""

    name: str
    #: "s", "tokens/s", "requests/s", "characters/s", "ratio", "J/token", "tokens/s/W"
    unit: str
    #: which way is better: "higher", "lower", or "none" where neither is
    direction: str
    #: "number": one value a run; "distribution": over requests or gaps, a Distribution
    kind: str
    #: in words
    formula: str
    source: str = _HOUSE


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "duration_s",
            "s",
            "lower",
            "number",
            "burst: first request sent to last token of the last successful response; failed requests count as sent "
            "and never as an end; closed loop: the window, drain included; open loop, and closed loop with ramp-up: "
            "the measured window, from the end of the ramp-up to the end of sending, where rates count what arrived in "
            "it (an engine that does not keep up answers in the drain), latencies and goodput the requests sent in it",
            "execution time of the published tables",
        ),
        Metric(
            "input_tokens_per_s",
            "tokens/s",
            "higher",
            "number",
            "input tokens of successful requests ÷ duration_s",
            "published tables",
        ),
        Metric(
            "output_tokens_per_s",
            "tokens/s",
            "higher",
            "number",
            "output tokens of successful requests ÷ duration_s: the makespan rate; where a window is measured, those "
            "that arrived in it (summary.window.arrived_output_tokens) ÷ its length",
            "published tables",
        ),
        Metric(
            "total_tokens_per_s",
            "tokens/s",
            "higher",
            "number",
            "input and output tokens of successful requests ÷ duration_s",
            _SERVING,
        ),
        Metric(
            "output_tokens_per_s_per_gpu",
            "tokens/s",
            "higher",
            "number",
            "output_tokens_per_s ÷ GPUs of the target",
            _SERVING,
        ),
        Metric(
            "sustained_output_tokens_per_s",
            "tokens/s",
            "higher",
            "number",
            "output tokens of successful requests in the steady window ÷ its length; the window opens when every slot "
            "has given its first token and closes when the first slot falls empty for good; a request's tokens are "
            "spread evenly over its events where the wire does not tell; None below a tenth of duration_s",
        ),
        Metric(
            "tokens_per_s_per_user",
            "tokens/s",
            "higher",
            "distribution",
            "1 ÷ tpot_s of each successful request: the speed one reader sees",
            _SERVING,
        ),
        Metric("requests_per_s", "requests/s", "higher", "number", "successful requests ÷ duration_s", _SERVING),
        Metric(
            "sent_requests_per_s",
            "requests/s",
            "none",
            "number",
            "requests sent in the measured window ÷ its length: what an open loop offered; None where the whole run is "
            "measured",
        ),
        Metric(
            "goodput_requests_per_s",
            "requests/s",
            "higher",
            "number",
            "successful requests that met every limit of the SLO ÷ duration_s, failures are misses; None without SLO",
            "DistServe (Zhong et al., 2024)",
        ),
        Metric(
            "scheduled_goodput_requests_per_s",
            "requests/s",
            "higher",
            "number",
            "the same, with TTFT and end-to-end time from the planned send moment (no coordinated omission); None for "
            "a closed loop",
            "G. Tene, 'How NOT to Measure Latency'",
        ),
        Metric(
            "ttft_s",
            "s",
            "lower",
            "distribution",
            "sent to the first event that carries generated text or a token",
            _SERVING,
        ),
        Metric(
            "tpot_s",
            "s",
            "lower",
            "distribution",
            "(last token - first token) ÷ (output tokens - 1) of each request with two tokens or more",
            _SERVING,
        ),
        Metric(
            "itl_s",
            "s",
            "lower",
            "distribution",
            "gaps between token events, pooled over requests; None unless every event carried exactly one token",
            _SERVING,
        ),
        Metric("event_gap_s", "s", "lower", "distribution", "gaps between token events, pooled over requests"),
        Metric("e2e_s", "s", "lower", "distribution", "sent to the last token", _SERVING),
        Metric(
            "closed_s", "s", "lower", "distribution", "sent to the end of the response, usage and end marker included"
        ),
        Metric(
            "scheduled_ttft_s",
            "s",
            "lower",
            "distribution",
            "planned send moment to the first token event (no coordinated omission); None for a closed loop",
            "G. Tene, 'How NOT to Measure Latency'",
        ),
        Metric(
            "scheduled_e2e_s",
            "s",
            "lower",
            "distribution",
            "planned send moment to the last token (no coordinated omission); None for a closed loop",
            "G. Tene, 'How NOT to Measure Latency'",
        ),
        Metric("connect_s", "s", "lower", "distribution", "opening a connection, where one was opened for the request"),
        Metric("send_lag_s", "s", "lower", "distribution", "sent - scheduled, of every request sent: the client's own"),
        Metric(
            "failure_rate",
            "ratio",
            "lower",
            "number",
            "failed requests ÷ requests, those we cancelled ourselves left out of both",
        ),
        Metric(
            "roofline_ratio",
            "ratio",
            "higher",
            "number",
            "least time the hardware allows for the successful requests' tokens ÷ duration_s (where a window is "
            "measured: ÷ the time from its first request sent to their last token); None where model or hardware is "
            "unknown, or the weights do not fit",
            "roofline model (Williams, Waterman, Patterson, 2009)",
        ),
        Metric(
            "joules_per_output_token",
            "J/token",
            "lower",
            "number",
            "energy that the target's cards drew over the window, by their own counters ÷ output tokens of successful "
            "requests; cards alone, not their host; None where a card does not tell, or whose it is is not stated",
        ),
        Metric(
            "output_tokens_per_s_per_w",
            "tokens/s/W",
            "higher",
            "number",
            "output tokens of successful requests per second of the window ÷ mean power of the target's cards: a token "
            "a second for a watt is a token for a joule; None where joules_per_output_token is",
        ),
        Metric(
            "output_characters_per_s",
            "characters/s",
            "higher",
            "number",
            "characters of successful requests' outputs ÷ duration_s: comparable between two tokenizers",
        ),
        Metric(
            "input_characters_per_s",
            "characters/s",
            "higher",
            "number",
            "characters of successful requests' prompts ÷ duration_s; None where a prompt had no text",
        ),
    )
}
