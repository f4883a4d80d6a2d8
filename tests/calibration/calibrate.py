"""`make calibrate`: the client's records against known truth at rising load, up to where it fails.

Prints tables, writes `calibration.json` and `calibration.png`.

Two servers know the truth: the simulated engine, whose queue and steps make latencies rise as a real one's do, and the
replay server, which gives any number of streams a first token after 200 ms and one every 20 ms. Both share this host's
cores with the client, so the tables show what the client is worth *here*, beside such a server. Two trials are real
runs from the command line: over TLS, and beside a process that burns the client's core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench_runner.calibration import Conditions, replay
from bench_runner.load.contract import RunControl, SocketPolicy
from bench_runner.measure.excerpt import Excerpt, ExcerptRequest
from engines.clock import utc_now
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.calibration.bars import MOST_EVENT_ERROR_S, MOST_TTFT_ERROR_S
from tests.calibration.machine import describe_machine
from tests.calibration.trials import hogged_trial, tls_trial
from tests.calibration.truth import drive_simulated, join, middle_and_tail

STREAMS = (1, 10, 50, 100, 200, 400)
REPLAYED = (100, 500, 1_000, 2_000, 3_000, 4_000)
#: of the replayed streams
TTFT_NS, ITL_NS, TOKENS = 200_000_000, 20_000_000, 128
#: streams of the trials
TRIED = 500
#: each step is done so often; the median of each figure is shown
REPEATS = 3
#: The truth log must hold every request of a step.
KEEP = 10_000


def simulated_step(server: SimulatedServer, streams: int) -> dict[str, Any]:
    """One burst against the simulated engine."""
    seen = len(server.truth())
    outcome = drive_simulated(server, requests=streams)
    pairs = join(outcome.records, server.truth(since=seen))
    ttft_p50_s, ttft_p99_s = middle_and_tail([pair.ttft_error_s for pair in pairs])
    event_p50_s, event_p99_s = middle_and_tail([e for pair in pairs for e in pair.token_errors_s])
    return {
        "streams": streams,
        "true_ttft_p50_s": middle_and_tail([pair.true_ttft_s for pair in pairs])[0],
        "ttft_p50_s": outcome.result.summary["ttft_s"]["p50"],
        "ttft_error_p50_s": ttft_p50_s,
        "ttft_error_p99_s": ttft_p99_s,
        "event_error_p50_s": event_p50_s,
        "event_error_p99_s": event_p99_s,
        "true_tokens": sum(pair.truth["generated_tokens"] for pair in pairs),
        "tokens": outcome.result.summary["total_output_tokens"],
        "client_lag_max_s": max(record.client_lag_s or 0.0 for record in outcome.records),
        "validity": str(outcome.result.validity.state),
    }


def replayed_step(streams: int, folder: Path) -> dict[str, Any]:
    """The same token timeline for any number of streams at once, several times over."""
    offsets_ns = tuple(TTFT_NS + ITL_NS * k for k in range(TOKENS))
    excerpt = Excerpt(offsets_ns[-1], (ExcerptRequest(0, offsets_ns, 600),) * streams)
    conditions = Conditions(excerpt.span_ns / 1e9, None, SocketPolicy(True, False), 1, 250, folder)
    found = [asdict(replay(excerpt, conditions, RunControl())) for _ in range(REPEATS)]

    def middle(*path: str) -> float:
        return median(float(each[path[0]] if len(path) == 1 else each[path[0]][path[1]]) for each in found)

    row = {
        "streams": streams,
        "tokens_share": middle("events") / (streams * TOKENS),
        "ttft_bias_s": middle("ttft", "bias_s"),
        "ttft_error_p99_s": middle("ttft", "noise_floor_s"),
        "event_error_p99_s": middle("event", "noise_floor_s"),
        "event_gap_error_p99_s": middle("event_gap", "noise_floor_s"),
        "server_late_p99_s": middle("server_late_p99_s"),
        "client_lag_p99_s": middle("client_lag_p99_s") if found[0]["client_lag_p99_s"] is not None else None,
        "event_clock": found[0]["event_clock"],
    }
    worst_event_s = max(row["event_error_p99_s"], row["event_gap_error_p99_s"])
    exact = row["ttft_error_p99_s"] <= MOST_TTFT_ERROR_S and worst_event_s <= MOST_EVENT_ERROR_S
    return row | {"holds": exact and row["tokens_share"] == 1.0, "repeats": found}


_REPLAYED_TIMES = (
    "ttft_bias_s",
    "ttft_error_p99_s",
    "event_error_p99_s",
    "event_gap_error_p99_s",
    "server_late_p99_s",
    "client_lag_p99_s",
)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3f}"


def simulated_table(rows: list[dict[str, Any]]) -> Table:
    """Against the simulated engine."""
    table = Table(title="Error of the records against the truth (burst, 128 in / 128 out, simulated vLLM), ms")
    for heading in ("streams", "TTFT p50 true", "TTFT p50", "TTFT error p50", "TTFT error p99", "event error p50",
                    "event error p99", "tokens true", "tokens", "client lag max", "validity"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        times = [_ms(row[name]) for name in ("true_ttft_p50_s", "ttft_p50_s", "ttft_error_p50_s", "ttft_error_p99_s",
                                             "event_error_p50_s", "event_error_p99_s")]  # fmt: skip
        counts = [str(row["true_tokens"]), str(row["tokens"])]
        table.add_row(str(row["streams"]), *times, *counts, _ms(row["client_lag_max_s"]), row["validity"])
    return table


def replayed_table(rows: list[dict[str, Any]]) -> Table:
    """Against the replay server."""
    table = Table(title=f"Error at rising load (TTFT 200 ms, a token every 20 ms, medians of {REPEATS}), ms")
    for heading in ("streams", "TTFT bias", "TTFT error p99", "event error p99", "gap error p99", "server late p99",
                    "client lag p99", "tokens", "holds"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        times = [_ms(row[name]) for name in _REPLAYED_TIMES]
        table.add_row(str(row["streams"]), *times, f"{row['tokens_share']:.0%}", "yes" if row["holds"] else "no")
    return table


def trial_table(trials: dict[str, dict[str, Any]]) -> Table:
    """Over TLS, and beside a core hog."""
    table = Table(title=f"Real runs of {TRIED} streams (TTFT 200 ms, a token every 20 ms, medians of {REPEATS}), ms")
    for heading in ("trial", "TTFT error p50", "TTFT error p99", "gap error p99", "send spread", "validity", "holds"):
        table.add_column(heading, justify="right")
    names = ("ttft_error_p50_s", "ttft_error_p99_s", "gap_error_p99_s", "send_spread_s")
    for name, row in trials.items():
        said = ", ".join([*row.get("validity", ()), *row.get("reasons", ())])
        table.add_row(name, *(_ms(row[n]) for n in names), said or "–", "yes" if row["holds"] else "no")
    return table


def main(argv: list[str]) -> int:
    """Print the tables, write the JSON; 1 where a step lost a request or a token of the simulated engine."""
    parser = argparse.ArgumentParser(description="The client against known truth, at rising load.")
    parser.add_argument("--out", type=Path, default=Path("calibration-out"), metavar="FOLDER")
    out: Path = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)
    machine = describe_machine()
    with simulated_engine("vllm-mistral-7b", truth_keep=KEEP) as server:
        simulated = [simulated_step(server, streams) for streams in STREAMS]
    console.print(simulated_table(simulated))
    replayed = []
    with tempfile.TemporaryDirectory() as folder:
        for streams in REPLAYED:
            replayed.append(replayed_step(streams, Path(folder)))
            if len(replayed) > 1 and not any(row["holds"] for row in replayed[-2:]):
                break  # one step that failed may be the machine's own doing, two in a row are the ceiling
    console.print(replayed_table(replayed))
    tls, hogged = tls_trial(TRIED, REPEATS), hogged_trial(TRIED, REPEATS)
    console.print(trial_table({"over TLS": tls, "beside a core hog": hogged}))
    result = {
        "at": utc_now().isoformat(),
        "machine": machine,
        "simulated": simulated,
        "replayed": replayed,
        "tls": tls,
        "hogged": hogged,
    }
    (out / "calibration.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    from tests.calibration.pictures import draw_calibration  # not loaded beside what is measured

    picture = draw_calibration(result, out / "calibration.png")
    console.print(f"written: {out / 'calibration.json'}, {picture}")
    return 0 if all(row["tokens"] == row["true_tokens"] == row["streams"] * 128 for row in simulated) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
