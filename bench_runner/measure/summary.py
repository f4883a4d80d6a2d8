"""RequestRecords to a Summary: every row of METRICS, and the counts they rest on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bench_runner.measure.cards import CardLog, energy_j
from bench_runner.measure.merged import late_events
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.roofline import LeastTime, Work, least_time
from bench_runner.measure.stats import PERCENTILES, distribution
from bench_runner.measure.steady import sustained_tokens_per_s
from bench_runner.measure.window import count_arrived, describe_window, extend_to_last_send, sent_within
from engines.contract import FailureKind

#: Arrivals whose requests are positions in one queue: no percentile of one run is claimed.
DEPENDENT_ARRIVALS = ("burst",)
#: Arrivals whose next send waits for an answer: the planned moment is no schedule.
CLOSED_ARRIVALS = ("closed_loop",)

#: A breakdown by input length is given for at most so many lengths.
MOST_LENGTHS = 32


_Count = Callable[[RequestRecord], int | None]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a Summary needs to know beside the records."""

    #: "burst", "closed_loop", … as the workload names it
    arrival_kind: str
    #: (start, end) of the measured span, ns; used by a closed loop
    window: tuple[int, int] | None = None
    #: (start, end) of an open loop's measured window, or of a closed loop's with ramp-up, ns: behind the ramp-up, up to
    #: the planned end of sending, which is extended to the last one sent; `None`: the whole run is measured
    measured: tuple[int, int] | None = None
    #: most in flight; `None`: no cap
    concurrency: int | None = None
    gpus: int = 1
    model: str | None = None
    #: stated hardware; `None`: no roofline
    hardware: str | None = None
    #: stated precision; `None`: the dtype the model ships in
    precision: str | None = None
    #: how far the engine's own /metrics counters moved over the run, whoever's the tokens were; `None`: not known
    counted_input_tokens: int | None = None
    counted_output_tokens: int | None = None
    #: what was read of the cards beside the load; `None`: nothing
    cards: CardLog | None = None
    #: limits of the SLO; `None` each: not limited, all `None`: no SLO
    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None
    slo_e2e_s: float | None = None

    @property
    def has_slo(self) -> bool:
        """At least one limit is given."""
        return any(limit is not None for limit in (self.slo_ttft_s, self.slo_tpot_s, self.slo_e2e_s))


def summarise(records: Sequence[RequestRecord], facts: RunFacts) -> tuple[dict[str, Any], dict[str, int]]:
    """The Summary, as plain JSON types, and the failures by kind (only kinds that occurred).

    Args:
        records: all of the run, those never sent included. Where a window of it is measured, what was sent outside is
            left out of everything but the rates.
        facts: how they were sent, and on what they ran.
    """
    everyone = records
    window = extend_to_last_send(everyone, facts.measured)
    records = sent_within(everyone, window)
    good = [record for record in records if record.ok]
    failures = Counter(record.failure.kind.value for record in records if record.failure is not None)
    tokens = count_tokens(good)
    work = _whole_work(records, good, tokens, facts)
    if window is not None:
        work = _windowed_work([record for record in everyone if record.ok], len(records), tokens, window)
    bound = _bound(good, tokens, facts)
    late = late_events(good)
    summary: dict[str, Any] = {
        "requests": len(records),
        "successes": len(good),
        "total_input_tokens": tokens.total_input,
        "total_output_tokens": tokens.total_output,
        "token_count_source": tokens.output_source,
        "input_token_count_source": tokens.input_source,
        "token_counts": _four_counts(good, facts),
        "cached_tokens": _sum(record.cached_tokens for record in good if record.cached_tokens is not None),
        "shared_events": sum(record.shared_events for record in good),
        "late_events": late.late,
        "resends": sum(record.resends for record in records),
        "by_input_tokens": _by_input_tokens(good, facts),
        "roofline": {**asdict(bound), "least_s": bound.least_s} if bound else None,
        "window": None,
    }
    summary.update(_rates(records, good, work, facts))
    # The work of the requests sent in a window was done up to their last token, drain included.
    took_s = work.duration_s if window is None else _makespan_s(records, good)
    summary["roofline_ratio"] = _per(bound.least_s if bound else None, took_s)
    drawn_j = energy_j(facts.cards, window or facts.window)
    summary["joules_per_output_token"] = _per(drawn_j, work.output_tokens)
    summary["output_tokens_per_s_per_w"] = _per(work.output_tokens, drawn_j)
    if window is not None:
        start_ns = facts.window[0] if facts.window else window[0]
        # What rates rest on here: divided by length_s it gives them.
        arrived = {
            "arrived_requests": work.requests,
            "arrived_input_tokens": work.input_tokens,
            "arrived_output_tokens": work.output_tokens,
        }
        summary["window"] = describe_window(everyone, records, start_ns, window) | arrived
    summary.update(_distributions(records, good, facts))
    for name, share in (("ttft_s", late.first_share), ("event_gap_s", late.gap_share), ("itl_s", late.gap_share)):
        _support_no_more(summary[name], share)
    return summary, dict(sorted(failures.items()))


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """One count of the successes' tokens, never mixed from two: the engine's, else the local tokenizer's."""

    total_input: int | None
    total_output: int | None
    #: "usage", "details", "headers" (the engine's; "mixed" of these), "local", or `None`
    input_source: str | None
    output_source: str | None


def count_tokens(good: Sequence[RequestRecord]) -> TokenTotals:
    """Totals of the successes; `None` where some success was counted by neither, or nothing succeeded."""
    sources = {record.count_source for record in good}
    engine = (next(iter(sources)) or "usage") if len(sources) == 1 else "mixed"

    def total(said: _Count, local: _Count) -> tuple[int | None, str | None]:
        for count, source in ((said, engine), (local, "local")):
            whole = _sum(count(record) for record in good)
            if whole is not None:
                return whole, source
        return None, None

    inputs = total(lambda r: r.engine_input_tokens, lambda r: r.local_input_tokens)
    outputs = total(lambda r: r.engine_output_tokens, lambda r: r.local_output_tokens)
    return TokenTotals(inputs[0], outputs[0], inputs[1], outputs[1])


def _sum(values: Iterable[int | None]) -> int | None:
    """The whole, or `None` where there is nothing or one part is missing."""
    parts = list(values)
    if not parts or any(part is None for part in parts):
        return None
    return sum(part for part in parts if part is not None)


def _per(amount: float | None, duration_s: float | None) -> float | None:
    return None if amount is None or not duration_s else amount / duration_s


@dataclass(frozen=True, slots=True)
class _Work:
    """What was done in how long; `None`: not counted, or not over a time of its own."""

    duration_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    input_characters: float | None
    output_characters: float | None
    requests: int
    #: output tokens a second while every slot decodes
    sustained: float | None
    #: requests sent in the measured window
    sent: int | None


def _whole_work(
    records: Sequence[RequestRecord], good: Sequence[RequestRecord], tokens: TokenTotals, facts: RunFacts
) -> _Work:
    """Everything, over the whole run."""
    duration_s = _makespan_s(records, good)
    if facts.arrival_kind in CLOSED_ARRIVALS and facts.window is not None and good:
        duration_s = (facts.window[1] - facts.window[0]) / 1e9 or None
    return _Work(
        duration_s,
        tokens.total_input,
        tokens.total_output,
        _sum(r.input_characters for r in good),
        _sum(r.output_characters for r in good),
        len(good),
        sustained_tokens_per_s(records, facts.concurrency, duration_s),
        None,
    )


def _windowed_work(all_good: Sequence[RequestRecord], sent: int, tokens: TokenTotals, window: tuple[int, int]) -> _Work:
    """What arrived in the measured window, over its length; `tokens` says which of the counts holds."""
    arrived = count_arrived(
        all_good,
        window,
        inputs=_counter(tokens.input_source, lambda r: r.engine_input_tokens, lambda r: r.local_input_tokens),
        outputs=_counter(tokens.output_source, lambda r: r.engine_output_tokens, lambda r: r.local_output_tokens),
    )
    length_s = (window[1] - window[0]) / 1e9
    if not all_good or length_s <= 0:
        return _Work(None, None, None, None, None, 0, None, None)
    return _Work(
        length_s,
        arrived.input_tokens,
        arrived.output_tokens,
        arrived.input_characters,
        arrived.output_characters,
        arrived.requests,
        _per(arrived.output_tokens, length_s),
        sent,
    )


def _counter(source: str | None, said: _Count, local: _Count) -> _Count | None:
    return None if source is None else local if source == "local" else said


def _makespan_s(records: Sequence[RequestRecord], good: Sequence[RequestRecord]) -> float | None:
    sent = [record.sent_ns for record in records if record.sent_ns is not None]
    ends = [record.event_ns[-1] for record in good if record.event_ns]
    if not sent or not ends:
        return None
    return (max(ends) - min(sent)) / 1e9


def _rates(
    records: Sequence[RequestRecord], good: Sequence[RequestRecord], work: _Work, facts: RunFacts
) -> dict[str, float | None]:
    both = None
    if work.input_tokens is not None and work.output_tokens is not None:
        both = work.input_tokens + work.output_tokens
    output_rate = _per(work.output_tokens, work.duration_s)
    ended = [r for r in records if r.failure is None or r.failure.kind is not FailureKind.CANCELLED]
    met = scheduled_met = None
    if facts.has_slo:
        met = sum(_meets(record, facts) for record in good)
        if facts.arrival_kind not in CLOSED_ARRIVALS:
            scheduled_met = sum(_meets(record, facts, record.send_lag_s or 0.0) for record in good)
    return {
        "duration_s": work.duration_s,
        "input_tokens_per_s": _per(work.input_tokens, work.duration_s),
        "output_tokens_per_s": output_rate,
        "total_tokens_per_s": _per(both, work.duration_s),
        "output_tokens_per_s_per_gpu": None if output_rate is None else output_rate / facts.gpus,
        "sustained_output_tokens_per_s": work.sustained,
        "requests_per_s": _per(work.requests, work.duration_s),
        "sent_requests_per_s": _per(work.sent, work.duration_s),
        "goodput_requests_per_s": _per(met, work.duration_s),
        "scheduled_goodput_requests_per_s": _per(scheduled_met, work.duration_s),
        "failure_rate": (len(ended) - len(good)) / len(ended) if ended else None,
        "output_characters_per_s": _per(work.output_characters, work.duration_s),
        "input_characters_per_s": _per(work.input_characters, work.duration_s),
    }


def _meets(record: RequestRecord, facts: RunFacts, lag_s: float = 0.0) -> bool:
    """Every limit given is kept, `lag_s` added to what counts from the send. A one-token output keeps any TPOT."""
    pairs = ((record.ttft_s, facts.slo_ttft_s), (record.e2e_s, facts.slo_e2e_s))
    if any(limit is not None and (took is None or took + lag_s > limit) for took, limit in pairs):
        return False
    if facts.slo_tpot_s is None or record.output_tokens == 1:
        return True
    return record.tpot_s is not None and record.tpot_s <= facts.slo_tpot_s


def _distributions(
    records: Sequence[RequestRecord], good: Sequence[RequestRecord], facts: RunFacts
) -> dict[str, dict[str, Any] | None]:
    independent = 0 if facts.arrival_kind in DEPENDENT_ARRIVALS else len(good)

    def over(values: Iterable[float | None]) -> dict[str, Any] | None:
        known = [value for value in values if value is not None]
        found = distribution(known, independent=min(independent, len(known)))
        return asdict(found) if found else None

    def from_scheduled(record: RequestRecord, took_s: float | None) -> float | None:
        lag_s = record.send_lag_s
        return None if took_s is None or lag_s is None else took_s + lag_s

    gaps = [(b - a) / 1e9 for record in good for a, b in pairwise(record.event_ns)]
    singly = bool(good) and all(record.one_token_per_event for record in good)
    timed = [] if facts.arrival_kind in CLOSED_ARRIVALS else good
    event_gap_s = over(gaps)
    return {
        "ttft_s": over(record.ttft_s for record in good),
        "tpot_s": over(record.tpot_s for record in good),
        "tokens_per_s_per_user": over(1 / r.tpot_s if r.tpot_s else None for r in good),
        "itl_s": event_gap_s if singly else None,
        "event_gap_s": event_gap_s,
        "e2e_s": over(record.e2e_s for record in good),
        "closed_s": over(record.closed_s for record in good),
        "scheduled_ttft_s": over(from_scheduled(record, record.ttft_s) for record in timed),
        "scheduled_e2e_s": over(from_scheduled(record, record.e2e_s) for record in timed),
        "connect_s": over(record.connect_s for record in records),
        "send_lag_s": over(record.send_lag_s for record in records),
    }


def _support_no_more(told: dict[str, Any] | None, wrong_share: float) -> None:
    """Takes back the claim to percentiles beyond which there are no more values than may be too large."""
    if told is not None:
        told["supported"] = {
            name: claimed and wrong_share <= 1 - PERCENTILES[name] for name, claimed in told["supported"].items()
        }


def _four_counts(good: Sequence[RequestRecord], facts: RunFacts) -> dict[str, dict[str, int | None]]:
    """Planned, the engine's and the local count of the successes, side by side, never merged.

    Beside them the engine's own counters before and after: of all it served in that time, failures, ramp-up and
    requests of others included.
    """
    return {
        "planned": {
            "input": _sum(record.planned_input_tokens for record in good),
            "output": _sum(record.planned_output_tokens for record in good),
        },
        "engine": {
            "input": _sum(record.engine_input_tokens for record in good),
            "output": _sum(record.engine_output_tokens for record in good),
        },
        "local": {
            "input": _sum(record.local_input_tokens for record in good),
            "output": _sum(record.local_output_tokens for record in good),
        },
        "counters": {"input": facts.counted_input_tokens, "output": facts.counted_output_tokens},
    }


def _bound(good: Sequence[RequestRecord], tokens: TokenTotals, facts: RunFacts) -> LeastTime | None:
    """The least time of the successes' tokens, counted as the totals are; `None` without counts."""
    if tokens.total_input is None or tokens.total_output is None:
        return None
    local_in, local_out = tokens.input_source == "local", tokens.output_source == "local"
    work = [
        Work(
            (record.local_input_tokens if local_in else record.engine_input_tokens) or 0,
            (record.local_output_tokens if local_out else record.engine_output_tokens) or 0,
            record.cached_tokens or 0,
        )
        for record in good
    ]
    return least_time(
        work,
        model=facts.model,
        hardware=facts.hardware,
        precision=facts.precision,
        gpus=facts.gpus,
        concurrency=facts.concurrency,
    )


def _by_input_tokens(good: Sequence[RequestRecord], facts: RunFacts) -> dict[str, dict[str, float | None]] | None:
    """One at a time, each input length has a speed of its own: output tokens ÷ (sent to last token).

    `None` unless requests ran one at a time with more than one input length.
    """
    lengths = sorted({record.planned_input_tokens for record in good})
    if facts.concurrency != 1 or not 1 < len(lengths) <= MOST_LENGTHS:
        return None
    table: dict[str, dict[str, float | None]] = {}
    for length in lengths:
        rows = [record for record in good if record.planned_input_tokens == length]
        times = [record.e2e_s for record in rows]
        spent_s = sum(took for took in times if took is not None) if None not in times else None
        table[str(length)] = {
            "requests": len(rows),
            "output_tokens_per_s": _per(count_tokens(rows).total_output, spent_s),
        }
    return table
