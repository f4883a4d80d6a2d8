"""A run judges itself: VALID, INVALID or INCONCLUSIVE, with stable reason codes and the figures in words. Pure.

Only what the run did and what its engine *can* do is asked, never the engine's name. Notes leave a run VALID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bench_runner.measure.calibration_checks import check_calibration
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.host_checks import (
    check_cards,
    check_engine,
    check_hardware,
    check_host,
    name_cause,
    was_kept_off,
)
from bench_runner.measure.lag import own_lags_s
from bench_runner.measure.merged import late_events
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason, Validity, ValidityState
from bench_runner.measure.stats import percentile
from bench_runner.measure.steady_checks import check_length, check_littles_law, check_stationary
from bench_runner.measure.token_checks import (
    check_counters,
    check_counts_agree,
    check_foreign_traffic,
    check_input_tokens,
    check_output_tokens,
    check_prefix_cache,
    check_token_counts,
)
from engines.contract import FailureKind

#: A run with failures is never VALID; from this share on it is INVALID, below it INCONCLUSIVE. One failure in the
#: mission's batch of 100 reaches it.
FAILURE_LIMIT = 0.01
#: Sends may trail their plan by this share of what they are held against (burst: the whole run; closed loop: one
#: request), or by the floor where that is more.
SEND_LAG_SHARE = 0.01
SEND_LAG_FLOOR_S = 0.02
#: Beyond this many limits the load was another one than planned.
SEND_LAG_INVALID = 5.0
#: Share of one core the load process may use: a single loop that is busy all the time has no time to be punctual.
CPU_DOUBTFUL = 0.80
CPU_INVALID = 0.95
#: CPU shares of a shorter window are noise.
CPU_LEAST_WALL_S = 0.1
#: A loop this far behind the kernel reads stale clocks where the kernel gives no stamps …
USER_LAG_LIMIT_S = 0.01
#: … and this far behind lets socket buffers fill, so that the engine itself is held up.
KERNEL_LAG_LIMIT_S = 1.0
#: Share of gaps, and of first events, that rest on a stamp which may be a later event's: beyond it a p99 is not known.
MERGED_LIMIT = 0.01


def judge(evidence: Evidence) -> Validity:
    """Every check over the evidence; the worst finding decides, and notes come last."""
    reasons = [reason for check in CHECKS for reason in check(evidence)]
    reasons.sort(key=lambda reason: _SEVERITIES.index(reason.severity))
    worst = reasons[0].severity if reasons else "note"
    match worst:
        case "invalid":
            state = ValidityState.INVALID
        case "inconclusive":
            state = ValidityState.INCONCLUSIVE
        case _:
            state = ValidityState.VALID
    return Validity(state, tuple(reasons))


_SEVERITIES = ("invalid", "inconclusive", "note")


def _outcome(evidence: Evidence) -> list[Reason]:
    """How the run ended, as a whole."""
    reasons = []
    if evidence.target_failure is not None:
        reasons.append(Reason("target_failed", "invalid", f"the target failed: {evidence.target_failure}"))
    finished = sum(_finished(record) for record in evidence.records)
    so_far = f"after {finished} of {len(evidence.records)} requests"
    match evidence.ended:
        case "cancelled":
            reasons.append(Reason("cancelled", "invalid", f"the run was cancelled {so_far}"))
        case "lapsed":
            reasons.append(Reason("lease_lapsed", "invalid", f"the run's lease lapsed {so_far}; the load stopped"))
        case "timeout":
            reasons.append(Reason("run_timeout", "invalid", f"the run's time limit passed {so_far}"))
    return reasons


def _finished(record: RequestRecord) -> bool:
    return record.failure is None or record.failure.kind is not FailureKind.CANCELLED


def _failures(evidence: Evidence) -> list[Reason]:
    kinds = Counter(record.failure.kind.value for record in evidence.records if record.failure is not None)
    failed, total = sum(kinds.values()), len(evidence.records)
    reasons = []
    if failed:
        rate = failed / total
        severity = "invalid" if rate >= FAILURE_LIMIT else "inconclusive"
        each = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        message = (
            f"{failed} of {total} requests failed ({rate:.1%}): {each}; "
            f"a VALID run has none, and {FAILURE_LIMIT:.0%} or more make it INVALID"
        )
        reasons.append(Reason("failures", severity, message))
    if failed == total:
        reasons.append(Reason("no_successes", "invalid", f"none of {total} requests succeeded"))
    return reasons


def _send_lag(evidence: Evidence) -> list[Reason]:
    lags = sorted(own_lags_s(evidence.records, evidence.max_concurrency))
    if not lags:
        return []
    times = sorted(took for record in evidence.good if (took := record.e2e_s) is not None)
    closed = evidence.arrival_kind == "closed_loop"
    against_s = (percentile(times, 0.5) if closed else times[-1]) if times else 0.0
    limit_s = max(SEND_LAG_FLOOR_S, SEND_LAG_SHARE * against_s)
    p99_s = percentile(lags, 0.99)
    if p99_s <= limit_s:
        return []
    severity = "invalid" if p99_s > SEND_LAG_INVALID * limit_s else "inconclusive"
    message = (
        f"requests were sent {p99_s * 1e3:.1f} ms after their planned moment (p99; worst {lags[-1] * 1e3:.1f} ms); "
        f"the limit is {limit_s * 1e3:.1f} ms"
    )
    return [Reason("send_lag", severity, message + name_cause(evidence))]


def _client(evidence: Evidence) -> list[Reason]:
    """The load process itself: busy, late, or with a clock that jumped."""
    reasons = []
    cpu_s, wall_s, lag_s = evidence.cpu_s, evidence.wall_s, evidence.max_lag_s
    if cpu_s is not None and wall_s is not None and wall_s >= CPU_LEAST_WALL_S and cpu_s / wall_s > CPU_DOUBTFUL:
        share = cpu_s / wall_s
        severity = "invalid" if share > CPU_INVALID else "inconclusive"
        message = f"the load process used {share:.0%} of a core over the window; the limit is {CPU_DOUBTFUL:.0%}"
        reasons.append(Reason("client_cpu", severity, message))
    clocks = {record.event_clock for record in evidence.records if record.event_clock}
    all_kernel = clocks == {"kernel"}
    limit_s = KERNEL_LAG_LIMIT_S if all_kernel else USER_LAG_LIMIT_S
    if lag_s is not None and lag_s > limit_s:
        message = (
            f"the load process read bytes up to {lag_s * 1e3:.1f} ms after they had reached this host; "
            f"the limit is {limit_s * 1e3:.0f} ms {'with' if all_kernel else 'without'} kernel stamps on every event"
        )
        reasons.append(Reason("client_lag", "inconclusive", message + name_cause(evidence)))
    if evidence.clock_stepped:
        # Kernel stamps are on the wall clock and were brought over by one offset; our own stamps do not care.
        on_wall = any(clock != "user" for clock in clocks | {r.sent_clock for r in evidence.records if r.sent_clock})
        message = "the wall clock moved by more than a millisecond against the monotonic clock within the window"
        reasons.append(Reason("clock_stepped", "invalid" if on_wall else "note", message))
    if clocks - {"kernel"}:
        text = "some responses have no kernel receive stamps: their times are those of the load process's own reads"
        reasons.append(Reason("user_stamps", "note", text))
    return reasons


def _merged(evidence: Evidence) -> list[Reason]:
    """Events that waited for the load process until others of their stream had come."""
    found = late_events(evidence.good, kept_off=was_kept_off(evidence))
    if max(found.gap_share, found.first_share) <= MERGED_LIMIT:
        return []
    message = (
        f"{found.late} token events ({found.gap_share:.1%} of the gaps; the first of {found.late_firsts} of "
        f"{found.firsts} responses) were read together with later ones of their stream and share their stamp, though "
        f"they may have come up to {found.longest_s * 1e3:.1f} ms before; the limit is {MERGED_LIMIT:.0%}: fewer "
        "streams, or more cores for load processes, mend it"
    )
    return [Reason("client_lag", "inconclusive", message + name_cause(evidence))]


def _above_roofline(evidence: Evidence) -> list[Reason]:
    """Faster than the stated hardware can be: something stated is wrong, or work was skipped."""
    ratio = evidence.roofline_ratio
    if ratio is None or ratio <= 1:
        return []
    message = (
        f"the run took {1 / ratio:.2f} of the least time the stated hardware and precision allow: "
        "they are not what ran, or the engine did not do all the work (speculative decoding, a cache)"
    )
    return [Reason("above_roofline", "inconclusive", message)]


def _notes(evidence: Evidence) -> list[Reason]:
    reasons = []
    again = sum(record.resends for record in evidence.records)
    if again:
        text = (
            f"{again} requests were sent again: the engine had closed their reused connection before answering; fresh "
            "connections keep clear of it"
        )
        reasons.append(Reason("resends", "note", text))
    if evidence.max_concurrency is not None:
        reasons += _held_back(evidence)
    shared = sum(record.shared_events for record in evidence.records)
    events = sum(len(record.event_ns) for record in evidence.records)
    if shared:
        text = f"{shared} of {events} token events came in one read with an earlier one, and so share its stamp"
        reasons.append(Reason("shared_events", "note", text))
    if coalesced := [r for r in evidence.good if r.event_ns and (r.output_tokens or 0) > len(r.event_ns)]:
        text = (
            f"{len(coalesced)} of {len(evidence.good)} responses came in fewer events than tokens "
            f"({sum(len(r.event_ns) for r in coalesced)} events, {sum(r.output_tokens or 0 for r in coalesced)} tokens)"
            ": gaps between events are not those between tokens, so there is no inter-token latency"
        )
        reasons.append(Reason("tokens_per_event", "note", text))
    return reasons


def _held_back(evidence: Evidence) -> list[Reason]:
    """An open loop that its cap turned into a closed one: the planned rate was not what the engine got."""
    whole = [lag for record in evidence.records if not record.resends and (lag := record.send_lag_s) is not None]
    own = own_lags_s(evidence.records, evidence.max_concurrency)
    held_s = [lag - ours for lag, ours in zip(whole, own, strict=True) if lag - ours > SEND_LAG_FLOOR_S]
    if not held_s:
        return []
    message = (
        f"{len(held_s)} of {len(whole)} requests waited for one of the {evidence.max_concurrency} slots, up to "
        f"{max(held_s) * 1e3:.0f} ms: the rate was not kept; latencies from the scheduled moment count the wait"
    )
    return [Reason("held_back_by_cap", "note", message)]


CHECKS: tuple[Callable[[Evidence], list[Reason]], ...] = (
    _outcome,
    _failures,
    _send_lag,
    _client,
    _merged,
    check_calibration,
    check_host,
    check_engine,
    check_cards,
    check_length,
    check_stationary,
    check_littles_law,
    check_output_tokens,
    check_input_tokens,
    check_token_counts,
    check_counts_agree,
    check_prefix_cache,
    check_foreign_traffic,
    check_counters,
    check_hardware,
    _above_roofline,
    _notes,
)
