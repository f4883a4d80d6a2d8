"""Validity's checks on tokens: off plan, uncounted, served from a cache, or somebody else's. Pure."""

from __future__ import annotations

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason
from engines.contract import EARLY_STOPS, FailureKind

#: Tokens an engine that cannot ignore EOS may be off its plan.
OFF_PLAN_LIMIT = 0.02
#: A text tokenised again need not give the tokens it was made of; beyond this share it is worth a note.
RETOKENISED_LIMIT = 0.10
#: One output is too short a text for that: so much of it, and more tokens than these, is not noise.
CUT_LIMIT = 0.25
CUT_LEAST = 3
#: Share of the prompt tokens that may come from a prefix cache.
CACHE_LIMIT = 0.01
#: Share by which the engine's own counters may differ from what our requests account for: foreign traffic of a percent
#: changes figures by as much, so it must not pass.
FOREIGN_LIMIT = 0.005
_REQUESTS, _GENERATED = "finished requests", "generated tokens"
#: what to do about it: whose requests are so small is mostly a monitor or a load balancer
_A_HEALTH_CHECK = (
    "they hardly took a token, as a health check that generates does: let it ask a route that does not, such as "
    "/health, or pause it while runs go on"
)
_NOBODY_ELSE = "let nobody else use it while runs go on"


def check_output_tokens(evidence: Evidence) -> list[Reason]:
    """The engine's count against the plan, as strictly as the protocol and the engine's abilities allow."""
    if evidence.lengths == "natural":
        text = "outputs end where the model likes: tokens/s of such runs are shown and never ranked"
        return [Reason("natural_lengths", "note", text)]
    counted = [r for r in evidence.good if r.engine_output_tokens is not None]
    exact = evidence.fixed_length or evidence.lengths == "overlay" or evidence.matched
    reasons = []
    if evidence.lengths == "length-matched" and not exact:
        # What ended by itself is what the protocol asks this engine for: the others get its lengths.
        gave = [r for r in counted if _ended_early(r)]
        counted = [r for r in counted if not _ended_early(r)]
        if gave:
            text = (
                f"{len(gave)} of {len(gave) + len(counted)} outputs ended by themselves, after "
                f"{sum(r.engine_output_tokens or 0 for r in gave)} of {sum(r.planned_output_tokens for r in gave)} "
                "tokens: the lengths this protocol asks the other engines for"
            )
            reasons.append(Reason("lengths_given", "note", text))
    off = [(r.engine_output_tokens or 0) - r.planned_output_tokens for r in counted]
    strays = [difference for difference in off if difference]
    if not strays:
        return reasons
    planned = sum(record.planned_output_tokens for record in counted)
    share = sum(map(abs, strays)) / planned
    severity = "invalid" if exact or share > OFF_PLAN_LIMIT else "note"
    limit = "none is allowed" if exact else f"{OFF_PLAN_LIMIT:.0%} is allowed an engine that cannot ignore EOS"
    message = (
        f"{len(strays)} of {len(counted)} outputs have not their planned length: the engine counted "
        f"{planned + sum(strays)} tokens of {planned} ({share:.2%} off; {limit})"
    )
    return [*reasons, Reason("tokens_off_plan", severity, message)]


def _ended_early(record: RequestRecord) -> bool:
    counted = record.engine_output_tokens
    return record.finish_reason in EARLY_STOPS and counted is not None and counted < record.planned_output_tokens


def check_input_tokens(evidence: Evidence) -> list[Reason]:
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


def check_token_counts(evidence: Evidence) -> list[Reason]:
    """Successes the engine did not count: their lengths are not proven."""
    good = evidence.good
    reasons = []
    for word, pairs in (
        ("output", [(r.engine_output_tokens, r.local_output_tokens) for r in good]),
        ("input", [(r.engine_input_tokens, r.local_input_tokens) for r in good]),
    ):
        silent = sum(engine is None for engine, _ in pairs)
        if not silent:
            continue
        has_local = all(local is not None for _, local in pairs)
        message = f"the engine gave no {word} token count for {silent} of {len(good)} successes; " + (
            f"{word} tokens/s rest on the local tokenizer's count"
            if has_local
            else f"there are no {word} tokens/s, and {word} lengths are unproven"
        )
        reasons.append(Reason("no_token_counts", "note" if has_local else "inconclusive", message))
    return reasons


def check_counts_agree(evidence: Evidence) -> list[Reason]:
    """What arrived, and what a local tokenizer makes of it, against the engine's own count."""
    good = evidence.good
    reasons = []
    over = [r for r in good if r.engine_output_tokens is not None and _arrived(r) > r.engine_output_tokens]
    if over:
        message = (
            f"{len(over)} of {len(good)} responses carried more tokens than the engine counted in them "
            f"(the first: {_arrived(over[0])} arrived, {over[0].engine_output_tokens} counted): its count is wrong"
        )
        reasons.append(Reason("token_counts_disagree", "inconclusive", message))
    reasons += _check_incomplete(evidence)
    pairs = [
        (r, r.engine_output_tokens, r.local_output_tokens)
        for r in good
        if r.engine_output_tokens is not None and r.local_output_tokens is not None
    ]
    counted = sum(engine for _, engine, _ in pairs)
    again = sum(local for _, _, local in pairs)
    # Where the wire tells the tokens, what came is known; where it does not, only the text can tell that some are gone.
    untold = [(engine, local) for r, engine, local in pairs if -1 in r.event_tokens or not r.event_tokens]
    cut = [(engine, local) for engine, local in untold if engine - local > max(CUT_LIMIT * engine, CUT_LEAST)]
    lost = sum(engine - local for engine, local in untold)
    if cut or lost > RETOKENISED_LIMIT * sum(engine for engine, _ in untold):
        message = (
            f"the local tokenizer makes {again} tokens of the outputs, the engine counted {counted} "
            f"(of {len(cut)} of {len(pairs)} outputs more than {CUT_LIMIT:.0%} is missing): the count is wrong, or "
            "tokens were lost"
        )
        reasons.append(Reason("token_counts_disagree", "inconclusive", message))
    elif counted and abs(again - counted) > RETOKENISED_LIMIT * counted:
        message = (
            f"the local tokenizer makes {again} tokens of the outputs, the engine counted {counted}; "
            f"more than {RETOKENISED_LIMIT:.0%} apart"
        )
        reasons.append(Reason("token_counts_disagree", "note", message))
    return reasons


def _check_incomplete(evidence: Evidence) -> list[Reason]:
    """Failures that a count alone makes: fewer tokens came than the engine counted. Who is right, its metrics tell."""
    under = [
        r
        for r in evidence.records
        if r.failure is not None
        and r.failure.kind is FailureKind.INCOMPLETE
        and r.finish_reason is not None
        and -1 not in r.event_tokens
        and _arrived(r) < (r.engine_output_tokens or 0)
    ]
    if not under:
        return []
    message = (
        f"{len(under)} of {len(evidence.records)} responses carried fewer tokens than the engine counted in them "
        f"(the first: {_arrived(under[0])} arrived, {under[0].engine_output_tokens} counted): "
    )
    counted, came = evidence.counted_output_tokens, sum(map(_arrived, evidence.records))
    if counted is not None and counted == came:
        message += f"its metrics counted the {came} that arrived, so its answers' count is wrong"
    else:
        message += "its count is wrong, or tokens were lost on the way"
    return [Reason("token_counts_disagree", "inconclusive", message)]


def _arrived(record: RequestRecord) -> int:
    """Tokens that came at the least: an event of unknown content carried one, the last may be held-back text alone."""
    known = sum(tokens for tokens in record.event_tokens if tokens >= 0)
    unknown = sum(tokens < 0 for tokens in record.event_tokens)
    return known + max(unknown - 1, 0)


def check_prefix_cache(evidence: Evidence) -> list[Reason]:
    """Prompt tokens that were not computed, as the responses or the engine's own hit counter tell."""
    good = evidence.good
    told = [r.cached_tokens for r in good if r.cached_tokens is not None]
    if good and len(told) < len(good) and evidence.counted_cached_tokens is None:
        text = "neither the responses nor the engine's metrics tell whether a prefix cache served prompts"
        if not evidence.distinct_prompts:
            text += ", and these prompts may share their first tokens"
        unknown = [Reason("prefix_cache_unknown", "note", text)]
    else:
        unknown = []
    cached = max(sum(told), evidence.counted_cached_tokens or 0)
    if not cached:
        return unknown
    prompts = sum(r.engine_input_tokens or r.planned_input_tokens for r in good)
    allowed = evidence.shared_prefix_tokens * len(evidence.records)
    share = max(cached - allowed, 0) / prompts if prompts else 1.0
    severity = "invalid" if share > CACHE_LIMIT and evidence.distinct_prompts else "note"
    message = f"the engine's prefix cache served {cached} of {prompts} prompt tokens; {CACHE_LIMIT:.0%} is the limit"
    if allowed:
        message += f" beyond the {allowed} that all prompts share"
    message += (
        "; serve without prefix cache (vLLM: --no-enable-prefix-caching) to see every prompt computed, or give another "
        "seed: it may have been sent these before"
    )
    return [*unknown, Reason("prefix_cache", severity, message)]


def check_foreign_traffic(evidence: Evidence) -> list[Reason]:
    """The engine's own counters moved more than our requests account for: somebody else was served too."""
    reasons: list[Reason] = []
    again = sum(record.resends for record in evidence.records)
    tokens, requests = _reconciled(evidence), _requests(evidence)
    # What came to us was ours, whatever the answers say of it.
    came = sum(max(r.engine_output_tokens or 0, _arrived(r)) for r in evidence.records)
    for what, counted, claimed in [*tokens, *requests]:
        own = max(claimed, came) if what == _GENERATED else claimed
        if counted - own > FOREIGN_LIMIT * own:
            message = (
                f"the engine counted {counted} {what} over the window, our requests account for {own}: "
                f"it served others too, or its counter lags; {FOREIGN_LIMIT:.1%} is the limit; "
            )
            # Few tokens do not make it harmless: a stranger's step is one that ours waited for.
            small = len(tokens) == 2 and not reasons and what == _REQUESTS
            message += _A_HEALTH_CHECK if small else _NOBODY_ELSE
            if again:
                message += f" ({again} requests were sent twice, which it may have counted)"
            reasons.append(Reason("foreign_traffic", "inconclusive", message))
    return reasons


def check_counters(evidence: Evidence) -> list[Reason]:
    """The engine's counters moved less than its answers claim: one of the two is wrong. Or they could not be read."""
    if evidence.counters_unread:
        message = (
            f"the engine's counters could not be read {evidence.counters_unread} the load, though it has some: its "
            "answers were not held against them, nor were others' requests looked for"
        )
        return [Reason("counters_unread", "note", message)]
    reasons = []
    for what, counted, own in _reconciled(evidence):
        if own - counted > FOREIGN_LIMIT * own:
            message = (f"the engine's metrics counted {counted} {what} over the window, its answers claim {own}: ") + (
                "the answers' count is wrong, or its metrics are those of one server among several "
                f"({FOREIGN_LIMIT:.1%} is the limit); send an idle server one request, and hold its usage against what "
                "its metrics moved by"
                if counted
                else "its metrics are not of the server that answers"
            )
            reasons.append(Reason("counters_disagree", "inconclusive" if counted else "note", message))
    return reasons


def _reconciled(evidence: Evidence) -> list[tuple[str, int, int]]:
    """(what, tokens by the engine's metrics, tokens by its answers), where both are known."""
    # What a failed request made the engine compute is not known, so nothing is accused beside one.
    if any(record.failure is not None for record in evidence.records):
        return []
    found = []
    for what, counted, ours in (
        ("prompt tokens", evidence.counted_input_tokens, [r.engine_input_tokens for r in evidence.records]),
        (_GENERATED, evidence.counted_output_tokens, [r.engine_output_tokens for r in evidence.records]),
    ):
        if counted is None or not ours or any(tokens is None for tokens in ours):
            continue
        found.append((what, counted, sum(tokens for tokens in ours if tokens is not None)))
    return found


def _requests(evidence: Evidence) -> list[tuple[str, int, int]]:
    """The same in whole requests: a stranger's short one hardly shows in tokens."""
    counted, records = evidence.counted_requests, evidence.records
    if counted is None or not records or any(record.failure is not None for record in records):
        return []
    return [(_REQUESTS, counted, len(records))]
