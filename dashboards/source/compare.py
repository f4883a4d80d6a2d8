"""Compare: engines on the same work, the newest job of each, like held against like."""

# ruff: noqa: S608 - every part of the SQL is ours, and Grafana quotes what a person chooses
from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from bench_runner.references.published import load_references
from dashboards.source.frame import frame, from_postgres
from dashboards.source.panels import NEEDS_GPU, PER_W, TOKENS_PER_S, About, Made, bars, curve, override, points, rows
from dashboards.source.queries import Sql

NOTHING = "No VALID run of this model, workload, hardware, precision and class of flags in the chosen time."
COARSE = "Windows under 30 s are short for how coarsely a card samples its power; such runs say so."
UNREAD = "No run whose cards were read: they are where the target states them and they are of the worker's host."
KIND = "CASE WHEN simulated THEN 'simulated' ELSE 'real' END"
#: A sweep's points are workloads of their own, "chat@concurrency=8", of one series.
WORK = "coalesce(series, workload)"

#: One row a run: of each target and piece of work, the newest job's VALID runs.
CHOSEN = f"""
WITH like_runs AS (
  SELECT runs.*, {KIND} AS kind, {WORK} AS work,
         engine || ' · ' || target || CASE WHEN simulated THEN ' (simulated)' ELSE '' END AS name,
         first_value(job_id) OVER (PARTITION BY engine, target, workload_digest ORDER BY ended_at DESC) AS newest
  FROM runs
  WHERE validity = 'VALID' AND excluded_at IS NULL AND $__timeFilter(ended_at) AND model IN (${{model:sqlstring}})
    AND {WORK} IN (${{workload:sqlstring}}) AND coalesce(hardware, 'unknown') IN (${{hardware:sqlstring}})
    AND coalesce(precision, 'unknown') IN (${{precision:sqlstring}}) AND {KIND} IN (${{kind:sqlstring}})
    AND flag_class IN (${{flags:sqlstring}})
), chosen AS (
  SELECT *, output_tokens_per_s_per_gpu AS per_gpu, tokens_per_s_per_user_p50 AS per_user,
         coalesce(point, concurrency) AS load
  FROM like_runs WHERE job_id = newest
)"""
#: What the samples of one cell have in common.
CELL = "name, workload, workload_digest, load"
FOLDED = "A start's value is the median of its bursts."


def samples(*columns: str) -> str:
    """SQL of CHOSEN and a table `samples`: one row a repeat, or a start of the engine, as the API's cells count them.

    `id` and `ended_at` are of one of its runs; a column is NULL where none of them gave it.

    Args:
        columns: of `chosen`, numbers; a start's value is the median of its bursts.
    """
    medians = ", ".join(f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {column}) AS {column}" for column in columns)
    return f"""{CHOSEN}, samples AS (
  SELECT {CELL}, min(id) AS id, max(ended_at) AS ended_at, {medians}
  FROM chosen GROUP BY {CELL}, coalesce(start_id, id)
)"""


def compare() -> Dashboard:
    """The dashboard that holds engines against each other."""
    dashboard = frame(
        "compare",
        "Compare",
        "Engines on the same work: VALID runs only, of each target the newest job. The variables hold everything else "
        "equal, the class of the engines' flags among it (as-shipped, where a target states none); the API's "
        "/v1/compare says what still differs.",
        "now-30d",
        "5m",
    )
    for name, label, sql, several in VARIABLES:
        dashboard.with_variable(from_postgres(name, label, sql, several))
    dashboard.with_row(Row("Throughput against interactivity"))
    dashboard.with_panel(throughput_interactivity())
    dashboard.with_row(Row("The same work, side by side"))
    for panel in (seed_table(), execution_time(), roofline(), energy(), per_watt()):
        dashboard.with_panel(panel)
    dashboard.with_row(Row("Held against published figures"))
    return dashboard.with_panel(against_published()).with_panel(published_table())


_FROM_LATEST = "FROM latest_runs l JOIN runs r ON r.id = l.run_id"
#: Name, label, query, several at once. What must be alike is chosen one at a time.
VARIABLES = (
    ("model", "Model", "SELECT DISTINCT model FROM latest_runs ORDER BY 1", False),
    ("workload", "Workload", f"SELECT DISTINCT coalesce(r.series, r.workload) {_FROM_LATEST} ORDER BY 1", False),
    ("hardware", "Hardware", f"SELECT DISTINCT coalesce(r.hardware, 'unknown') {_FROM_LATEST} ORDER BY 1", False),
    ("precision", "Precision", f"SELECT DISTINCT coalesce(r.precision, 'unknown') {_FROM_LATEST} ORDER BY 1", False),
    ("flags", "Flags", f"SELECT DISTINCT r.flag_class {_FROM_LATEST} ORDER BY 1", False),
    ("kind", "Real or simulated", f"SELECT DISTINCT {KIND} FROM latest_runs ORDER BY 1", False),
)


def throughput_interactivity() -> Made:
    about = About(
        "Output tokens per second per GPU against tokens per second per user",
        TOKENS_PER_S,
        "Up and to the right is better. A line a target, a point a concurrency: the mean over the repeats or starts of "
        "what one GPU gives, over what one reader sees (median request). Whiskers reach from the least to the most of "
        f"the repeats or starts, which are the small dots; hollow points are simulated. {FOLDED}",
        NOTHING,
        width=24,
        height=14,
    )
    x, y = "tokens/s per user", "output tokens/s per GPU"
    mean = f"""{samples("per_user", "per_gpu")}
SELECT name AS series, avg(per_user) AS "{x}", avg(per_gpu) AS "{y}"
FROM samples WHERE per_user IS NOT NULL GROUP BY name, workload_digest, load ORDER BY name, load"""
    repeats = f"""{samples("per_user", "per_gpu")}
SELECT name || ', repeats or starts' AS series, per_user AS "{x}", per_gpu AS "{y}"
FROM samples WHERE per_user IS NOT NULL ORDER BY name, load, ended_at"""
    made = curve(about, Sql(mean), Sql(repeats, ref="B"), Sql(whiskers(x, y), ref="C"), x=x, y=y, group="series")
    override(made, "byRegexp", r"/\(simulated\)/", custom__fillOpacity=0)
    grey = {"mode": "fixed", "fixedColor": "#8e8e8e"}
    unnamed = {"legend": True, "tooltip": False, "viz": False}
    dots = {"custom__show": "points", "custom__pointSize": {"fixed": 3}}
    override(made, "byRegexp", "/, repeats/", color=grey, custom__hideFrom=unnamed, **dots)
    bar = {"custom__show": "lines", "custom__lineWidth": 1}
    override(made, "byRegexp", "/, whisker/", color=grey, custom__hideFrom=unnamed, **bar)
    override(made, "byName", x, custom__axisLabel=x)
    return made


def whiskers(x: str, y: str) -> str:
    """SQL of two short lines a point, across and upright, from the least to the most of its repeats or starts.

    The XY chart has no error bars; each of these is a line of its own.
    """
    return f"""{samples("per_user", "per_gpu")}, spread AS (
  SELECT name, concat(workload_digest, ' ', load) AS cell,
         avg(per_user) AS mid_x, min(per_user) AS low_x, max(per_user) AS high_x,
         avg(per_gpu) AS mid_y, min(per_gpu) AS low_y, max(per_gpu) AS high_y
  FROM samples WHERE per_user IS NOT NULL GROUP BY name, workload_digest, load
)
SELECT name || ', whisker ' || cell || ' ' || way AS series, at_x AS "{x}", at_y AS "{y}"
FROM spread, LATERAL (VALUES ('across', low_x, mid_y), ('across', high_x, mid_y),
                             ('upright', mid_x, low_y), ('upright', mid_x, high_y)) AS ends(way, at_x, at_y)
ORDER BY 1, 2, 3"""


def seed_table() -> Made:
    about = About(
        "Engines side by side",
        "short",
        "The columns of the published tables, as the mean over the repeats or starts of the newest job, ± their "
        f"standard deviation. One has none. {FOLDED} Energy is that of the target's cards, where they are read.",
        NOTHING,
        width=24,
    )
    spread = [("input_tokens_per_s", "input tokens/s"), ("output_tokens_per_s", "output tokens/s")]
    spread += [("duration_s", "execution time"), ("ttft_p50_s", "TTFT p50"), ("tpot_p50_s", "TPOT p50")]
    columns = ", ".join(f'avg({column}) AS "{label}", stddev_samp({column}) AS "{label} ±"' for column, label in spread)
    totals = ("requests", "total_input_tokens", "total_output_tokens")
    ratios = ("roofline_ratio", "joules_per_output_token", "output_tokens_per_s_per_w")
    sql = f"""{samples(*totals, *(column for column, _ in spread), *ratios)}
SELECT name AS "engine · target", workload, count(*) AS "repeats or starts", max(requests) AS "num prompts",
       max(d.spec #>> '{{workload,output_tokens,tokens}}') AS "max tokens per prompt",
       avg(total_input_tokens) AS "total input tokens",
       avg(total_output_tokens) AS "total output tokens", {columns}, avg(roofline_ratio) AS "roofline ratio",
       avg(joules_per_output_token) AS "J per output token",
       avg(output_tokens_per_s_per_w) AS "output tokens/s per W"
FROM samples JOIN documents d ON d.run_id = samples.id
GROUP BY name, workload, workload_digest ORDER BY name, min(load), workload"""
    units = {label: TOKENS_PER_S if column.endswith("tokens_per_s") else "s" for column, label in spread}
    units |= {f"{label} ±": unit for label, unit in units.items()} | {"roofline ratio": "percentunit"}
    units |= {"J per output token": "joule", "output tokens/s per W": PER_W}
    return rows(about, Sql(sql), units=units)


def execution_time() -> Made:
    about = About(
        "Execution time",
        "s",
        "First request sent to last token: the mean over the repeats or starts, with the quickest and the slowest. "
        f"{FOLDED}",
        NOTHING,
    )
    sql = f"""{samples("duration_s")}
SELECT name || ' ' || workload AS target, min(duration_s) AS quickest, avg(duration_s) AS mean,
       max(duration_s) AS slowest
FROM samples GROUP BY name, workload ORDER BY name, min(load), workload"""
    return bars(about, Sql(sql), "target")


def roofline() -> Made:
    about = About(
        "Roofline ratio",
        "percentunit",
        "Least time the hardware allows for the work over the time taken: the share of what is possible at all. Of a "
        "simulated engine it is an input, not a finding. Empty where model or hardware is not known.",
        "No run with a model and hardware that are known.",
    )
    sql = f"""{samples("roofline_ratio")}
SELECT name || ' ' || workload AS target, avg(roofline_ratio) AS "of the possible"
FROM samples WHERE roofline_ratio IS NOT NULL GROUP BY name, workload ORDER BY name, min(load), workload"""
    return bars(about, Sql(sql), "target")


def energy() -> Made:
    about = About(
        "Energy of an output token",
        "joule",
        "What the target's cards drew over the window for each output token of a successful request, without the rest "
        f"of their host: the mean over the repeats or starts, with the least and the most. {COARSE} {NEEDS_GPU}",
        UNREAD,
    )
    sql = f"""{samples("joules_per_output_token")}
SELECT name || ' ' || workload AS target, min(joules_per_output_token) AS least, avg(joules_per_output_token) AS mean,
       max(joules_per_output_token) AS most
FROM samples WHERE joules_per_output_token IS NOT NULL GROUP BY name, workload ORDER BY 1"""
    return bars(about, Sql(sql), "target")


def per_watt() -> Made:
    about = About(
        "Output tokens per second per watt",
        PER_W,
        "A token a second for a watt of the target's cards is a token for a joule: the mean over the repeats or "
        f"starts. {COARSE} {NEEDS_GPU}",
        UNREAD,
    )
    sql = f"""{samples("output_tokens_per_s_per_w")}
SELECT name || ' ' || workload AS target, avg(output_tokens_per_s_per_w) AS mean
FROM samples WHERE output_tokens_per_s_per_w IS NOT NULL GROUP BY name, workload ORDER BY 1"""
    return bars(about, Sql(sql), "target")


def against_published() -> Made:
    about = About(
        "Output tokens per second of each run, with the published figures as lines",
        TOKENS_PER_S,
        "A point a VALID run. The dashed lines are what was published for the same model: see beside it for which "
        "work, hardware and precision, which seldom are all the same.",
        NOTHING,
    )
    runs = f"""{CHOSEN}
SELECT ended_at AS time, output_tokens_per_s AS value, name AS metric FROM chosen ORDER BY ended_at"""
    lines = f"""{published_rows()}
SELECT moment AS time, rate AS value, 'published: ' || engine || ' ' || coalesce(label, '') AS metric
FROM published, (VALUES ($__timeFrom()::timestamptz), ($__timeTo()::timestamptz)) AS t(moment)
WHERE model IN (${{model:sqlstring}}) ORDER BY 1"""
    made = points(about, Sql(runs, "time_series"), Sql(lines, "time_series", "B"))
    dashed = {"fill": "dash", "dash": [10, 10]}
    override(made, "byRegexp", "/published/", custom__lineStyle=dashed, custom__showPoints="never")
    return made


def published_table() -> Made:
    about = About(
        "Published figures",
        "short",
        "What others have published for this model, as their tables have it. Their own inconsistencies are told at "
        "/v1/references.",
        "Nothing published is known for this model.",
    )
    sql = f"""{published_rows()}
SELECT engine, hardware, precision, workload, label AS work, input_rate AS "input tokens/s",
       rate AS "output tokens/s", duration_s AS "execution time", source
FROM published WHERE model IN (${{model:sqlstring}}) ORDER BY engine, precision, rate DESC"""
    units = {"input tokens/s": TOKENS_PER_S, "output tokens/s": TOKENS_PER_S, "execution time": "s"}
    return rows(about, Sql(sql), units=units)


def published_rows() -> str:
    """A table `published` of the figures that this version knows."""
    values = ",\n  ".join(
        "({})".format(
            ", ".join(
                _literal(value)
                for value in (
                    row.engine,
                    row.model,
                    row.hardware,
                    row.precision,
                    row.workload,
                    None if row.input_tokens_per_prompt is None else f"{row.input_tokens_per_prompt} tokens in",
                    row.input_tokens_per_s,
                    row.output_tokens_per_s,
                    row.duration_s,
                    row.source,
                )
            )
        )
        for row in load_references()
    )
    columns = "engine, model, hardware, precision, workload, label, input_rate, rate, duration_s, source"
    return f"WITH published ({columns}) AS (VALUES\n  {values}\n)"


def _literal(value: str | float | None) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return "'{}'".format(value.replace("'", "''"))
        case _:
            return f"{value}::float8"
