"""`make bench-client`: what our client costs and how far off it is, beside plain httpx and aiohttp in the same run.

Every client drives the same server with the same load, one after the other, the server held to one core and the
client to another where there are two. The server is the project's replay of known answers, one token a write; with
`--truthd` and `--cclient` other programs that a person has, which mark what the kernel and one core allow. Prints
tables, writes `bench-client.json` and `bench-client.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from rich.console import Console

from engines.clock import utc_now
from tests.calibration.bench_tables import print_tables
from tests.calibration.figures import join, kept, precision, punctuality
from tests.calibration.known_server import KnownServer, Pace, known_server
from tests.calibration.machine import describe_machine, split_cores
from tests.calibration.side_by_side import Load, Place, Row, carry_out, drive_alone

FULL_SPEED, PACED, SHORT = Pace(0, 0), Pace(200, 20), Pace(20, 5, tokens=8)
COST = Load(requests=2_000, concurrency=100)
STREAMS = (100, 1_000)
#: four seconds of it
OPEN_LOOP = Load(requests=2_000, concurrency=0, tokens=8, rate_per_s=500.0)
#: 3.6 and 7.2 million tokens: as answers twice as long, and as twice as many
MEMORY = {
    "long": (Load(1_000, 100, tokens=3_600), Load(1_000, 100, tokens=7_200)),
    "many": (Load(28_125, 100), Load(56_250, 100)),
}
PROCESSES = (1, 2, 4)
#: 40 seconds of a Poisson loop, over many seeds, so many of them at once
ARRIVALS, ARRIVAL_SEEDS, SEEDS_AT_ONCE = Load(requests=2_400, concurrency=0, tokens=1, rate_per_s=60.0), 20, 10


@dataclass(frozen=True, slots=True)
class Bench:
    """What everything below has in common."""

    clients: tuple[str, ...]
    place: Place
    server_core: int | None
    truthd: Path | None
    repeats: int
    streams: tuple[int, ...]
    processes: tuple[int, ...]

    @contextmanager
    def server(self, pace: Pace) -> Iterator[KnownServer]:
        """A server of that pace on its core."""
        with known_server(pace, truthd=self.truthd, core=self.server_core) as server:
            yield server


def measure_cost(bench: Bench) -> dict[str, dict[str, Any]]:
    """Full speed: tokens a CPU-second, with the start-up of a one-request run taken off; and that run itself."""
    found: dict[str, list[dict[str, Any]]] = {client: [] for client in bench.clients}
    with bench.server(FULL_SPEED) as server:
        for _ in range(bench.repeats):
            for client, rows in found.items():
                rows.append(_cost_of(client, server, bench.place))
    result = {}
    for client, rows in found.items():
        result[client] = _medians(rows) | {"repeats": rows}
        for beside in ("httpx", "C"):
            if beside in found:
                result[client][f"beside_{beside}"] = _ratio(rows, found[beside], "tokens_per_cpu_s")
                if "load_tokens_per_cpu_s" in rows[0]:
                    result[client][f"load_beside_{beside}"] = _ratio(rows, found[beside], "load_tokens_per_cpu_s")
    return result


def _ratio(rows: list[dict[str, Any]], beside: list[dict[str, Any]], name: str) -> float:
    """Median of the ratios of one round each."""
    return median(float(row[name] / other["tokens_per_cpu_s"]) for row, other in zip(rows, beside, strict=True))


def _cost_of(client: str, server: KnownServer, place: Place) -> dict[str, Any]:
    one = carry_out(client, server, Load(1, 1), place, brief=True)
    server_before_s = server.cpu_s()
    full = carry_out(client, server, COST, place, brief=True)
    cpu_s, wall_s = full.cpu_s - one.cpu_s, full.wall_s - one.wall_s
    if (tokens := full.tokens) != COST.requests * COST.tokens:
        raise RuntimeError(f"{client}: {tokens} of {COST.requests * COST.tokens} tokens came")
    row: dict[str, Any] = {
        "one_wall_s": one.wall_s,
        "one_cpu_s": one.cpu_s,
        "one_peak_bytes": one.peak_bytes,
        "full_wall_s": full.wall_s,
        "full_cpu_s": full.cpu_s,
        "full_peak_bytes": full.peak_bytes,
        "tokens": tokens,
        "tokens_per_cpu_s": tokens / cpu_s,
        "client_share": cpu_s / wall_s,
        "server_share": (server.cpu_s() - server_before_s) / wall_s,
    }
    if client == "enginebench":
        with _held_to(place.core):
            server_before_s = server.cpu_s()
            alone = drive_alone(server, COST, place)
        row["load_cpu_s"] = alone.cpu_s
        row["load_tokens_per_cpu_s"] = tokens / alone.cpu_s
        row["load_peak_bytes"] = alone.peak_memory_bytes
        row["sending_client_share"] = alone.cpu_s / alone.wall_s
        row["sending_server_share"] = (server.cpu_s() - server_before_s) / alone.wall_s
        row["priority"] = alone.priority
    # Ours sends first and understands later: what limits the load is told by the time in which it sends.
    client_share = row.get("sending_client_share", row["client_share"])
    return row | {"limited_by": _limit(client_share, row.get("sending_server_share", row["server_share"]))}


def _limit(client_share: float, server_share: float) -> str:
    """What kept the load from being greater: whichever core had no time left."""
    full = [name for name, share in (("client", client_share), ("server", server_share)) if share > 0.85]
    return " and ".join(full) or "neither"


def measure_precision(bench: Bench) -> dict[str, dict[str, Any]]:
    """Paced streams, all at once: how far each client's TTFT and gaps are from the server's own."""
    result: dict[str, dict[str, Any]] = {client: {} for client in bench.clients}
    for streams in bench.streams:
        load = Load(streams, streams)
        found: dict[str, list[dict[str, Any]]] = {client: [] for client in bench.clients}
        for _ in range(bench.repeats):
            for client, rows in found.items():
                with bench.server(PACED) as server:
                    carried = carry_out(client, server, load, bench.place)
                    row = precision(carried.rows, server.truths())
                rows.append(row | {"validity": carried.validity, "reasons": carried.reasons})
        for client, rows in found.items():
            result[client][str(streams)] = _medians(rows) | {"repeats": rows}
    return result


def measure_punctuality(bench: Bench) -> dict[str, dict[str, Any]]:
    """An open Poisson loop: when requests reached the server, against when they were due."""
    result = {}
    for client in bench.clients:
        if client == "C":
            continue  # it has no open loop
        with bench.server(SHORT) as server:
            before_s = server.cpu_s()
            carried = carry_out(client, server, OPEN_LOOP, bench.place)
            found = punctuality(carried.rows, server.truths())
            found["server_share"] = (server.cpu_s() - before_s) / (OPEN_LOOP.requests / OPEN_LOOP.rate_per_s)
        result[client] = found | {"validity": carried.validity, "reasons": carried.reasons}
    return result


def measure_arrivals(bench: Bench) -> list[dict[str, Any]]:
    """A Poisson loop as it reached the server, sent by one process and by several, over many seeds.

    The schedules of several seeds are carried out side by side, each by load processes of its own.
    """
    found = []
    for processes in bench.processes:
        told = []
        for first in range(0, ARRIVAL_SEEDS, SEEDS_AT_ONCE):
            with known_server(SHORT, truthd=bench.truthd) as server:
                told += _arrivals(server, bench.place, processes, range(first, first + SEEDS_AT_ONCE))
        spreads = [one["dispersion"] for one in told]
        found.append(
            {
                "processes": processes,
                "seeds": len(told),
                "dispersion": mean(spreads),
                # of the mean
                "dispersion_error": stdev(spreads) / len(spreads) ** 0.5,
                "dispersion_planned": mean(one["dispersion_planned"] for one in told),
                "gap_correlation": mean(one["gap_correlation"] for one in told),
                "late_p99_s": median(one["late_p99_s"] for one in told),
            }
        )
    return found


def _arrivals(server: KnownServer, place: Place, processes: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Of each seed how its schedule was kept, all of them at once."""

    def carry(seed: int) -> list[Row]:
        own = Place(place.folder / str(seed))
        own.folder.mkdir(exist_ok=True)
        outcome = drive_alone(server, replace(ARRIVALS, seed=seed), own, processes=processes)
        return [Row(c.local_port, c.scheduled_ns, c.sent_ns, []) for c in outcome.captures()]

    with ThreadPoolExecutor(len(seeds)) as threads:
        rows = list(threads.map(carry, seeds))
    truths = server.truths()
    # A port that one seed gave up may have become another's: all are joined in the order of their sends.
    joined = join([row for of_seed in rows for row in of_seed], truths)
    by_row = {id(row): truth for row, truth in joined}
    return [kept(of_seed, [(row, by_row[id(row)]) for row in of_seed]) for of_seed in rows]


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Peak memory of the load process over twice the tokens."""
    result: dict[str, Any] = {}
    for way, loads in MEMORY.items():
        with _held_to(bench.place.core), bench.server(Pace(0, 0, tokens=max(load.tokens for load in loads))) as server:
            peaks: list[dict[str, Any]] = []
            for load in loads:
                with tempfile.TemporaryDirectory(dir=bench.place.folder) as folder:
                    outcome = drive_alone(server, load, Place(Path(folder)))
                peaks.append({"tokens": load.requests * load.tokens, "peak_bytes": outcome.peak_memory_bytes})
        result[way] = {"runs": peaks, "ratio": peaks[1]["peak_bytes"] / peaks[0]["peak_bytes"]}
    return result


def measure_processes(bench: Bench) -> list[dict[str, Any]]:
    """The load at full speed by more and more processes, on whatever cores there are; and what limited each."""
    found = []
    with known_server(FULL_SPEED, truthd=bench.truthd) as server:
        for processes in bench.processes:
            rows = []
            for _ in range(bench.repeats):
                before_s = server.cpu_s()
                outcome = drive_alone(server, COST, bench.place, processes=processes)
                rows.append(
                    {
                        "tokens_per_s": COST.requests * COST.tokens / outcome.wall_s,
                        "client_share": outcome.cpu_s / outcome.wall_s,
                        "busiest_share": (outcome.busiest_cpu_s or 0.0) / outcome.wall_s,
                        "server_share": (server.cpu_s() - before_s) / outcome.wall_s,
                    }
                )
            row = _medians(rows)
            found.append(
                {"processes": processes, **row, "limited_by": _limit(row["busiest_share"], row["server_share"])}
            )
    return found


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of every figure. Of words all that were said, joined by "+"; of lists of words, such as reasons, the same."""
    middle: dict[str, Any] = {}
    for name in rows[-1]:
        values = [row[name] for row in rows]
        if all(isinstance(value, (int, float)) for value in values):
            middle[name] = median(values)
        elif all(isinstance(value, (list, tuple)) for value in values):
            middle[name] = sorted({word for value in values for word in value})
        else:
            middle[name] = "+".join(sorted({str(value) for value in values if value is not None}))
    return middle


@contextmanager
def _held_to(core: int | None) -> Iterator[None]:
    """This process, and the load process that it starts, on one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


SECTIONS: dict[str, Callable[[Bench], Any]] = {
    "cost": measure_cost,
    "precision": measure_precision,
    "punctuality": measure_punctuality,
    "arrivals": measure_arrivals,
    "memory": measure_memory,
    "processes": measure_processes,
}


def main(argv: list[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Our client beside plain ones.")
    parser.add_argument("--out", type=Path, default=Path("calibration-out"), metavar="FOLDER")
    parser.add_argument("--only", choices=sorted(SECTIONS), action="append", help="this section alone; may be repeated")
    parser.add_argument("--memory", action="store_true", help="peak memory at 3.6 and 7.2 million tokens, and no more")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS, help="of the precision")
    parser.add_argument("--processes", type=int, nargs="+", default=PROCESSES, help="of arrivals and processes")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many")
    parser.add_argument("--truthd", type=Path, metavar="PROGRAM", help="a server in C in place of the replay")
    parser.add_argument("--cclient", type=Path, metavar="PROGRAM", help="a client in C beside the others")
    parser.add_argument("--clients", nargs="+", default=("enginebench", "httpx", "aiohttp"), help="and no others")
    arguments = parser.parse_args(argv)
    sections = ["memory"] if arguments.memory else arguments.only or ["cost", "precision", "punctuality"]
    arguments.out.mkdir(parents=True, exist_ok=True)
    server_core, client_core = split_cores()
    result: dict[str, Any] = {"at": utc_now().isoformat(), "machine": describe_machine()}
    result["server"] = "truthd" if arguments.truthd else "replay"
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), client_core, arguments.cclient)
        clients = (*arguments.clients, *(["C"] if arguments.cclient else []))
        streams, processes = tuple(arguments.streams), tuple(arguments.processes)
        bench = Bench(clients, place, server_core, arguments.truthd, arguments.repeats, streams, processes)
        for section in sections:
            print(f"measuring {section}", file=sys.stderr)
            result[section] = SECTIONS[section](bench)
    console = Console(width=150)
    print_tables(console, result)
    written = arguments.out / f"bench-client{'-memory' if sections == ['memory'] else ''}.json"
    written.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {written}")
    if {"cost", "precision", "punctuality"} <= set(result) and "enginebench" in clients:
        from tests.calibration.pictures import draw_bench

        console.print(f"written: {draw_bench(result, arguments.out / 'bench-client.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
