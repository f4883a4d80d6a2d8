"""Service health: queue, workers, leases, HTTP, database, scrape."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.source.frame import frame
from dashboards.source.panels import ANY_IS_BAD, About, Made, lines, number, rows
from dashboards.source.queries import Sql, just_now, over_time

UNSCRAPED = "The service is not scraped."
#: Of Prometheus' targets, what is always there; the others come with a profile of the stack, and engines take turns.
ALWAYS = '{job=~"enginebench|prometheus"}'
HTTP = "enginebench_http_requests_total"


def service_health() -> Dashboard:
    """The dashboard for when something does not move."""
    dashboard = frame(
        "service-health",
        "Service health",
        "Does the service do its work: what waits, who works, what is held, and how quickly it answers.",
        "now-1h",
        "10s",
    )
    dashboard.with_row(Row("Queue and workers"))
    for panel in (queue(), states(), workers(), finished(), leases(), attempts()):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("HTTP"))
    for panel in (http_rate(), http_errors(), http_latency(), http_slowest()):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("Database"))
    for panel in (store_up(), dropped(), database_size(), connections(), tables()):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("Scrape"))
    for panel in (targets_up(), scrape_took(), samples()):
        dashboard.with_panel(panel)
    return dashboard


def queue() -> Made:
    about = About(
        "Runs that wait",
        "short",
        "The queue's length. It is stuck where it does not get shorter and no worker is at work.",
        UNSCRAPED,
    )
    return lines(about, over_time("enginebench_queue_depth", "waiting"))


def states() -> Made:
    about = About(
        "Runs by state",
        "short",
        "All runs in the database. Failed ones have their reason in the run; cancelled ones were stopped by a person.",
        UNSCRAPED,
    )
    return lines(about, over_time("enginebench_runs", "{{state}}"))


def workers() -> Made:
    about = About(
        "Workers",
        "short",
        "Workers heard of within two minutes, and those that carry out a run. None there is an alert.",
        UNSCRAPED,
        ((0, "red"), (1, "green")),
    )
    return lines(
        about, over_time("enginebench_workers", "there"), over_time("enginebench_workers_busy", "at work", "B")
    )


def finished() -> Made:
    about = About(
        "Runs of the last 15 minutes",
        "short",
        "Runs that have completed or failed within 15 minutes.",
        UNSCRAPED,
    )
    window = 'enginebench_runs{state=~"completed|failed"}'
    return lines(about, over_time(f"{window} - min_over_time({window}[15m])", "{{state}}"))


def leases() -> Made:
    about = About(
        "Leases",
        "s",
        "Resources held now, such as one GPU: by which run and worker, and how long the lease still holds. A lease is "
        "renewed each second or so; one below zero is taken over.",
        "No resource is held: nothing runs.",
        ((0, "red"), (1, "green")),
    )
    sql = """
SELECT l.resource, r.target, r.workload, l.worker, l.attempt,
       extract(epoch FROM l.expires_at - now())::float8 AS "holds for"
FROM resource_leases l JOIN runs r ON r.id = l.run_id ORDER BY l.resource"""
    return rows(about, Sql(sql), units={"attempt": "short"})


def attempts() -> Made:
    about = About(
        "Attempts by worker",
        "short",
        "How each worker's attempts at runs ended. A lost one means that the worker fell silent: killed, hung, or cut "
        "off from the database.",
        "No run was attempted yet.",
    )
    sql = """
SELECT worker, coalesce(ended, 'under way') AS ended, count(*) AS attempts, max(started_at) AS "last started"
FROM attempts GROUP BY 1, 2 ORDER BY 4 DESC LIMIT 100"""
    return rows(about, Sql(sql), units={"last started": "dateTimeAsIso"})


def http_rate() -> Made:
    about = About("Requests", "reqps", "Requests answered, by route and status.", "No request was answered yet.")
    expression = f"sum by (method, route, status) (rate({HTTP}[$__rate_interval]))"
    return lines(about, over_time(expression, "{{method}} {{route}} {{status}}"))


def http_errors() -> Made:
    about = About(
        "Share answered with 5xx",
        "percentunit",
        "Of all requests; 503 while the database is away counts.",
        "No request was answered yet.",
        ANY_IS_BAD,
    )
    good = f'sum(rate({HTTP}{{status!~"5.."}}[$__rate_interval]))'
    return lines(about, over_time(f"1 - {good} / sum(rate({HTTP}[$__rate_interval]))", "5xx"))


def http_latency() -> Made:
    about = About(
        "Answer time",
        "s",
        "From a request's head to the end of its answer; event streams are left out.",
        "No request was answered yet.",
        ((0, "green"), (1, "orange")),
    )
    bucket = "sum by (le) (rate(enginebench_http_request_duration_seconds_bucket[$__rate_interval]))"
    return lines(
        about,
        over_time(f"histogram_quantile(0.5, {bucket})", "p50"),
        over_time(f"histogram_quantile(0.99, {bucket})", "p99", "B"),
    )


def http_slowest() -> Made:
    about = About(
        "Mean answer time by route",
        "s",
        "Over the whole life of the API's process.",
        "No request was answered yet.",
    )
    family = "enginebench_http_request_duration_seconds"
    return lines(about, over_time(f"{family}_sum / ({family}_count > 0)", "{{method}} {{route}}"))


def store_up() -> Made:
    about = About(
        "Database answers",
        "bool_yes_no",
        "Whether the database answered the last scrape. Results that it cannot take are kept by the workers.",
        UNSCRAPED,
        ((0, "red"), (1, "green")),
        width=6,
    )
    return number(about, over_time("enginebench_store_up", "database"))


def dropped() -> Made:
    about = About(
        "Label sets left out",
        "short",
        "Label sets of results beyond ENGINEBENCH_METRICS_LABEL_SETS, which /metrics does not show.",
        UNSCRAPED,
        ((0, "green"), (1, "orange")),
        width=6,
    )
    return number(about, over_time("enginebench_label_sets_dropped", "left out"))


def database_size() -> Made:
    about = About(
        "Size of the database",
        "bytes",
        "On disk, with its indexes.",
        "The database does not answer.",
        width=6,
    )
    return number(about, Sql("SELECT pg_database_size(current_database())::float8 AS size"))


def connections() -> Made:
    about = About(
        "Connections",
        "short",
        "Open to this database, and how many the server takes.",
        "The database does not answer.",
        width=6,
    )
    sql = """
SELECT count(*)::float8 AS open, current_setting('max_connections')::float8 AS most
FROM pg_stat_activity WHERE datname = current_database()"""
    return number(about, Sql(sql))


def tables() -> Made:
    about = About(
        "Tables",
        "bytes",
        "Size with indexes, and rows as the planner last counted them. `records` holds every request of every run.",
        "The database has no tables: migrate it.",
        width=24,
    )
    sql = """
SELECT relname AS "table", pg_total_relation_size(relid)::float8 AS size, n_live_tup::float8 AS rows,
       n_dead_tup::float8 AS "dead rows", last_autovacuum AS "last vacuum"
FROM pg_stat_user_tables ORDER BY 2 DESC"""
    return rows(about, Sql(sql), units={"rows": "short", "dead rows": "short", "last vacuum": "dateTimeAsIso"})


def targets_up() -> Made:
    about = About(
        "Scrape targets",
        "bool_yes_no",
        "Whether each answered its last scrape. An engine may well say No, for they take turns; one that has not "
        "answered for a day, such as those of a profile that is not in use, has no row.",
        "Prometheus scrapes nothing.",
        ((0, "red"), (1, "green")),
    )
    return rows(about, just_now(f"up and max_over_time(up[1d]) == 1 or up{ALWAYS}"))


def scrape_took() -> Made:
    about = About(
        "Time a scrape takes",
        "s",
        "The service reads its figures from the database at each scrape; over 0.2 s is slower than it should be.",
        "Prometheus scrapes nothing.",
        ((0, "green"), (0.2, "orange"), (2, "red")),
    )
    expression = f"scrape_duration_seconds and up == 1 or scrape_duration_seconds{ALWAYS}"
    return lines(about, over_time(expression, "{{job}} {{instance}}"))


def samples() -> Made:
    about = About(
        "Samples of a scrape",
        "short",
        "How many series each target that answers gives.",
        "Prometheus scrapes nothing.",
    )
    return lines(about, over_time("scrape_samples_scraped > 0", "{{job}} {{instance}}"))
