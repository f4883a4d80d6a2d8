"""History: each metric over time, by target. Reads only columns of `runs`, so that 100,000 of them are no trouble."""

# ruff: noqa: S608 - every part of the SQL is ours, and Grafana quotes what a person chooses
from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from bench_runner.measure.metrics import METRICS
from dashboards.source.frame import frame, from_postgres, marks
from dashboards.source.panels import NEEDS_GPU, TOKENS_PER_S, About, Made, lines, override, points, rows
from dashboards.source.queries import Sql

NOTHING = "No VALID run of these targets and workloads in the chosen time."
KIND = "CASE WHEN simulated THEN 'simulated' ELSE 'real' END"
#: One name may have stood for a target as shipped and then for one that is matched: those are two lines.
NAME = "engine || ' · ' || target || ' · ' || workload || ' · ' || flag_class"
ASKED = f"""target IN (${{target:sqlstring}}) AND workload IN (${{workload:sqlstring}})
  AND flag_class IN (${{flags:sqlstring}}) AND {KIND} IN (${{kind:sqlstring}}) AND $__timeFilter(ended_at)"""
#: VALID, and left out by nobody.
COUNTS = "validity = 'VALID' AND excluded_at IS NULL"
#: Jobs before, which a job is held against.
BEFORE = 5
#: From this change on, a metric is shown as worse or better.
CHANGE = 0.05

_LATEST = "SELECT DISTINCT {} FROM latest_runs ORDER BY 1"
VARIABLES = (
    ("target", "Target", _LATEST.format("target"), True),
    ("workload", "Workload", _LATEST.format("workload"), True),
    (
        "flags",
        "Flags",
        "SELECT DISTINCT r.flag_class FROM latest_runs l JOIN runs r ON r.id = l.run_id ORDER BY 1",
        True,
    ),
    ("kind", "Real or simulated", _LATEST.format(KIND), False),
)

#: Title, unit, metric, columns of runs.
SERIES = (
    ("Output tokens per second", TOKENS_PER_S, "output_tokens_per_s", ("output_tokens_per_s",)),
    ("Input and output tokens per second", TOKENS_PER_S, "total_tokens_per_s", ("total_tokens_per_s",)),
    ("Time to first token", "s", "ttft_s", ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s")),
    ("Time per output token", "s", "tpot_s", ("tpot_p50_s", "tpot_p95_s", "tpot_p99_s")),
    ("End-to-end latency", "s", "e2e_s", ("e2e_p50_s", "e2e_p95_s", "e2e_p99_s")),
    ("Execution time", "s", "duration_s", ("duration_s",)),
    ("Roofline ratio", "percentunit", "roofline_ratio", ("roofline_ratio",)),
)

#: There may be VALID runs all the same: of a target whose cards the worker does not read, or that has none.
UNREAD = "No VALID run in the chosen time whose cards' energy was read."
ENERGY = ("Energy of an output token", "joule", "joules_per_output_token", ("joules_per_output_token",))

VERSIONS = """
SELECT min(ended_at) AS time, engine || ' ' || engine_version || ' on ' || target AS text, engine AS tags
FROM runs
WHERE target IN (${target:sqlstring}) AND engine_version IS NOT NULL AND $__timeFilter(ended_at)
GROUP BY target, engine, engine_version ORDER BY 1
"""


def history() -> Dashboard:
    """The dashboard of results over time."""
    dashboard = frame(
        "history",
        "History",
        "Every VALID run of the chosen targets and workloads; runs under two classes of flags are two lines, and never "
        "held against each other. Marks show where an engine's version was seen first.",
        "now-90d",
        "5m",
    )
    for name, label, sql, several in VARIABLES:
        dashboard.with_variable(from_postgres(name, label, sql, several))
    dashboard.annotation(marks("Engine versions", VERSIONS, "purple"))
    dashboard.with_row(Row("Regressions")).with_panel(change()).with_panel(newest_change())
    dashboard.with_row(Row("Metrics"))
    for title, unit, metric, columns in SERIES:
        dashboard.with_panel(over_the_runs(title, unit, metric, columns))
    dashboard.with_panel(over_the_runs(*ENERGY, NEEDS_GPU, UNREAD)).with_panel(states())
    return dashboard


def over_the_runs(
    title: str, unit: str, metric: str, columns: tuple[str, ...], needs: str = "", no_data: str = NOTHING
) -> Made:
    formula = METRICS[metric].formula
    better = {"higher": "More is better.", "lower": "Less is better."}[METRICS[metric].direction]
    words = f"{formula[0].upper()}{formula[1:]}. {better} The mean where runs stand close. {needs}"
    about = About(title, unit, words.strip(), no_data)
    queries = []
    for ref, column in zip("ABC", columns, strict=False):
        name = f"{NAME} || ' {column.split('_')[1]}'" if len(columns) > 1 else NAME
        queries.append(
            Sql(
                f"""
SELECT $__timeGroup(ended_at, $__interval) AS time, avg({column}) AS value, {name} AS metric
FROM runs WHERE {COUNTS} AND {column} IS NOT NULL AND {ASKED}
GROUP BY 1, 3 ORDER BY 1""",
                "time_series",
                ref,
            )
        )
    return points(about, *queries)


_MEDIANS = """percentile_cont(0.5) WITHIN GROUP (ORDER BY output_tokens_per_s) AS output_tokens_per_s,
         percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_p50_s) AS ttft_p50_s"""
#: One row a job and cell: its median over repeats, or over starts the median of their bursts, as the API's cells have
#: it; and the mean of the medians of the five jobs before it. Over a long history it is quick because runs are read
#: once, only bursts of a start are folded (a sort for each run is slow), and the job, which tells most apart, is sorted
#: by first.
JOBS = f"""
WITH asked AS MATERIALIZED (
  SELECT engine, target, workload, flag_class, job_id, start_id, ended_at, output_tokens_per_s, ttft_p50_s
  FROM runs WHERE {COUNTS} AND {ASKED}
), samples AS (
  SELECT engine, target, workload, flag_class, job_id, ended_at, output_tokens_per_s, ttft_p50_s
  FROM asked WHERE start_id IS NULL
  UNION ALL
  SELECT engine, target, workload, flag_class, job_id, max(ended_at), {_MEDIANS}
  FROM asked WHERE start_id IS NOT NULL GROUP BY start_id, job_id, target, workload, engine, flag_class
), jobs AS (
  SELECT engine, target, workload, flag_class, job_id, max(ended_at) AS at,
         percentile_cont(0.5) WITHIN GROUP (ORDER BY output_tokens_per_s) AS rate,
         percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_p50_s) AS ttft
  FROM samples GROUP BY job_id, target, workload, engine, flag_class
), held AS (
  SELECT *, avg(rate) OVER before AS rate_before, avg(ttft) OVER before AS ttft_before,
         count(*) OVER before AS jobs_before,
         row_number() OVER (PARTITION BY target, workload, flag_class ORDER BY at DESC) AS age
  FROM jobs WINDOW before AS (PARTITION BY target, workload, flag_class ORDER BY at
                              ROWS BETWEEN {BEFORE} PRECEDING AND 1 PRECEDING)
)"""
WORSE_BELOW = ((0, "red"), (-CHANGE, "text"), (CHANGE, "green"))


def change() -> Made:
    about = About(
        "Output tokens per second against the five jobs before",
        "percentunit",
        "Each job's median (of its repeats or starts) over the mean of the medians of the five jobs before it, less "
        "one: below -5 % is red. A difference within a few per cent is not a finding; hold the two runs against each "
        "other at /v1/compare.",
        "No target with two jobs of the same workload in the chosen time.",
        WORSE_BELOW,
    )
    sql = f"""{JOBS}
SELECT at AS time, rate / rate_before - 1 AS value, {NAME} AS metric
FROM held WHERE jobs_before > 0 AND rate_before > 0 ORDER BY 1"""
    return points(about, Sql(sql, "time_series"))


def newest_change() -> Made:
    about = About(
        "Newest job of each target and workload against the five before",
        "percentunit",
        "Each class of flags by itself. The change of output tokens per second (red: slower by 5 % or more) and of the "
        "median time to first token (red: longer by 5 % or more).",
        "No target with two jobs of the same workload in the chosen time.",
        WORSE_BELOW,
    )
    sql = f"""{JOBS}
SELECT engine, target, workload, flag_class AS flags, at AS ended, jobs_before AS "jobs before",
       rate AS "output tokens/s", rate / nullif(rate_before, 0) - 1 AS "change of output tokens/s",
       ttft / nullif(ttft_before, 0) - 1 AS "change of TTFT p50"
FROM held WHERE age = 1 AND jobs_before > 0 ORDER BY 8"""
    units = {"output tokens/s": TOKENS_PER_S, "jobs before": "short", "ended": "dateTimeAsIso"}
    made = rows(about, Sql(sql), units=units)
    override(made, "byRegexp", "/^change/", custom__cellOptions={"type": "color-text"})
    longer_is_worse = [{"color": "green", "value": None}, {"color": "text", "value": -CHANGE}]
    longer_is_worse.append({"color": "red", "value": CHANGE})
    override(made, "byName", "change of TTFT p50", thresholds={"mode": "absolute", "steps": longer_is_worse})
    return made


def states() -> Made:
    about = About(
        "Share of runs that are VALID",
        "percentunit",
        "Of the runs with a result, per day. Runs that are not VALID are kept with their reasons and shown nowhere "
        "else here.",
        "No run with a result in the chosen time.",
        ((0, "red"), (0.8, "orange"), (0.95, "green")),
    )
    sql = f"""
SELECT $__timeGroup(ended_at, '1d') AS time, avg((validity = 'VALID')::int) AS value, {NAME} AS metric
FROM runs WHERE validity IS NOT NULL AND {ASKED} GROUP BY 1, 3 ORDER BY 1"""
    return lines(about, Sql(sql, "time_series"), steps=True)
