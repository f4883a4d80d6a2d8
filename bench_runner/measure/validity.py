"""A run judges itself: VALID, INVALID or INCONCLUSIVE, with stable reason codes and the figures in words. Pure.

Only what the run did and what its engine *can* do is asked, never the engine's name. Notes leave a run VALID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason, Validity, ValidityState
from bench_runner.measure.stats import percentile
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
#: Tokens an engine that cannot ignore EOS may be off its plan.
OFF_PLAN_LIMIT = 0.02
#: Share of the prompt tokens that may come from a prefix cache.
CACHE_LIMIT = 0.01
#: Share by which the engine's own counters may move more than our requests account for.
FOREIGN_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run knows about itself. `None`: it could not be learned, so it is not judged."""

    records: Sequence[RequestRecord]
    arrival_kind: str = "burst"
    #: "complete", "cancelled", "timeout", "lapsed"
    ended: str = "complete"
    #: "ignore-eos", "overlay", "length-matched" or "natural"
    lengths: str = "ignore-eos"
    #: the engine can be told to give exactly the tokens asked for
    fixed_length: bool = True
    #: planned input lengths are estimates, not proven
    approximate_prompts: bool = False
    #: prompts differ from their first tokens on; a data set's may share them
    distinct_prompts: bool = True
    #: first tokens that a chat template gives every prompt of the run, and a cache may serve
    shared_prefix_tokens: int = 0
    #: the load process's CPU and wall time inside the window
    cpu_s: float | None = None
    wall_s: float | None = None
    #: worst gap between a kernel stamp and our reading it
    max_lag_s: float | None = None
    clock_stepped: bool = False
    #: how far the engine's own counters moved over the window: prompt tokens, generated tokens, prefix-cache hits
    counted_input_tokens: int | None = None
    counted_output_tokens: int | None = None
    counted_cached_tokens: int | None = None
    #: in words, where the target never answered or died
    target_failure: str | None = None

    @property
    def good(self) -> list[RequestRecord]:
        """The successes."""
        return [record for record in self.records if record.ok]


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
    lags = sorted(lag for record in evidence.records if (lag := record.send_lag_s) is not None)
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
    return [Reason("send_lag", severity, message)]


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
        reasons.append(Reason("client_lag", "inconclusive", message))
    if evidence.clock_stepped:
        # Kernel stamps are on the wall clock and were brought over by one offset; our own stamps do not care.
        on_wall = any(clock != "user" for clock in clocks | {r.sent_clock for r in evidence.records if r.sent_clock})
        message = "the wall clock moved by more than a millisecond against the monotonic clock within the window"
        reasons.append(Reason("clock_stepped", "invalid" if on_wall else "note", message))
    if clocks - {"kernel"}:
        text = "some responses have no kernel receive stamps: their times are those of the load process's own reads"
        reasons.append(Reason("user_stamps", "note", text))
    return reasons


def _output_tokens(evidence: Evidence) -> list[Reason]:
    """The engine's count against the plan, as strictly as the protocol and the engine's abilities allow."""
    if evidence.lengths == "natural":
        text = "outputs end where the model likes: tokens/s of such runs are shown and never ranked"
        return [Reason("natural_lengths", "note", text)]
    counted = [r for r in evidence.good if r.engine_output_tokens is not None]
    off = [(r.engine_output_tokens or 0) - r.planned_output_tokens for r in counted]
    strays = [difference for difference in off if difference]
    if not strays:
        return []
    planned = sum(record.planned_output_tokens for record in counted)
    share = sum(map(abs, strays)) / planned
    exact = evidence.fixed_length or evidence.lengths == "overlay"
    severity = "invalid" if exact or share > OFF_PLAN_LIMIT else "note"
    limit = "none is allowed" if exact else f"{OFF_PLAN_LIMIT:.0%} is allowed an engine that cannot ignore EOS"
    message = (
        f"{len(strays)} of {len(counted)} outputs have not their planned length: the engine counted "
        f"{planned + sum(strays)} tokens of {planned} ({share:.2%} off; {limit})"
    )
    return [Reason("tokens_off_plan", severity, message)]


def _input_tokens(evidence: Evidence) -> list[Reason]:
    reasons = []
    counted = [r for r in evidence.good if r.engine_input_tokens is not None]
    off = [(r.engine_input_tokens or 0) - r.planned_input_tokens for r in counted]
    strays = [difference for difference in off if difference]
    if evidence.approximate_prompts:
        text = "no tokenizer was at hand: planned input lengths are approximate, the engine's count is what holds"
        reasons.append(Reason("approximate_prompts", "note", text))
    if strays:
        planned = sum(record.planned_input_tokens for record in counted)
        share = sum(map(abs, strays)) / planned if planned else 1.0
        severity = "invalid" if share > OFF_PLAN_LIMIT else "inconclusive"
        message = (
            f"{len(strays)} of {len(counted)} prompts have not their planned length: the engine counted "
            f"{planned + sum(strays)} tokens of {planned} ({share:.2%} off)"
        )
        reasons.append(Reason("input_tokens_off_plan", "note" if evidence.approximate_prompts else severity, message))
    return reasons


def _counts(evidence: Evidence) -> list[Reason]:
    """Successes the engine did not count: their lengths are not proven."""
    good = evidence.good
    silent = [r for r in good if r.engine_output_tokens is None]
    if not silent:
        return []
    has_local = all(r.local_output_tokens is not None for r in good)
    message = f"the engine gave no token count for {len(silent)} of {len(good)} successes; " + (
        "tokens/s rest on the local tokenizer's count"
        if has_local
        else "there are no tokens/s, and lengths are unproven"
    )
    return [Reason("no_token_counts", "note" if has_local else "inconclusive", message)]


def _prefix_cache(evidence: Evidence) -> list[Reason]:
    """Prompt tokens that were not computed, as the responses or the engine's own hit counter tell."""
    good = evidence.good
    told = [r.cached_tokens for r in good if r.cached_tokens is not None]
    cached = max(sum(told), evidence.counted_cached_tokens or 0)
    if not cached:
        return []
    prompts = sum(r.engine_input_tokens or r.planned_input_tokens for r in good)
    allowed = evidence.shared_prefix_tokens * len(evidence.records)
    share = max(cached - allowed, 0) / prompts if prompts else 1.0
    severity = "invalid" if share > CACHE_LIMIT and evidence.distinct_prompts else "note"
    message = f"the engine's prefix cache served {cached} of {prompts} prompt tokens; {CACHE_LIMIT:.0%} is the limit"
    if allowed:
        message += f" beyond the {allowed} that all prompts share"
    return [Reason("prefix_cache", severity, message)]


def _foreign_traffic(evidence: Evidence) -> list[Reason]:
    """The engine's own counters moved more than our requests account for: somebody else was served too."""
    # What a failed request made the engine compute is not known, so nothing is accused beside one.
    if any(record.failure is not None for record in evidence.records):
        return []
    reasons = []
    for word, counted, ours in (
        ("prompt", evidence.counted_input_tokens, [r.engine_input_tokens for r in evidence.records]),
        ("generated", evidence.counted_output_tokens, [r.engine_output_tokens for r in evidence.records]),
    ):
        if counted is None or not ours or any(tokens is None for tokens in ours):
            continue
        own = sum(tokens for tokens in ours if tokens is not None)
        if counted - own > FOREIGN_LIMIT * own:
            message = (
                f"the engine counted {counted} {word} tokens over the window, our requests account for {own}: "
                f"it served others too, or its counter lags; {FOREIGN_LIMIT:.0%} is the limit"
            )
            reasons.append(Reason("foreign_traffic", "inconclusive", message))
    return reasons


def _notes(evidence: Evidence) -> list[Reason]:
    reasons = []
    again = sum(record.resends for record in evidence.records)
    if again:
        text = f"{again} requests were sent again: the engine had closed their reused connection before answering"
        reasons.append(Reason("resends", "note", text))
    shared = sum(record.shared_events for record in evidence.records)
    events = sum(len(record.event_ns) for record in evidence.records)
    if shared:
        text = f"{shared} of {events} token events came in one read with an earlier one, and so share its stamp"
        reasons.append(Reason("shared_events", "note", text))
    return reasons


CHECKS: tuple[Callable[[Evidence], list[Reason]], ...] = (
    _outcome,
    _failures,
    _send_lag,
    _client,
    _output_tokens,
    _input_tokens,
    _counts,
    _prefix_cache,
    _foreign_traffic,
    _notes,
)
