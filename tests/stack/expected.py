"""What each panel must show of the test's two jobs: by dashboard and title, a check of its queries' answers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

from tests.stack.answers import Answer, Check, Facts, Series

#: Of a counter's rates over ten seconds, summed second by second, against the count itself.
ROUGHLY = 0.3


def close(found: float, wanted: float) -> bool:
    return isclose(found, wanted, rel_tol=1e-6)


def values_of(answer: Answer) -> list[float]:
    return [value for series in answer for value in series.values]


def highest(least: float, most: float = float("inf"), ref: str = "A") -> Check:
    """The highest value lies in there."""

    def check(answers: Mapping[str, Answer], _: Facts) -> None:
        assert least <= max(values_of(answers[ref])) <= most, max(values_of(answers[ref]))

    return check


def lowest_and_highest(lowest: float, top: float) -> Check:
    def check(answers: Mapping[str, Answer], _: Facts) -> None:
        found = values_of(answers["A"])
        assert (min(found), max(found)) == (lowest, top)

    return check


def labels(*names: str, engines: tuple[str, ...] = ("tgi", "vllm")) -> Check:
    """Every series of every query is of one of the jobs' runs, and each of these engines has one."""

    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        for ref, answer in answers.items():
            for name in names:
                there = {series.labels[name] for series in answer}
                assert there <= facts.all_of(name), (ref, name, there)
            assert {series.labels["engine"] for series in answer} == set(engines), ref

    return check


def both(*checks: Check) -> Check:
    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        for one in checks:
            one(answers, facts)

    return check


def in_engine(highest_value: Check, *engines: str) -> Check:
    """Series of the recording rules: the engines of the jobs under the names of the scrape."""

    def instances(answers: Mapping[str, Answer], facts: Facts) -> None:
        for series in answers["A"]:
            assert series.labels["instance"] == facts.instances[series.labels["engine"]]
            assert series.labels["simulated"] == "true"

    return both(labels("model", engines=engines or ("tgi", "vllm")), instances, highest_value)


def counted(metric: str) -> Check:
    """The rates, summed over the seconds, are what the jobs' runs counted in all."""

    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        for series in answers["A"]:
            runs = [run["metrics"][metric] for run in facts.runs if run["engine"] == series.labels["engine"]]
            assert isclose(sum(series.values), sum(runs), rel_tol=ROUGHLY), (
                series.labels,
                sum(series.values),
                sum(runs),
            )

    return check


def newest_results(answers: Mapping[str, Answer], facts: Facts) -> None:
    shown = {(s.labels["target"], s.labels["workload"]): s.values[-1] for s in answers["A"]}
    assert shown.keys() == facts.last().keys()
    for cell, run in facts.last().items():
        assert close(shown[cell], run["metrics"]["output_tokens_per_s"]), cell


def curve(answers: Mapping[str, Answer], facts: Facts) -> None:
    """A line a target in the order of concurrency: faster in all, slower for each; a dot a repeat."""
    x, y = "tokens/s per user", "output tokens/s per GPU"
    newest = [run for run in facts.runs if run["job_id"] == facts.newest]
    assert len(answers["B"]) == len(newest)
    assert {row["series"] for row in answers["B"]} == {f"{row['series']}, repeats or starts" for row in answers["A"]}
    # Each point has a line across and one upright, through it and as long as its repeats are apart.
    assert len(answers["C"]) == 4 * len(answers["A"])
    for point in answers["A"]:
        own = [row for row in answers["C"] if row["series"].startswith(f"{point['series']}, whisker")]
        dots = [row for row in answers["B"] if row["series"] == f"{point['series']}, repeats or starts"]
        for along, other, way in ((x, y, "across"), (y, x, "upright")):
            ends = [r[along] for r in own if r["series"].endswith(way) and close(r[other], point[other])]
            assert len(ends) == 2, (point, way)
            low, high = sorted(ends)
            assert low * (1 - 1e-9) <= point[along] <= high * (1 + 1e-9), (point, way)
            assert {*ends} <= {row[along] for row in dots}
    for run in facts.last().values():
        name = f"{run['engine']} · {run['target']} (simulated)"
        line = [row for row in answers["A"] if row["series"] == name]
        assert len(line) == len(facts.all_of("workload"))
        assert line[0][y] < line[-1][y]
        points = [
            facts.mean("output_tokens_per_s", target=run["target"], workload=w)
            for w in sorted(facts.all_of("workload"))
        ]
        assert all(close(row[y], rate) for row, rate in zip(line, points, strict=True)), (line, points)
        users = [
            1 / facts.mean("tpot_p50_s", target=run["target"], workload=w) for w in sorted(facts.all_of("workload"))
        ]
        assert all(isclose(row[x], user, rel_tol=0.1) for row, user in zip(line, users, strict=True)), (line, users)


def side_by_side(answers: Mapping[str, Answer], facts: Facts) -> None:
    assert len(answers["A"]) == len(facts.last())
    for row in answers["A"]:
        engine, target = row["engine · target"].removesuffix(" (simulated)").split(" · ")
        where = {"engine": engine, "target": target, "workload": row["workload"]}
        assert row["repeats or starts"] == 2
        for metric, column in {
            "input_tokens_per_s": "input tokens/s",
            "output_tokens_per_s": "output tokens/s",
            "duration_s": "execution time",
            "total_output_tokens": "total output tokens",
            "ttft_p50_s": "TTFT p50",
            "tpot_p50_s": "TPOT p50",
            "roofline_ratio": "roofline ratio",
        }.items():
            assert close(float(row[column]), facts.mean(metric, **where)), (where, column)
        assert row["output tokens/s ±"] > 0
        assert row["max tokens per prompt"] == "48"


def bars(metric: str, column: str) -> Check:
    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        shown = {row["target"]: row[column] for row in answers["A"]}
        for run in facts.last().values():
            where = {"target": run["target"], "workload": run["workload"]}
            name = f"{run['engine']} · {run['target']} (simulated) {run['workload']}"
            assert close(shown[name], facts.mean(metric, **where)), name

    return check


def against_published(answers: Mapping[str, Answer], facts: Facts) -> None:
    newest = sorted(run["metrics"]["output_tokens_per_s"] for run in facts.runs if run["job_id"] == facts.newest)
    assert sorted(row["value"] for row in answers["A"]) == newest
    # Twice each: from one end of the time range to the other.
    lines = {row["metric"].strip(): row["value"] for row in answers["B"]}
    assert lines["published: vllm"] == 1816.49
    assert lines["published: bud"] == 2621.05
    assert len({row["time"] for row in answers["B"]}) == 2


def published(answers: Mapping[str, Answer], _: Facts) -> None:
    found = {row["engine"]: row["execution time"] for row in answers["A"]}
    assert (found["vllm"], found["tgi"], found["bud"]) == (7.05, 6.91, 4.88)


def history(*columns: str) -> Check:
    """The runs' values, each at its moment; two that ended within a second are one point."""

    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        for ref, column in zip("ABC", columns, strict=False):
            wanted = [run["metrics"][column] for run in facts.runs]
            shown = [row["value"] for row in answers[ref]]
            assert len(shown) == len(wanted)
            assert all(close(a, b) for a, b in zip(sorted(shown), sorted(wanted), strict=True)), column
            told = {row["metric"] for row in answers[ref]}
            names = {f"{run['engine']} · {run['target']} · {run['workload']} · as-shipped" for run in facts.runs}
            assert {name.removesuffix(f" {column.split('_')[1]}") for name in told} == names

    return check


def change(answers: Mapping[str, Answer], facts: Facts) -> None:
    """The second job against the first."""
    assert {row["metric"].split(" · ")[2] for row in answers["A"]} == facts.all_of("workload")
    assert len(answers["A"]) == len(facts.last())
    assert all(abs(row["value"]) < 0.5 for row in answers["A"])


def newest_change(answers: Mapping[str, Answer], facts: Facts) -> None:
    assert {(row["target"], row["workload"]) for row in answers["A"]} == set(facts.last())
    for row in answers["A"]:
        where = {"target": row["target"], "workload": row["workload"]}
        assert (row["flags"], row["jobs before"]) == ("as-shipped", 1)
        # Of two repeats the median is the mean.
        assert close(row["output tokens/s"], facts.mean("output_tokens_per_s", **where))
        (first,) = [
            run["metrics"]["output_tokens_per_s"]
            for run in facts.runs
            if run["job_id"] != facts.newest and all(run[k] == v for k, v in where.items())
        ]
        assert close(row["change of output tokens/s"], row["output tokens/s"] / first - 1)


def shares(answers: Mapping[str, Answer], facts: Facts) -> None:
    assert len({row["metric"] for row in answers["A"]}) == len(facts.last())
    assert {float(row["value"]) for row in answers["A"]} == {1.0}


def versions(answers: Mapping[str, Answer], _: Facts) -> None:
    assert {row["text"] for row in answers["Anno"]} == {"vllm 0.32.0 on v", "tgi 3.3.5 on t"}


def telemetry(*names: str) -> Check:
    def check(answers: Mapping[str, Answer], _: Facts) -> None:
        rows = answers["A"]
        assert len(rows) >= 3
        assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
        assert 0 <= rows[0]["seconds"] < rows[-1]["seconds"] < 30
        for name in names:
            assert max(row[name] for row in rows) > 0, name

    return check


def of_vllm(*names: str) -> Check:
    """Of the newest run of vLLM, which tells them; TGI does not (`VLLM_ALONE`)."""

    def check(answers: Mapping[str, Answer], _: Facts) -> None:
        rows = answers["A"]
        assert len(rows) >= 3
        for name in names:
            assert all(row[name] >= 0 for row in rows), name

    return check


def servers_own(answers: Mapping[str, Answer], facts: Facts) -> None:
    """Of the newest run of vLLM: as many requests as it had, in the server's eyes and in the client's."""
    (row,) = answers["A"]
    run = facts.newest_of("vllm")
    assert (row["engine"], row["requests"]) == ("vllm", run["metrics"]["successes"])
    assert 0 <= row["queue time mean"] < row["TTFT mean, server"] < row["TTFT mean, client"] < 1
    assert 0 < row["KV cache, mean"] <= row["KV cache, most"] < 1
    assert row["preemptions"] == 0


def leases(answers: Mapping[str, Answer], facts: Facts) -> None:
    for row in answers["A"]:
        assert row["target"] in facts.all_of("target")
        assert row["workload"] in facts.all_of("workload")
        assert 0 < row["holds for"] <= 30


def attempts(answers: Mapping[str, Answer], facts: Facts) -> None:
    assert {row["ended"]: row["attempts"] for row in answers["A"]} == {"result": len(facts.runs)}


def states(answers: Mapping[str, Answer], facts: Facts) -> None:
    last = {series.labels["state"]: series.values[-1] for series in answers["A"]}
    assert last == {"completed": len(facts.runs), "failed": 0, "cancelled": 0, "running": 0, "queued": 0}


def finished(answers: Mapping[str, Answer], facts: Facts) -> None:
    last = {series.labels["state"]: series.values[-1] for series in answers["A"]}
    assert last == {"completed": len(facts.runs), "failed": 0}


def http_rate(answers: Mapping[str, Answer], _: Facts) -> None:
    routes = {(s.labels["method"], s.labels["route"], s.labels["status"]): max(s.values) for s in answers["A"]}
    assert routes["GET", "/v1/jobs/{job_id}", "200"] > 0
    assert routes["GET", "/metrics", "200"] > 0


def by_route(answers: Mapping[str, Answer], _: Facts) -> None:
    shown = {(series.labels["method"], series.labels["route"]) for series in answers["A"]}
    assert ("POST", "/v1/jobs") in shown
    assert 0 < max(values_of(answers["A"])) < 10


def tables(answers: Mapping[str, Answer], _: Facts) -> None:
    sizes = {row["table"]: row["size"] for row in answers["A"]}
    assert sizes["runs"] > 0
    assert sizes["records"] > 0


def one_row(column: str, least: float) -> Check:
    def check(answers: Mapping[str, Answer], _: Facts) -> None:
        (row,) = answers["A"]
        assert row[column] >= least

    return check


def scraped(least: float, most: float) -> Check:
    """One series a target, engines under their names."""

    def check(answers: Mapping[str, Answer], facts: Facts) -> None:
        jobs: dict[str, list[Series]] = {}
        for series in answers["A"]:
            jobs.setdefault(series.labels["job"], []).append(series)
        assert set(jobs) == {"enginebench", "engines", "prometheus"}
        assert {series.labels["instance"] for series in jobs["engines"]} == set(facts.instances.values())
        assert least <= min(values_of(answers["A"])) <= max(values_of(answers["A"])) <= most

    return check


RESULT = ("engine", "model", "target", "workload")

EXPECTED: dict[tuple[str, str], Check] = {
    ("live", "Runs under way"): highest(1, 1),
    ("live", "Runs that wait"): highest(1),
    ("live", "Workers at work"): both(highest(1, 1), highest(1, 1, "B")),
    ("live", "Failed requests so far"): both(labels("engine"), lowest_and_highest(0, 0)),
    ("live", "Progress"): both(labels(*RESULT), highest(0.01, 1)),
    ("live", "Requests finished"): both(labels(*RESULT), highest(1, 24)),
    ("live", "Output tokens per second"): in_engine(counted("total_output_tokens")),
    ("live", "Time to first token, as the server sees it"): in_engine(highest(0.001, 1), "vllm"),
    ("live", "Time between tokens (ITL), as the server sees it"): in_engine(highest(0.001, 1), "vllm"),
    ("live", "Queue time, as the server has it"): in_engine(highest(1e-7, 1)),
    ("live", "Time per output token, as the server sees it"): in_engine(highest(0.001, 1)),
    ("live", "Requests in the engine"): in_engine(highest(2, 6)),
    ("live", "Newest VALID result of each target and workload"): both(labels(*RESULT), newest_results),
    ("compare", "Output tokens per second per GPU against tokens per second per user"): curve,
    ("compare", "Engines side by side"): side_by_side,
    ("compare", "Execution time"): bars("duration_s", "mean"),
    ("compare", "Roofline ratio"): bars("roofline_ratio", "of the possible"),
    ("compare", "Output tokens per second of each run, with the published figures as lines"): against_published,
    ("compare", "Published figures"): published,
    ("history", "Output tokens per second against the five jobs before"): change,
    ("history", "Newest job of each target and workload against the five before"): newest_change,
    ("history", "Output tokens per second"): history("output_tokens_per_s"),
    ("history", "Input and output tokens per second"): history("total_tokens_per_s"),
    ("history", "Time to first token"): history("ttft_p50_s", "ttft_p95_s", "ttft_p99_s"),
    ("history", "Time per output token"): history("tpot_p50_s", "tpot_p95_s", "tpot_p99_s"),
    ("history", "End-to-end latency"): history("e2e_p50_s", "e2e_p95_s", "e2e_p99_s"),
    ("history", "Execution time"): history("duration_s"),
    ("history", "Roofline ratio"): history("roofline_ratio"),
    ("history", "Share of runs that are VALID"): shares,
    ("history", "annotation Engine versions"): versions,
    ("engine-internals", "Running requests"): in_engine(highest(2, 6)),
    ("engine-internals", "Waiting requests"): in_engine(highest(0, 6)),
    ("engine-internals", "Successful requests per second"): in_engine(counted("successes")),
    ("engine-internals", "Preemptions per second"): in_engine(highest(0, 0), "vllm"),
    ("engine-internals", "Prompt tokens per second"): in_engine(counted("total_input_tokens")),
    ("engine-internals", "Generated tokens per second"): in_engine(counted("total_output_tokens")),
    ("engine-internals", "KV cache in use"): in_engine(highest(1e-6, 1), "vllm"),
    ("engine-internals", "Prompt tokens served from the prefix cache"): in_engine(highest(0, 0.5), "vllm"),
    ("engine-internals", "Time to first token"): in_engine(highest(0.001, 1), "vllm"),
    ("engine-internals", "Time between tokens"): in_engine(highest(0.001, 1), "vllm"),
    ("engine-internals", "Queue time"): in_engine(highest(1e-7, 1)),
    ("engine-internals", "Time per output token"): in_engine(highest(0.001, 1)),
    ("engine-internals", "Request duration"): in_engine(highest(0.1, 5)),
    ("engine-internals", "The run in the server's own figures, beside the client's"): servers_own,
    ("engine-internals", "KV cache in use during the run"): of_vllm("kv_cache_usage_ratio"),
    ("engine-internals", "Preemptions and prefix-cache hits during the run"): of_vllm(
        "preemptions_total", "prefix_cache_hits_total"
    ),
    ("engine-internals", "Requests in the engine during the run"): telemetry("requests_running"),
    ("engine-internals", "Tokens counted by the engine during the run"): telemetry("generation_tokens_total"),
    ("service-health", "Runs that wait"): highest(1),
    ("service-health", "Runs by state"): states,
    ("service-health", "Workers"): both(highest(1, 1), highest(1, 1, "B")),
    ("service-health", "Runs of the last 15 minutes"): finished,
    ("service-health", "Attempts by worker"): attempts,
    ("service-health", "Requests"): http_rate,
    ("service-health", "Share answered with 5xx"): lowest_and_highest(0, 0),
    ("service-health", "Answer time"): both(highest(1e-6, 10), highest(1e-6, 10, "B")),
    ("service-health", "Mean answer time by route"): by_route,
    ("service-health", "Database answers"): lowest_and_highest(1, 1),
    ("service-health", "Label sets left out"): lowest_and_highest(0, 0),
    ("service-health", "Size of the database"): one_row("size", 1_000_000),
    ("service-health", "Connections"): one_row("open", 1),
    ("service-health", "Tables"): tables,
    ("service-health", "Scrape targets"): scraped(1, 1),
    ("service-health", "Time a scrape takes"): scraped(0, 10),
    ("service-health", "Samples of a scrape"): scraped(1, 10_000),
}

#: Empty but while a run is under way: asked then, and again until it was caught.
WHILE_RUNNING: dict[tuple[str, str], Any] = {("service-health", "Leases"): leases}

#: Of a run on TGI these have no row, and so say that the engine does not tell.
VLLM_ALONE = frozenset(
    {
        ("engine-internals", "KV cache in use during the run"),
        ("engine-internals", "Preemptions and prefix-cache hits during the run"),
    }
)
