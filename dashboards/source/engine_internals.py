"""Engine internals: what vLLM and TGI say of themselves, the same panels under the same names."""

# ruff: noqa: S608 - every part of the SQL is ours, and Grafana quotes what a person chooses
from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.source.frame import frame, from_postgres, from_prometheus
from dashboards.source.panels import ANY_IS_BAD, NEEDS_GPU, TOKENS_PER_S, About, Made, along, lines, rows
from dashboards.source.queries import Sql, over_time

CHOSEN = 'engine=~"$engine", model=~"$model"'
NONE = "No engine that exports it is up."
LEGEND = "{{engine}} · {{model}}"
COUNTED = "Over ten seconds; vLLM counts as it goes, TGI a whole request when it ends."
ONLY_VLLM = "TGI does not export it."
SELDOMER = "Read every 0.2 s, or seldomer where reading would take more than 1 % of the engine's time."


def engine_internals() -> Dashboard:
    """The dashboard of the engines' own metrics, live and as a run kept them."""
    dashboard = frame(
        "engine-internals",
        "Engine internals",
        "The engines' own metrics. Recording rules give vLLM's and TGI's the same names; a panel that only one of them "
        "can fill says so.",
        "now-30m",
        "10s",
    )
    dashboard.with_variable(from_prometheus("engine", "Engine", "label_values(engine:requests_running, engine)"))
    dashboard.with_variable(from_prometheus("model", "Model", "label_values(engine:requests_running, model)"))
    dashboard.with_variable(from_postgres("run", "Run", RUNS, several=False))
    dashboard.with_row(Row("Requests"))
    for panel in (
        gauge("Running requests", "short", "Requests in the batch.", "engine:requests_running"),
        gauge("Waiting requests", "short", "Requests the engine has taken and lets wait.", "engine:requests_waiting"),
        gauge("Successful requests per second", "reqps", "Over ten seconds; warm-up and calibration count.", SUCCESSES),
        gauge("Preemptions per second", "ops", f"Requests put back for want of KV cache. {ONLY_VLLM}", PREEMPTIONS),
    ):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("Tokens and cache"))
    for panel in (
        gauge("Prompt tokens per second", TOKENS_PER_S, f"Prompts taken in. {COUNTED}", "engine:prompt_tokens:rate10s"),
        gauge(
            "Generated tokens per second", TOKENS_PER_S, f"Tokens out. {COUNTED}", "engine:generation_tokens:rate10s"
        ),
        kv_cache(),
        prefix_cache(),
    ):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("Latency, as the server sees it"))
    for panel in (
        quantiles("Time to first token", f"From arrival to the first token. {ONLY_VLLM}", "time_to_first_token"),
        quantiles("Time between tokens", f"From a token to the next (ITL). {ONLY_VLLM}", "inter_token_latency"),
        queue_time(),
        quantiles("Time per output token", "A request's mean, of requests that ended.", "time_per_output_token"),
        quantiles("Request duration", "From arrival to the end, of requests that ended.", "request_duration"),
        gpu_utilisation(),
    ):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("One run, as its own worker read the engine (up to five times a second)"))
    for panel in (run_figures(), run_requests(), run_tokens(), run_kv_cache(), run_preemptions()):
        dashboard.with_panel(panel)
    for panel in (run_power(), run_memory()):
        dashboard.with_panel(panel)
    return dashboard


SUCCESSES = "engine:requests_success:rate10s"
PREEMPTIONS = "engine:preemptions:rate10s"

#: Newest first; the list's text names the run, its value is the run's id.
RUNS = """
SELECT r.target || ' · ' || r.workload || ' · ' || to_char(r.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
       AS __text, r.id AS __value
FROM runs r JOIN documents d ON d.run_id = r.id
WHERE r.ended_at IS NOT NULL AND $__timeFilter(r.ended_at) AND d.result #> '{telemetry,at_s}' IS NOT NULL
ORDER BY r.ended_at DESC LIMIT 200
"""


#: Of the run that the variable names: one row, empty cells where the engine does not tell.
FIGURES = """
SELECT r.engine, (s ->> 'queue_requests')::int AS requests,
       (s ->> 'ttft_mean_s')::float8 AS "TTFT mean, server",
       (d.result #>> '{summary,ttft_s,mean}')::float8 AS "TTFT mean, client",
       (s ->> 'queue_mean_s')::float8 AS "queue time mean",
       (s ->> 'kv_cache_usage_mean_ratio')::float8 AS "KV cache, mean",
       (s ->> 'kv_cache_usage_max_ratio')::float8 AS "KV cache, most",
       (s ->> 'prefix_cache_hit_tokens')::float8 / nullif((s ->> 'prefix_cache_queried_tokens')::float8, 0)
       AS "prompt tokens from prefix cache",
       (s ->> 'preemptions')::int AS preemptions
FROM documents d JOIN runs r ON r.id = d.run_id, LATERAL (SELECT d.result #> '{telemetry,server}') AS told(s)
WHERE d.run_id = ${run:sqlstring} AND s IS NOT NULL
"""


def gauge(title: str, unit: str, description: str, series: str) -> Made:
    return lines(About(title, unit, description, NONE), over_time(f"{series}{{{CHOSEN}}}", LEGEND))


def quantiles(title: str, description: str, histogram: str) -> Made:
    about = About(title, "s", f"{description} Over ten seconds, from the engine's own histogram, bounds and all.", NONE)
    bucket = f"engine:{histogram}_seconds_bucket:rate10s{{{CHOSEN}}}"
    return lines(
        about,
        over_time(f"histogram_quantile(0.5, {bucket})", f"{LEGEND} p50"),
        over_time(f"histogram_quantile(0.95, {bucket})", f"{LEGEND} p95", "B"),
    )


def kv_cache() -> Made:
    about = About(
        "KV cache in use",
        "percentunit",
        f"Share of the cache's blocks that hold a request. At 1 vLLM puts requests back. {ONLY_VLLM}",
        NONE,
        ((0, "green"), (0.9, "orange"), (0.98, "red")),
    )
    return lines(about, over_time(f"engine:kv_cache_usage:ratio{{{CHOSEN}}}", LEGEND))


def prefix_cache() -> Made:
    about = About(
        "Prompt tokens served from the prefix cache",
        "percentunit",
        "Share of the prompt tokens asked for that were in the cache already, over ten seconds. A benchmark's prompts "
        f"are distinct: more than a few per cent serves a run work it did not do. {ONLY_VLLM}",
        "No vLLM with a prefix cache has had a prompt within ten seconds.",
        ANY_IS_BAD,
    )
    return lines(about, over_time(f"engine:prefix_cache_hits:ratio_rate10s{{{CHOSEN}}}", LEGEND))


def queue_time() -> Made:
    return gauge(
        "Queue time",
        "s",
        "From a request's entry into the engine's queue to the first work on its prompt: the mean of the requests that "
        "ended within ten seconds.",
        "engine:queue_time_seconds:mean_rate10s",
    )


def gpu_utilisation() -> Made:
    about = About(
        "GPU utilisation",
        "percent",
        f"Share of the time in which a kernel ran, by the GPU exporter (DCGM); says little of how full. {NEEDS_GPU}",
        "No GPU exporter is scraped: start the profile gpu.",
    )
    return lines(about, over_time("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}} {{modelName}}"))


def run_figures() -> Made:
    about = About(
        "The run in the server's own figures, beside the client's",
        "s",
        "What the engine's counters moved by from just before the run's load to just after it, and its KV cache over "
        "the readings in between. The server's time to first token is without the way to the client and back. "
        f"A cell that is not filled is what the engine does not export: TGI has only its queue time. {SELDOMER}",
        "Not told.",
        width=24,
        height=4,
    )
    units = {"requests": "short", "preemptions": "short"}
    units |= dict.fromkeys(("KV cache, mean", "KV cache, most", "prompt tokens from prefix cache"), "percentunit")
    return rows(about, Sql(FIGURES), units=units)


def run_kv_cache() -> Made:
    about = About(
        "KV cache in use during the run",
        "percentunit",
        f"The engine's own gauge from the start of the run's window, in seconds. {ONLY_VLLM}",
        "The chosen run's engine does not tell.",
        ((0, "green"), (0.9, "orange"), (0.98, "red")),
    )
    return along(about, telemetry("kv_cache_usage_ratio"), "seconds")


def run_preemptions() -> Made:
    about = About(
        "Preemptions and prefix-cache hits during the run",
        "short",
        "Requests put back for want of KV cache, and prompt tokens that the prefix cache had: the engine's own "
        f"counters from the start of the run's window, in seconds, less their first value. {ONLY_VLLM}",
        "The chosen run's engine does not tell.",
    )
    return along(about, telemetry("preemptions_total", "prefix_cache_hits_total", since_first=True), "seconds")


def run_requests() -> Made:
    about = About(
        "Requests in the engine during the run",
        "short",
        f"The engine's own gauges from the start of the run's window, in seconds. {SELDOMER}",
        "The chosen run's engine has no gauges.",
    )
    return along(about, telemetry("requests_running", "requests_waiting"), "seconds")


def run_tokens() -> Made:
    about = About(
        "Tokens counted by the engine during the run",
        "short",
        "The engine's own counters from the start of the run's window, in seconds, less their first value.",
        "The chosen run's engine has no counters.",
    )
    return along(about, telemetry("prompt_tokens_total", "generation_tokens_total", since_first=True), "seconds")


def run_power() -> Made:
    about = About(
        "GPU power during the run",
        "watt",
        "What the target's cards drew together, read by the run's own worker, from the start of the run's window, in "
        f"seconds. A card averages its power over up to a second. {NEEDS_GPU}",
        "The chosen run's cards were not read.",
    )
    return along(about, of_cards("power_w"), "seconds")


def run_memory() -> Made:
    about = About(
        "GPU memory during the run",
        "bytes",
        "Memory in use on the target's cards together, read by the run's own worker, from the start of the run's "
        f"window, in seconds. {NEEDS_GPU}",
        "The chosen run's cards were not read.",
    )
    return along(about, of_cards("memory_used_bytes"), "seconds")


def of_cards(name: str) -> Sql:
    """Columns `seconds` and this, summed over the cards, which are read one after the other."""
    return Sql(
        f"""
SELECT min(seconds::float8) AS seconds, sum(value::float8) AS {name}
FROM documents d, json_array_elements(d.result #> '{{telemetry,cards,cards}}') AS cards(card),
     ROWS FROM (json_array_elements_text(card #> '{{at_s}}'), json_array_elements_text(card #> '{{series,{name}}}'))
     WITH ORDINALITY AS t(seconds, value, n)
WHERE d.run_id = ${{run:sqlstring}} GROUP BY n ORDER BY 1
"""
    )


def telemetry(*names: str, since_first: bool = False) -> Sql:
    """Columns `seconds` and one a name, of the run that the variable names; no row where none of them is told."""
    lists = ", ".join(f"json_array_elements_text(d.result #> '{{telemetry,series,{name}}}')" for name in names)
    less = {name: f" - (d.result #>> '{{telemetry,series,{name},0}}')::float8" for name in names if since_first}
    shown = ", ".join(f"{name}::float8{less.get(name, '')} AS {name}" for name in names)
    told = " OR ".join(f"{name} IS NOT NULL" for name in names)
    return Sql(
        f"""
SELECT seconds::float8 AS seconds, {shown}
FROM documents d,
     ROWS FROM (json_array_elements_text(d.result #> '{{telemetry,at_s}}'), {lists}) AS t(seconds, {", ".join(names)})
WHERE d.run_id = ${{run:sqlstring}} AND ({told})
ORDER BY 1
"""
    )
