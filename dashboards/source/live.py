"""Live: what is running now."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.source.frame import frame, from_prometheus
from dashboards.source.panels import NEEDS_GPU, TOKENS_PER_S, About, Made, lines, number, override, rows
from dashboards.source.queries import just_now, over_time

IDLE = "Nothing is running."
#: Labels of results on /metrics, chosen by the variables.
CHOSEN = 'engine=~"$engine", model=~"$model"'
NO_ENGINE = "No engine with a /metrics of its own is up."


def live() -> Dashboard:
    """The dashboard to watch while a job runs."""
    dashboard = frame(
        "live",
        "Live",
        "What is running now: the client's progress, the engines' own figures as they come, and the newest results.",
        "now-15m",
        "5s",
    )
    dashboard.with_variable(from_prometheus("engine", "Engine", "label_values(enginebench_run_validity, engine)"))
    dashboard.with_variable(from_prometheus("model", "Model", "label_values(enginebench_run_validity, model)"))
    dashboard.with_row(Row("The run under way"))
    for panel in (running(), waiting(), busy(), failing(), progress(), requests()):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("As the engines have it"))
    for panel in (output_rate(), in_engine(), first_token(), between_tokens(), queue_time(), per_token()):
        dashboard.with_panel(panel)
    dashboard.with_panel(gpu_power()).with_panel(gpu_memory())
    dashboard.with_row(Row("Newest results"))
    return dashboard.with_panel(newest())


def running() -> Made:
    about = About(
        "Runs under way",
        "short",
        "Runs that a worker carries out now. Runs that share a resource, such as one GPU, take turns.",
        "The service is not scraped.",
        width=6,
        height=4,
    )
    return number(about, over_time('enginebench_runs{state="running"}', "running"))


def waiting() -> Made:
    about = About(
        "Runs that wait",
        "short",
        "Runs in the queue. Many are no fault; a queue that does not get shorter is (see Service health).",
        "The service is not scraped.",
        width=6,
        height=4,
    )
    return number(about, over_time("enginebench_queue_depth", "waiting"))


def busy() -> Made:
    about = About(
        "Workers at work",
        "short",
        "Workers that carry out a run, of those heard of within two minutes.",
        "The service is not scraped.",
        width=6,
        height=4,
    )
    return number(
        about,
        over_time("enginebench_workers_busy", "at work"),
        over_time("enginebench_workers", "there", "B"),
    )


def failing() -> Made:
    about = About(
        "Failed requests so far",
        "short",
        "Failed requests of the runs under way, an engine's together: none is the rule, and more than a few make a run "
        "INVALID. An engine with no run under way keeps the number of its last one in the chosen time.",
        IDLE,
        ((0, "green"), (1, "red")),
        width=6,
        height=4,
    )
    return number(about, over_time(f"sum by (engine) (enginebench_progress_failed_requests{{{CHOSEN}}})", "{{engine}}"))


def progress() -> Made:
    about = About(
        "Progress",
        "percentunit",
        "Requests finished over requests planned, as the worker last said (once a second). A run that is measured "
        "for a time and not for a number of requests has none.",
        IDLE,
    )
    return lines(about, over_time(f"enginebench_progress_ratio{{{CHOSEN}}}", "{{target}} · {{workload}}"))


def requests() -> Made:
    about = About(
        "Requests finished",
        "short",
        "Requests that have ended, well or not, in each run under way.",
        IDLE,
    )
    return lines(about, over_time(f"enginebench_progress_finished_requests{{{CHOSEN}}}", "{{target}} · {{workload}}"))


def output_rate() -> Made:
    about = About(
        "Output tokens per second",
        TOKENS_PER_S,
        "Tokens that each engine says it generates, over ten seconds; TGI counts a request when it ends. Warm-up is in "
        "it; the result is not taken from here.",
        NO_ENGINE,
    )
    return lines(about, over_time(f"engine:generation_tokens:rate10s{{{CHOSEN}}}", "{{engine}} · {{model}}"))


def first_token() -> Made:
    about = About(
        "Time to first token, as the server sees it",
        "s",
        "From the request's arrival in vLLM to its first token, of the first tokens of the last ten seconds: without "
        "the way to the client. TGI does not export it.",
        "No vLLM has answered a request within ten seconds.",
    )
    bucket = f"engine:time_to_first_token_seconds_bucket:rate10s{{{CHOSEN}}}"
    return lines(
        about,
        over_time(f"histogram_quantile(0.5, {bucket})", "{{engine}} · {{model}} p50"),
        over_time(f"histogram_quantile(0.95, {bucket})", "{{engine}} · {{model}} p95", "B"),
        over_time(f"engine:time_to_first_token_seconds:mean_rate10s{{{CHOSEN}}}", "{{engine}} · {{model}} mean", "C"),
    )


def between_tokens() -> Made:
    about = About(
        "Time between tokens (ITL), as the server sees it",
        "s",
        "From each token to the next of the same request as vLLM makes them, over ten seconds. TGI does not export it: "
        "of TGI there is a request's mean, once it has ended (Time per output token).",
        "No vLLM has made a second token within ten seconds.",
    )
    bucket = f"engine:inter_token_latency_seconds_bucket:rate10s{{{CHOSEN}}}"
    return lines(
        about,
        over_time(f"histogram_quantile(0.5, {bucket})", "{{engine}} · {{model}} p50"),
        over_time(f"histogram_quantile(0.95, {bucket})", "{{engine}} · {{model}} p95", "B"),
    )


def queue_time() -> Made:
    about = About(
        "Queue time, as the server has it",
        "s",
        "How long a request waited in the engine before its prompt was first worked on: the mean of the requests that "
        "ended within ten seconds.",
        "No engine has ended a request within ten seconds.",
    )
    return lines(about, over_time(f"engine:queue_time_seconds:mean_rate10s{{{CHOSEN}}}", "{{engine}} · {{model}}"))


def per_token() -> Made:
    about = About(
        "Time per output token, as the server sees it",
        "s",
        "A request's mean time between its tokens, of the requests that ended within ten seconds.",
        "No engine has ended a request within ten seconds.",
    )
    bucket = f"engine:time_per_output_token_seconds_bucket:rate10s{{{CHOSEN}}}"
    return lines(
        about,
        over_time(f"histogram_quantile(0.5, {bucket})", "{{engine}} · {{model}} p50"),
        over_time(f"histogram_quantile(0.95, {bucket})", "{{engine}} · {{model}} p95", "B"),
    )


def in_engine() -> Made:
    about = About(
        "Requests in the engine",
        "short",
        "Requests the engine works on, and those it has taken and lets wait.",
        NO_ENGINE,
    )
    return lines(
        about,
        over_time(f"engine:requests_running{{{CHOSEN}}}", "{{engine}} · {{model}} running"),
        over_time(f"engine:requests_waiting{{{CHOSEN}}}", "{{engine}} · {{model}} waiting", "B"),
    )


def gpu_power() -> Made:
    about = About(
        "GPU power",
        "watt",
        f"Power each card draws, by the GPU exporter (DCGM), averaged by the card over about a second. {NEEDS_GPU}",
        "No GPU exporter is scraped: start the profile gpu.",
    )
    return lines(about, over_time("DCGM_FI_DEV_POWER_USAGE", "GPU {{gpu}} {{modelName}}"))


def gpu_memory() -> Made:
    about = About(
        "GPU memory",
        "decmbytes",
        f"Memory in use on each card, by the GPU exporter (DCGM): weights, KV cache and graphs. {NEEDS_GPU}",
        "No GPU exporter is scraped: start the profile gpu.",
    )
    return lines(about, over_time("DCGM_FI_DEV_FB_USED", "GPU {{gpu}} {{modelName}}"))


def newest() -> Made:
    about = About(
        "Newest VALID result of each target and workload",
        TOKENS_PER_S,
        "Output tokens of successful requests over the execution time, as the client measured it. Runs that are not "
        "VALID have no figures here; the simulated say so.",
        "No VALID result yet.",
        width=24,
    )
    made = rows(about, just_now(f"enginebench_output_tokens_per_second{{{CHOSEN}}}"))
    for column in ("Time", "__name__", "instance", "job"):
        override(made, "byName", column, custom__hidden=True)
    override(made, "byName", "Value", displayName="output tokens/s")
    return made
