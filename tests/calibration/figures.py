"""What is worked out of one client's rows beside the server's log: errors, spreads, lateness. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import correlation, mean, pvariance
from typing import Any

from bench_runner.measure.stats import percentile
from tests.calibration.known_server import Truth
from tests.calibration.side_by_side import Row

#: width of the bins over which the index of dispersion is taken
BIN_NS = 100_000_000


def at(values: Iterable[float], share: float) -> float | None:
    """A percentile; `None` of nothing."""
    ordered = sorted(values)
    return percentile(ordered, share) if ordered else None


def join(rows: Sequence[Row], truths: Mapping[int, Sequence[Truth]]) -> list[tuple[Row, Truth]]:
    """Each row beside its truth: by port, and of a port that was used again in the order of sending."""
    turns = {port: iter(of_port) for port, of_port in truths.items()}
    by_time = sorted(rows, key=lambda row: row.sent_ns)
    pairs = ((row, next(turns.get(row.port, iter(())), None)) for row in by_time)
    return [(row, truth) for row, truth in pairs if truth is not None]


def precision(rows: Sequence[Row], truths: Mapping[int, Sequence[Truth]]) -> dict[str, Any]:
    """How far a client's stamps are from what happened, seconds; rows that have no truth are told of, never left out.

    TTFT errors are of each request; gap errors of each gap between two tokens of one stream, client's minus server's.
    """
    pairs = [(row, truth) for row, truth in join(rows, truths) if row.event_ns and truth.token_ns]
    ttft_errors, gap_errors, ttfts, true_ttfts = [], [], [], []
    for row, truth in pairs:
        true_ns, seen_ns = truth.token_ns[0] - truth.arrival_ns, row.event_ns[0] - row.sent_ns
        ttfts.append(seen_ns / 1e9)
        true_ttfts.append(true_ns / 1e9)
        ttft_errors.append((seen_ns - true_ns) / 1e9)
        # what a client makes of the end of the stream comes after the last token
        seen = row.event_ns[: len(truth.token_ns)]
        gap_errors += [
            abs((b - a) - (d - c)) / 1e9
            for (a, b), (c, d) in zip(pairwise(seen), pairwise(truth.token_ns), strict=False)
        ]
    arrivals = [truth.arrival_ns for _, truth in pairs]
    return {
        "requests": len(rows),
        "joined": len(pairs),
        "complete": sum(len(row.event_ns) >= len(truth.token_ns) for row, truth in pairs),
        "true_ttft_p50_s": at(true_ttfts, 0.5),
        "true_ttft_p99_s": at(true_ttfts, 0.99),
        "ttft_p50_s": at(ttfts, 0.5),
        "ttft_p99_s": at(ttfts, 0.99),
        "ttft_error_p50_s": at(ttft_errors, 0.5),
        "ttft_error_p99_s": at(map(abs, ttft_errors), 0.99),
        "gap_error_p50_s": at(gap_errors, 0.5),
        "gap_error_p99_s": at(gap_errors, 0.99),
        "send_spread_s": (max(arrivals) - min(arrivals)) / 1e9 if arrivals else None,
    }


def punctuality(rows: Sequence[Row], truths: Mapping[int, Sequence[Truth]], *, bin_ns: int = BIN_NS) -> dict[str, Any]:
    """How an open loop was kept: arrivals at the server against the moments they were due."""
    return kept(rows, join(rows, truths), bin_ns=bin_ns)


def kept(rows: Sequence[Row], pairs: Sequence[tuple[Row, Truth]], *, bin_ns: int = BIN_NS) -> dict[str, Any]:
    """The same of rows that were joined with their truth already."""
    lates = [(truth.arrival_ns - row.due_ns) / 1e9 for row, truth in pairs]
    return {
        "requests": len(rows),
        "joined": len(pairs),
        "late_p50_s": at(lates, 0.5),
        "late_p99_s": at(lates, 0.99),
        "late_max_s": max(lates, default=None),
        "dispersion_planned": dispersion([row.due_ns for row in rows], bin_ns),
        "dispersion": dispersion([truth.arrival_ns for _, truth in pairs], bin_ns),
        "gap_correlation": gap_correlation([truth.arrival_ns for _, truth in pairs]),
    }


def gap_correlation(moments_ns: Sequence[int]) -> float | None:
    """Of each gap with the next: 0 on average for Poisson."""
    gaps = [b - a for a, b in pairwise(sorted(moments_ns))]
    return correlation(gaps[:-1], gaps[1:]) if len(set(gaps[:-1])) > 1 and len(set(gaps[1:])) > 1 else None


def dispersion(moments_ns: Sequence[int], bin_ns: int = BIN_NS) -> float | None:
    """Variance of the counts in bins ÷ their mean: 1 on average for Poisson. The last bin, not full, is left out."""
    if len(moments_ns) < 2:
        return None
    first = min(moments_ns)
    bins = Counter((moment - first) // bin_ns for moment in moments_ns)
    counts = [bins[k] for k in range(max(bins))]
    return pvariance(counts) / mean(counts) if len(counts) > 1 else None
