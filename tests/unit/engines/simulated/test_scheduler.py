"""Continuous batching without a clock: who gets tokens when, and what that takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.hardware import HARDWARE
from engines.models import MODELS
from engines.simulated.scheduler import Policy, Scheduler, Sequence, run_burst
from engines.simulated.step_time import Fitted, StepTime

MODEL = MODELS["mistralai/Mistral-7B-Instruct-v0.2"]
A100 = HARDWARE["A100-80GB"]
TIMES = StepTime(MODEL, A100, Fitted(0.5, 0.8, 0.002))


def make(*, chunked: bool = True, budget: int = 2048, running: int = 256, kv: int = 400_000) -> Scheduler:
    return Scheduler(Policy(chunked, budget, running, kv), TIMES)


def sequences(count: int, prompt: int = 100, output: int = 10) -> list[Sequence]:
    return [Sequence(prompt, output, output) for _ in range(count)]


@pytest.mark.parametrize("chunked", [True, False])
def test_every_sequence_gets_all_its_tokens_in_order(chunked: bool) -> None:
    emissions = run_burst(make(chunked=chunked), sequences(50))
    assert [len(times) for times in emissions.token_s] == [10] * 50
    assert all(times == sorted(set(times)) for times in emissions.token_s)


def test_a_lone_request_takes_one_prefill_and_a_decode_for_each_further_token() -> None:
    scheduler = make()
    (times,) = run_burst(scheduler, sequences(1, prompt=1000, output=5)).token_s
    assert scheduler.counters.steps == 5
    prefill_s = TIMES.base_s + TIMES.prefill_s(0, 1000, completes=True)
    assert times[0] == pytest.approx(prefill_s)
    # the second token's step reads the prompt and the first token
    assert times[1] - times[0] == pytest.approx(TIMES.base_s + TIMES.decode_s(1, 1001))


def test_a_step_is_never_shorter_than_the_strict_roofline() -> None:
    decode_s = TIMES.base_s + TIMES.decode_s(64, 64 * 500)
    flops = 64 * MODEL.decode_flops(500)
    read_bytes = MODEL.weight_bytes() + 64 * 500 * MODEL.kv_bytes_per_token()
    assert decode_s > max(flops / A100.flops_per_s, read_bytes / A100.memory_bytes_per_s)
    prefill_s = TIMES.base_s + TIMES.prefill_s(0, 4096, completes=True)
    assert prefill_s > MODEL.prefill_flops(4096) / A100.flops_per_s


def test_chunks_of_a_prompt_cost_what_the_prompt_costs() -> None:
    whole_s = TIMES.prefill_s(0, 4096, completes=True)
    halves_s = TIMES.prefill_s(0, 2048, completes=False) + TIMES.prefill_s(2048, 2048, completes=True)
    cached_reads_s = 2048 * MODEL.kv_bytes_per_token() / (A100.memory_bytes_per_s * 0.8)
    assert halves_s == pytest.approx(whole_s + cached_reads_s)


def test_chunked_prefill_keeps_to_its_budget_and_does_not_stop_decoding() -> None:
    scheduler = make(budget=256)
    early, late = sequences(1, prompt=10, output=50) + sequences(1, prompt=1000, output=2)
    scheduler.add(early)
    scheduler.begin_step()
    scheduler.end_step()
    scheduler.add(late)
    for _ in range(4):
        step = scheduler.begin_step()
        assert step is not None
        assert len(step.decoding) + sum(tokens for _, tokens in step.chunks) <= 256
        assert early in scheduler.end_step()
    assert late.generated == 1


def test_prefill_first_makes_the_running_wait() -> None:
    scheduler = make(chunked=False, budget=4096)
    early, late = sequences(1, prompt=10, output=50) + sequences(1, prompt=1000, output=2)
    scheduler.add(early)
    scheduler.begin_step()
    scheduler.end_step()
    scheduler.add(late)
    scheduler.begin_step()
    assert scheduler.end_step() == [late]
    scheduler.begin_step()
    assert scheduler.end_step() == [early, late]


def test_prefill_first_takes_whole_prompts_up_to_its_budget() -> None:
    scheduler = make(chunked=False, budget=1000)
    burst = sequences(3, prompt=400)
    for sequence in burst:
        scheduler.add(sequence)
    scheduler.begin_step()
    assert scheduler.end_step() == burst[:2]
    # a prompt above the budget still gets through, alone
    scheduler.add(Sequence(5000, 2, 2))
    seen = [scheduler.end_step() for _ in range(2) if scheduler.begin_step()]
    assert [len(gave) for gave in seen] == [1, 1]


def test_max_running_holds() -> None:
    scheduler = make(running=4)
    for sequence in sequences(10):
        scheduler.add(sequence)
    while (step := scheduler.begin_step()) is not None:
        assert len(step.decoding) + len(step.chunks) <= 4
        assert scheduler.running <= 4
        scheduler.end_step()


def test_a_full_cache_preempts_the_youngest_and_everybody_still_finishes() -> None:
    scheduler = make(kv=500)
    emissions = run_burst(scheduler, sequences(5, prompt=80, output=40))
    assert [len(times) for times in emissions.token_s] == [40] * 5
    assert scheduler.counters.preemptions > 0


def test_prefill_first_queues_what_may_not_fit_and_never_preempts() -> None:
    scheduler = make(chunked=False, kv=500)
    emissions = run_burst(scheduler, sequences(5, prompt=80, output=40))
    assert [len(times) for times in emissions.token_s] == [40] * 5
    assert scheduler.counters.preemptions == 0
    assert scheduler.kv_usage_ratio == 0


def test_cached_tokens_are_not_computed_again() -> None:
    cold, warm = make(), make()
    cold_s = run_burst(cold, [Sequence(2000, 2, 2)]).token_s[0][0]
    warm_s = run_burst(warm, [Sequence(2000, 2, 2, cached_tokens=1984)]).token_s[0][0]
    assert warm_s < cold_s / 2
    assert warm.counters.prompt_tokens == 16


def test_a_wholly_cached_prompt_still_computes_its_last_token() -> None:
    scheduler = make()
    (times,) = run_burst(scheduler, [Sequence(32, 3, 3, cached_tokens=32)]).token_s
    assert len(times) == 3
    assert scheduler.counters.prompt_tokens == 1


def test_a_dropped_sequence_gives_its_place_back_whenever_it_goes() -> None:
    scheduler = make(running=1)
    waiting, running = sequences(2)
    scheduler.add(running)
    scheduler.add(waiting)
    scheduler.begin_step()
    scheduler.drop(running)
    assert scheduler.end_step() == []
    assert scheduler.running == 0
    scheduler.begin_step()
    assert scheduler.end_step() == [waiting]
    scheduler.drop(waiting)
    scheduler.drop(waiting)
    assert scheduler.begin_step() is None
    assert scheduler.kv_usage_ratio == 0


def test_a_sequence_that_never_came_in_can_be_dropped() -> None:
    scheduler = make()
    (never,) = sequences(1)
    scheduler.drop(never)
    assert scheduler.begin_step() is None


def test_a_paused_sequence_gets_nothing_until_it_is_resumed() -> None:
    scheduler = make()
    stopped, other = sequences(2)
    scheduler.add(stopped)
    scheduler.add(other)
    scheduler.begin_step()
    scheduler.end_step()
    scheduler.pause(stopped)
    scheduler.begin_step()
    assert scheduler.end_step() == [other]
    scheduler.resume(stopped)
    scheduler.begin_step()
    assert set(scheduler.end_step()) == {stopped, other}


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 30)), min_size=1, max_size=12),
    chunked=st.booleans(),
    budget=st.integers(16, 600),
    running=st.integers(1, 8),
    kv=st.integers(330, 2000),
)
def test_whatever_is_asked_comes_out_whole(
    lengths: list[tuple[int, int]], chunked: bool, budget: int, running: int, kv: int
) -> None:
    scheduler = make(chunked=chunked, budget=budget, running=running, kv=kv)
    emissions = run_burst(scheduler, [Sequence(prompt, output, output) for prompt, output in lengths])
    assert [len(times) for times in emissions.token_s] == [output for _, output in lengths]
    assert scheduler.running == 0
    assert scheduler.kv_usage_ratio == 0
