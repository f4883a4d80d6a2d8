"""What the demo shows, from what the service answers: the jobs' cells beside the published rows."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from bench_runner.measure.stats import Spread, spread

if TYPE_CHECKING:
    import httpx


def build_report(client: httpx.Client, job_ids: list[str]) -> dict[str, Any]:
    """Rows of the table, the published rows with their ratio, and the jobs they come from. Plain JSON types."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job_id in job_ids:
        for run in runs_of_job(client, job_id):
            cells.setdefault((run["target"], run["workload"]), []).append(run)
    rows = [_row(client, runs) for runs in cells.values()]
    references = _get(client, "/v1/references?table=mistral-7b-a100-engines")["items"]
    return {
        "jobs": job_ids,
        "rows": rows,
        "published": [_published(reference, rows) for reference in references],
    }


def is_good(report: dict[str, Any]) -> bool:
    """Every run completed without a failed request, and none is INVALID."""
    return all(
        row["completed"] == len(row["runs"]) and not row["failed"] and not row["invalid"] for row in report["rows"]
    )


def runs_of_job(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """All of them, page by page, first to last."""
    path = f"/v1/runs?job={job_id}&limit=200&sort=created_at"
    page = _get(client, path)
    runs: list[dict[str, Any]] = page["items"]
    while page["next"] is not None:
        page = _get(client, f"{path}&cursor={page['next']}")
        runs += page["items"]
    return runs


def reasons_of(client: httpx.Client, run: dict[str, Any]) -> list[tuple[str, str]]:
    """Code and words of what keeps a run from being VALID."""
    result = _get(client, f"/v1/runs/{run['id']}")["result"]
    reasons = result["validity"]["reasons"] if result else []
    return [(reason["code"], reason["message"]) for reason in reasons if reason["severity"] != "note"]


def _get(client: httpx.Client, path: str) -> Any:
    answer = client.get(path)
    answer.raise_for_status()
    return answer.json()


def _row(client: httpx.Client, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One target × workload: medians over its VALID runs; where none is, over all."""
    spec = _get(client, f"/v1/runs/{runs[0]['id']}")["spec"]
    first = runs[0]
    valid = [run for run in runs if run["validity"] == "VALID"]
    lost = [run for run in runs if run["validity"] != "VALID"]

    def over_runs(name: str) -> Spread | None:
        return spread([run["metrics"][name] for run in valid or runs if run["metrics"][name] is not None])

    def middle(name: str) -> float | None:
        found = over_runs(name)
        return found.median if found else None

    def total(name: str) -> int | None:
        found = middle(name)
        return None if found is None else round(found)

    speed = over_runs("output_tokens_per_s")
    return {
        "target": first["target"],
        "engine": first["engine"],
        "model": first["model"],
        "workload": first["workload"],
        "simulated": first["simulated"],
        "prompts": spec["workload"]["requests"],
        "max_tokens_per_prompt": spec["workload"]["output_tokens"]["tokens"],
        "total_input_tokens": total("total_input_tokens"),
        "total_output_tokens": total("total_output_tokens"),
        "input_tokens_per_s": middle("input_tokens_per_s"),
        "output_tokens_per_s": middle("output_tokens_per_s"),
        # Half the range over repeats; one repeat has no spread.
        "output_tokens_per_s_spread": (speed.max - speed.min) / 2 if speed and speed.n > 1 else None,
        "duration_s": middle("duration_s"),
        "failed": sum(sum((run["failures"] or {}).values()) for run in runs),
        "ttft_p50_s": middle("ttft_p50_s"),
        "ttft_p95_s": middle("ttft_p95_s"),
        "tpot_p50_s": middle("tpot_p50_s"),
        "roofline_ratio": middle("roofline_ratio"),
        # What the figures rest on.
        "validity": "VALID" if valid else runs[0]["validity"],
        "repeats": len(valid or runs),
        "completed": sum(run["status"] == "completed" for run in runs),
        "invalid": sum(run["validity"] == "INVALID" for run in runs),
        "left_out": [
            {"run": run["id"], "validity": run["validity"], "reasons": [words for _, words in reasons_of(client, run)]}
            for run in lost
        ],
        "runs": [run["id"] for run in runs],
    }


def _published(reference: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A published row, and the simulated run of the same engine, model and workload ÷ it; `None` without one."""
    keys = ("engine", "model", "workload")
    match = next((row for row in rows if all(row[key] == reference[key] for key in keys)), None)

    def ratio(name: str) -> float | None:
        return match[name] / reference[name] if match and match[name] and reference[name] else None

    return {
        **reference,
        "simulated_target": match["target"] if match else None,
        "simulated_duration_ratio": ratio("duration_s"),
        "simulated_output_tokens_per_s_ratio": ratio("output_tokens_per_s"),
    }


def print_demo(report: dict[str, Any], data: Path) -> None:
    """The tables, and where to look next."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        # A pipe has no width of its own; the tables need this much.
        console = Console(width=210)
    table = Table(title="Every row is SIMULATED: a model of the engine on an A100-80GB, not a measurement of one")
    for heading in (
        "engine", "model", "workload", "prompts", "max tokens\na prompt", "input\ntokens", "output\ntokens",
        "input\ntokens/s", "output\ntokens/s ± spread", "execution\ntime s", "failed", "TTFT p50\nms",
        "TTFT p95\nms", "TPOT p50\nms", "validity", "",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("engine", "model", "workload") else "right")
    for row in report["rows"]:
        spread = row["output_tokens_per_s_spread"]
        table.add_row(
            row["engine"],
            row["model"].rsplit("/", 1)[-1],
            row["workload"],
            _number(row["prompts"]),
            _number(row["max_tokens_per_prompt"]),
            _number(row["total_input_tokens"]),
            _number(row["total_output_tokens"]),
            _number(row["input_tokens_per_s"], 1),
            _number(row["output_tokens_per_s"], 1) + (f" ± {spread:.1f}" if spread is not None else ""),
            _number(row["duration_s"], 2),
            _number(row["failed"]),
            _number(row["ttft_p50_s"], 1, 1000),
            _number(row["ttft_p95_s"], 1, 1000),
            _number(row["tpot_p50_s"], 2, 1000),
            f"{row['validity'] or '-'} ({row['repeats']} of {len(row['runs'])})",
            "simulated" if row["simulated"] else "",
        )
    console.print(table)
    console.print(
        "Medians over the runs that are VALID; ± half their range (one run has none). TTFT of a burst is a place"
    )
    console.print("in one queue, so its percentiles describe this burst and claim nothing beyond it.")
    for row in report["rows"]:
        for left in row["left_out"]:
            words = "; ".join(left["reasons"]) or "it has no result"
            why = f"{row['target']} × {row['workload']}, run {left['run']}: {left['validity'] or 'failed'}: {words}"
            console.print(why, highlight=False, soft_wrap=True)
    console.print(_published_table(report["published"]))
    for note in sorted({row["note"] for row in report["published"] if row["note"]}):
        console.print(f"The published table says of itself: {note}.", highlight=False)
    console.print("\nWhere to look next:", highlight=False)
    database = f"sqlite:///{data}/enginebench.sqlite"
    console.print(f"  ENGINEBENCH_DATABASE_URL={database} {_program()} serve", highlight=False, soft_wrap=True)
    for job_id in report["jobs"]:
        console.print(f"  curl http://127.0.0.1:8700/v1/jobs/{job_id}", highlight=False, soft_wrap=True)
    console.print("  http://127.0.0.1:8700/docs   /v1/runs   /v1/references   /metrics", highlight=False)


def _program() -> str:
    """How this was started, where the bare name would not be found."""
    return "enginebench" if which("enginebench") else sys.argv[0]


def _published_table(published: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="Published, with their own workload; the ratio is the simulated run ÷ the published figure")
    for heading in (
        "engine", "model", "hardware", "prompts", "max tokens\na prompt", "input\ntokens", "output\ntokens",
        "input\ntokens/s", "output\ntokens/s", "execution\ntime s", "time\nratio", "output\ntokens/s ratio",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("engine", "model", "hardware") else "right")
    for row in published:
        table.add_row(
            row["engine"],
            row["model"].rsplit("/", 1)[-1],
            row["hardware"],
            _number(row["num_prompts"]),
            _number(row["max_tokens_per_prompt"]),
            _number(row["total_input_tokens"]),
            _number(row["total_output_tokens"]),
            _number(row["input_tokens_per_s"], 1),
            _number(row["output_tokens_per_s"], 1),
            _number(row["duration_s"], 2),
            _number(row["simulated_duration_ratio"], 3),
            _number(row["simulated_output_tokens_per_s_ratio"], 3),
        )
    return table


def _number(value: float | None, digits: int = 0, scale: float = 1) -> str:
    return "-" if value is None else f"{value * scale:,.{digits}f}"
