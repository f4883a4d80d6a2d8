from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.errors import DatasetError, SpecError, TokenizerError
from bench_runner.plan.presets import PRESETS, apply_overrides
from bench_runner.plan.spec import (
    ClosedLoop,
    Constant,
    DatasetPrompts,
    FixedLength,
    FixedPrompt,
    ListedLength,
    Poisson,
    Prompts,
    SyntheticPrompts,
    Trace,
    UniformLength,
    WorkloadSpec,
)
from bench_runner.plan.tokenizer import ApproximateTokenizer, LocalTokenizer, Tokenizer
from bench_runner.plan.workload import MEASURED, DrawnWorkload, PlannedRequest, draw

BLOCK = 16


def workload(prompts: Prompts | int, requests: int = 10, outputs: int = 8, **more: Any) -> WorkloadSpec:
    if isinstance(prompts, int):
        prompts = SyntheticPrompts(input_tokens=FixedLength(tokens=prompts))
    return WorkloadSpec(requests=requests, prompts=prompts, output_tokens=FixedLength(tokens=outputs), **more)


def draw_with(tokenizer: Tokenizer, spec: WorkloadSpec, **changes: Any) -> DrawnWorkload:
    arguments: dict[str, Any] = {"seed": 1, "repeat": 0, "attempt": 1, "stream": MEASURED, "context_tokens": 4096}
    return draw(spec, tokenizer=tokenizer, **(arguments | changes))


def sizes(drawn: DrawnWorkload) -> list[tuple[int, int]]:
    return [(request.input_tokens, request.max_tokens) for request in drawn.requests]


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., DatasetPrompts]:
    def write(*rows: dict[str, object]) -> DatasetPrompts:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DatasetPrompts(path=str(path))

    return write


def test_the_mission_s_batch(tokenizer: LocalTokenizer) -> None:
    drawn = draw_with(tokenizer, PRESETS["burst-100x128x128"])
    assert sizes(drawn) == [(128, 128)] * 100
    for request in drawn.requests:
        assert isinstance(request.prompt, str)
        assert tokenizer.count(request.prompt) == 128
        assert request.exact
        assert request.characters == len(request.prompt)
    assert drawn.notes == ()


def test_the_same_again(tokenizer: LocalTokenizer) -> None:
    spec = workload(30)
    assert draw_with(tokenizer, spec) == draw_with(tokenizer, spec)


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"repeat": 1}, {"attempt": 2}, {"stream": "warmup-0"}, {"stream": "probe"}]
)
def test_other_draws_share_no_block(tokenizer: LocalTokenizer, change: dict[str, object]) -> None:
    spec = workload(40, requests=50)
    one, other = draw_with(tokenizer, spec), draw_with(tokenizer, spec, **change)
    blocks = [tokenizer.encode(str(r.prompt))[:BLOCK] for drawn in (one, other) for r in drawn.requests]
    assert len(set(blocks)) == 100
    assert one.digest != other.digest


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 3, st.sampled_from(["measured", "warmup-0"])), min_size=2, unique=True)
)
def test_no_two_batches_share_a_block(
    open_family: Callable[[str], LocalTokenizer], draws: list[tuple[int, int, int, str]]
) -> None:
    tokenizer = open_family("sentencepiece")
    blocks = [
        tokenizer.encode(str(request.prompt))[:BLOCK]
        for seed, repeat, attempt, stream in draws
        for request in draw_with(
            tokenizer, workload(20, requests=8), seed=seed, repeat=repeat, attempt=attempt, stream=stream
        ).requests
    ]
    assert len(set(blocks)) == len(blocks)


def test_a_digest_is_of_the_prompts_alone(tokenizer: LocalTokenizer) -> None:
    one = draw_with(tokenizer, workload(30))
    assert draw_with(tokenizer, workload(30, outputs=9)).digest == one.digest
    as_ids = SyntheticPrompts(input_tokens=FixedLength(tokens=30), form="token_ids")
    assert draw_with(tokenizer, workload(as_ids)).digest != one.digest
    assert len(one.digest) == 16
    assert int(one.digest, 16) >= 0


def test_a_digest_stays_the_same() -> None:
    """Held to a value: two results with one digest carried the same prompts, whichever version drew them."""
    assert draw_with(ApproximateTokenizer(), workload(12, requests=3)).digest == "289d06a8377e3a06"


def test_token_ids_are_those_of_the_text(open_family: Callable[[str], LocalTokenizer]) -> None:
    tokenizer = open_family("byte-level-bos")
    text = draw_with(tokenizer, workload(30))
    as_ids = draw_with(tokenizer, workload(SyntheticPrompts(input_tokens=FixedLength(tokens=30), form="token_ids")))
    assert [r.prompt for r in as_ids.requests] == [tokenizer.encode(str(r.prompt)) for r in text.requests]
    assert all(r.characters is None and r.input_tokens == 30 for r in as_ids.requests)


def test_estimates_say_so() -> None:
    drawn = draw_with(ApproximateTokenizer(), workload(30))
    assert not any(request.exact for request in drawn.requests)
    assert drawn.notes == ("prompt lengths are estimates: no tokenizer at hand",)
    with pytest.raises(TokenizerError, match="token ids need a tokenizer"):
        draw_with(
            ApproximateTokenizer(), workload(SyntheticPrompts(input_tokens=FixedLength(tokens=30), form="token_ids"))
        )


def test_overhead_is_part_of_the_length(tokenizer: LocalTokenizer) -> None:
    drawn = draw_with(tokenizer, workload(30), overhead=13)
    assert sizes(drawn) == [(30, 8)] * 10
    assert {tokenizer.count(str(r.prompt)) for r in drawn.requests} == {17}


def test_a_warm_up_and_a_second_attempt_do_the_same_work(tokenizer: LocalTokenizer) -> None:
    spec = WorkloadSpec(
        requests=20,
        prompts=SyntheticPrompts(input_tokens=UniformLength(low=10, high=90)),
        output_tokens=UniformLength(low=10, high=90),
    )
    one = sizes(draw_with(tokenizer, spec))
    assert one == sizes(draw_with(tokenizer, spec, stream="warmup-3", attempt=2))
    assert one != sizes(draw_with(tokenizer, spec, repeat=1))
    assert [i for i, _ in one] != [o for _, o in one]


class TestContext:
    def test_exactly_full_is_allowed(self, tokenizer: LocalTokenizer) -> None:
        assert sizes(draw_with(tokenizer, workload(30), context_tokens=38)) == [(30, 8)] * 10

    def test_too_long_names_the_larger_field(self, tokenizer: LocalTokenizer) -> None:
        with pytest.raises(SpecError, match=r"30 input . 8 output tokens are 38, longer than .* 37") as caught:
            draw_with(tokenizer, workload(30), context_tokens=37)
        assert caught.value.field == "workload.prompts.input_tokens"
        with pytest.raises(SpecError) as caught:
            draw_with(tokenizer, workload(30, outputs=80), context_tokens=100)
        assert caught.value.field == "workload.output_tokens"

    def test_an_unknown_context_is_not_checked(self, tokenizer: LocalTokenizer) -> None:
        assert len(draw_with(tokenizer, workload(300, requests=2), context_tokens=None).requests) == 2

    def test_a_given_text_too_long(self, tokenizer: LocalTokenizer) -> None:
        with pytest.raises(SpecError, match="longer than the target's context of 12"):
            draw_with(tokenizer, workload(FixedPrompt(text="word " * 10)), context_tokens=12)

    def test_listed_lengths_are_left_out_with_a_note(self, tokenizer: LocalTokenizer) -> None:
        drawn = draw_with(tokenizer, PRESETS["qwen-speed"], context_tokens=20_000)
        assert sizes(drawn) == [(1, 2048), (6144, 2048), (14336, 2048)]
        assert drawn.notes == (
            "input lengths left out, too long for the context of 20000 with their output: 30720, 63488, 129024",
        )

    def test_a_listed_length_without_room_for_a_word_is_left_out(
        self, open_family: Callable[[str], LocalTokenizer]
    ) -> None:
        drawn = draw_with(open_family("byte-level-bos"), PRESETS["qwen-speed"], context_tokens=9000)
        assert sizes(drawn) == [(6144, 2048)]
        assert "input lengths left out, no room for a word beside BOS and template (1 tokens): 1" in drawn.notes

    def test_no_length_left(self, tokenizer: LocalTokenizer) -> None:
        with pytest.raises(SpecError, match=r"no input length is left: .* context of 2048 .*6144") as caught:
            draw_with(tokenizer, PRESETS["qwen-speed"], context_tokens=2048)
        assert caught.value.field == "workload.prompts.input_tokens"

    def test_more_than_can_be_drawn(self, tokenizer: LocalTokenizer) -> None:
        with pytest.raises(SpecError, match="1000000000 input tokens in one batch") as caught:
            draw_with(tokenizer, workload(10_000_000, requests=100), context_tokens=None)
        assert caught.value.field == "workload.requests"


class TestMatchedLengths:
    def test_one_for_each_request(self, tokenizer: LocalTokenizer) -> None:
        spec = workload(20, requests=3, lengths="length-matched", matched_output_tokens=(5, 7, 6))
        assert sizes(draw_with(tokenizer, spec)) == [(20, 5), (20, 7), (20, 6)]
        assert sizes(draw_with(tokenizer, spec, stream="warmup-0")) == [(20, 5), (20, 7), (20, 6)]

    def test_another_number(self, tokenizer: LocalTokenizer) -> None:
        spec = workload(20, requests=3, lengths="length-matched", matched_output_tokens=(5, 7))
        with pytest.raises(SpecError, match="2 matched output lengths for 3 requests") as caught:
            draw_with(tokenizer, spec)
        assert caught.value.field == "workload.matched_output_tokens"

    def test_with_another_protocol(self, tokenizer: LocalTokenizer) -> None:
        with pytest.raises(SpecError, match='belong to lengths "length-matched", not "natural"'):
            draw_with(tokenizer, workload(20, requests=1, lengths="natural", matched_output_tokens=(5,)))

    def test_the_first_run_gives_them(self, tokenizer: LocalTokenizer) -> None:
        drawn = draw_with(tokenizer, workload(20, requests=2, lengths="length-matched"))
        assert sizes(drawn) == [(20, 8)] * 2
        assert drawn.notes[0].startswith("length-matched without lengths")

    def test_listed_inputs_keep_their_lengths(self, tokenizer: LocalTokenizer) -> None:
        spec = WorkloadSpec(
            requests=3,
            prompts=SyntheticPrompts(input_tokens=ListedLength(tokens=(10, 5000, 20))),
            output_tokens=FixedLength(tokens=8),
            lengths="length-matched",
            matched_output_tokens=(5, 6, 7),
        )
        assert sizes(draw_with(tokenizer, spec)) == [(10, 5), (20, 7)]
        sent_only = spec.model_copy(update={"matched_output_tokens": (5, 7)})
        assert sizes(draw_with(tokenizer, sent_only)) == [(10, 5), (20, 7)]

    def test_too_long_for_the_context(self, tokenizer: LocalTokenizer) -> None:
        spec = workload(20, requests=1, lengths="length-matched", matched_output_tokens=(5000,))
        with pytest.raises(SpecError, match="longer than the target's context"):
            draw_with(tokenizer, spec)


class TestGivenText:
    TEXT = "Explain quantum entanglement in simple terms"

    def test_is_sent_as_it_is(self, tokenizer: LocalTokenizer) -> None:
        drawn = draw_with(tokenizer, PRESETS["explain-quantum"], overhead=5)
        count = tokenizer.count(self.TEXT)
        assert drawn.requests == (PlannedRequest(self.TEXT, count + 5, True, 512, len(self.TEXT)),)
        assert drawn.notes == ()

    def test_is_not_sent_in_a_warm_up(self, tokenizer: LocalTokenizer) -> None:
        (request,) = draw_with(tokenizer, PRESETS["explain-quantum"], stream="warmup-0", overhead=5).requests
        assert request.prompt != self.TEXT
        assert request.input_tokens == tokenizer.count(self.TEXT) + 5
        assert tokenizer.count(str(request.prompt)) == tokenizer.count(self.TEXT)

    def test_many_of_it_say_so(self, tokenizer: LocalTokenizer) -> None:
        spec = apply_overrides(PRESETS["explain-quantum"], requests=3)
        drawn = draw_with(tokenizer, spec)
        assert {request.prompt for request in drawn.requests} == {self.TEXT}
        assert "a prefix cache serves all but the first" in drawn.notes[0]


class TestDataset:
    def rows(self, count: int) -> list[dict[str, object]]:
        return [{"prompt": f"Question {i}: why is that so?"} for i in range(count)]

    def test_entries_with_their_own_lengths(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        rows = dataset({"prompt": "one two"}, {"prompt": "three", "output_tokens": 77})
        drawn = draw_with(tokenizer, workload(rows, requests=2))
        by_prompt = {request.prompt: request for request in drawn.requests}
        assert by_prompt["one two"].max_tokens == 8
        assert by_prompt["three"].max_tokens == 77
        assert by_prompt["three"].input_tokens == tokenizer.count("three")
        assert all(request.exact for request in drawn.requests)

    def test_an_answer_gives_the_length(self, open_family: Callable[[str], LocalTokenizer], tmp_path: Path) -> None:
        path = tmp_path / "talks.json"
        turns = [{"from": "human", "value": "why"}, {"from": "gpt", "value": "because it is so"}]
        path.write_text(json.dumps([{"conversations": turns}]))
        spec = workload(DatasetPrompts(path=str(path), format="sharegpt"), requests=1)
        for family in ("byte-level", "byte-level-bos"):
            tokenizer = open_family(family)
            (request,) = draw_with(tokenizer, spec).requests
            assert request.max_tokens == tokenizer.count("because it is so") - tokenizer.bos
            assert request.prompt == "why"

    def test_repeats_take_other_entries(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        spec = workload(dataset(*self.rows(30)), requests=10)
        drawn = [draw_with(tokenizer, spec, repeat=repeat) for repeat in range(4)]
        first_three = [request.prompt for one in drawn[:3] for request in one.requests]
        assert len(set(first_three)) == 30
        assert drawn[0].notes == drawn[2].notes == ()
        assert "prompts recur between repeats" in drawn[3].notes[0]
        assert drawn[0].digest == draw_with(tokenizer, spec).digest

    def test_a_warm_up_sends_none_of_it(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        spec = workload(dataset(*self.rows(10)))
        measured, warm = draw_with(tokenizer, spec), draw_with(tokenizer, spec, stream="warmup-0")
        assert sizes(measured) == sizes(warm)
        assert {r.prompt for r in measured.requests}.isdisjoint({r.prompt for r in warm.requests})

    def test_too_few(self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]) -> None:
        with pytest.raises(DatasetError, match="has 9 usable entries, too few for 10 requests") as caught:
            draw_with(tokenizer, workload(dataset(*self.rows(9))))
        assert caught.value.field == "workload.requests"

    def test_entries_beyond_the_context_are_passed_over(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        long: list[dict[str, object]] = [{"prompt": "word " * 200}, {"prompt": "x", "output_tokens": 500}]
        spec = workload(dataset(*self.rows(10), *long), requests=10)
        drawn = draw_with(tokenizer, spec, context_tokens=100)
        assert len(drawn.requests) == 10
        assert all(request.input_tokens + request.max_tokens <= 100 for request in drawn.requests)
        with pytest.raises(DatasetError, match="only 10 of 12 entries fit the target's context of 100") as caught:
            draw_with(tokenizer, spec.model_copy(update={"requests": 11}), context_tokens=100)
        assert caught.value.field == "workload.requests"

    def test_matched_lengths_go_before_the_entries_own(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        rows = dataset(*({"prompt": f"row {i}", "output_tokens": 50} for i in range(2)))
        spec = workload(rows, requests=2, lengths="length-matched", matched_output_tokens=(3, 4))
        assert [request.max_tokens for request in draw_with(tokenizer, spec).requests] == [3, 4]

    def test_matched_lengths_pick_the_same_entries(
        self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]
    ) -> None:
        rows = dataset(*({"prompt": f"row {i}", "output_tokens": 20 + 10 * i} for i in range(10)))
        giver = draw_with(tokenizer, workload(rows, requests=4, lengths="length-matched"), context_tokens=80)
        spec = workload(rows, requests=4, lengths="length-matched", matched_output_tokens=(1, 2, 3, 4))
        taker = draw_with(tokenizer, spec, context_tokens=80)
        assert taker.digest == giver.digest
        assert [request.max_tokens for request in taker.requests] == [1, 2, 3, 4]

    def test_equal_entries_say_so(self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]) -> None:
        drawn = draw_with(tokenizer, workload(dataset(*[{"prompt": "same"}] * 4), requests=4))
        assert drawn.notes == ("3 dataset prompts are the same as others of this run",)

    def test_a_second_attempt_says_so(self, tokenizer: LocalTokenizer, dataset: Callable[..., DatasetPrompts]) -> None:
        spec = workload(dataset(*self.rows(100)))
        first, second = draw_with(tokenizer, spec), draw_with(tokenizer, spec, attempt=2)
        assert first.digest != second.digest
        assert "further attempt" in second.notes[0]


def test_prompts_too_short_to_differ_say_so(open_family: Callable[[str], LocalTokenizer]) -> None:
    drawn = draw_with(open_family("few-merges"), workload(1, requests=120))
    assert "so few tokens leave no more different texts" in drawn.notes[0]


class TestOpenLoops:
    """How many, how long and when, where moments are planned."""

    def test_a_batch_carries_its_schedule(self) -> None:
        drawn = draw_with(ApproximateTokenizer(), workload(30, requests=4, arrival=Constant(rate_per_s=2)))
        assert list(drawn.schedule.offsets_ns or ()) == [0, 500_000_000, 1_000_000_000, 1_500_000_000]
        assert draw_with(ApproximateTokenizer(), workload(30)).schedule.span_ns == 0
        looped = draw_with(ApproximateTokenizer(), workload(30, arrival=ClosedLoop(concurrency=3)))
        assert (looped.schedule.offsets_ns, looped.schedule.concurrency) == (None, 3)

    def test_only_what_the_duration_takes_is_drawn(self) -> None:
        timed = workload(30, requests=50, arrival=Constant(rate_per_s=2), duration_s=3)
        drawn = draw_with(ApproximateTokenizer(), timed)
        assert len(drawn.requests) == 6
        # The first requests of a longer run, and a warm-up is sent at the same moments.
        longer = draw_with(ApproximateTokenizer(), timed.model_copy(update={"duration_s": 5.0}))
        assert drawn.requests == longer.requests[:6]
        warm = draw_with(ApproximateTokenizer(), timed, stream="warmup-0")
        assert warm.schedule == drawn.schedule
        assert warm.digest != drawn.digest

    def test_a_load_that_is_sent_within_its_ramp_up_is_refused(self) -> None:
        short = workload(30, requests=3, arrival=Constant(rate_per_s=20), duration_s=2.0, ramp_up_s=0.5)
        with pytest.raises(SpecError, match=r"ramp-up of 0\.5 s.*nothing is measured") as refusal:
            draw_with(ApproximateTokenizer(), short)
        assert refusal.value.field == "workload.ramp_up_s"
        assert draw_with(ApproximateTokenizer(), short.model_copy(update={"requests": 30})).requests

    def test_a_warm_up_of_a_long_run_is_short(self) -> None:
        timed = workload(30, requests=500, arrival=Constant(rate_per_s=1), duration_s=400.0, ramp_up_s=10.0)
        assert draw_with(ApproximateTokenizer(), timed).schedule.span_ns == 400_000_000_000
        assert draw_with(ApproximateTokenizer(), timed, stream="warmup-0").schedule.span_ns == 40_000_000_000

    def test_matched_lengths_of_a_run_by_duration(self) -> None:
        timed = workload(
            30,
            requests=60,
            arrival=Constant(rate_per_s=1),
            duration_s=40.0,
            lengths="length-matched",
            matched_output_tokens=tuple(range(1, 41)),
        )
        assert [output for _, output in sizes(draw_with(ApproximateTokenizer(), timed))] == list(range(1, 41))
        warm = draw_with(ApproximateTokenizer(), timed, stream="warmup-0")
        assert [output for _, output in sizes(warm)] == list(range(1, 31))

    def test_requests_left_out_leave_an_open_loop_its_rate(self) -> None:
        prompts = SyntheticPrompts(input_tokens=ListedLength(tokens=(30, 5000, 40)))
        drawn = draw_with(ApproximateTokenizer(), workload(prompts, requests=3, arrival=Constant(rate_per_s=1)))
        assert [size for size, _ in sizes(drawn)] == [30, 40]
        assert list(drawn.schedule.offsets_ns or ()) == [0, 1_000_000_000]

    def test_repeats_of_one_dataset_by_duration_share_no_prompt(self, dataset: Callable[..., DatasetPrompts]) -> None:
        rows = [{"prompt": f"prompt number {k}"} for k in range(200)]
        spec = workload(dataset(*rows), requests=40, arrival=Poisson(rate_per_s=10), duration_s=2)
        drawn = [draw_with(ApproximateTokenizer(), spec, repeat=repeat) for repeat in range(5)]
        prompts = [request.prompt for one in drawn for request in one.requests]
        assert len({len(one.requests) for one in drawn}) > 1
        assert len(set(prompts)) == len(prompts)


class TestTraces:
    """Lengths and moments from a file."""

    def trace(self, tmp_path: Path, rows: list[dict[str, Any]], form: str = "offsets") -> Trace:
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Trace.model_validate({"path": str(path), "format": form})

    def test_lengths_come_from_the_trace(self, tokenizer: LocalTokenizer, tmp_path: Path) -> None:
        rows = [
            {"offset_s": 0.5, "input_tokens": 20, "output_tokens": 5},
            {"offset_s": 1.0},
            {"offset_s": 2.0, "input_tokens": 40},
        ]
        drawn = draw_with(tokenizer, workload(30, requests=3, arrival=self.trace(tmp_path, rows)))
        assert sizes(drawn) == [(20, 5), (30, 8), (40, 8)]
        assert [tokenizer.count(str(request.prompt)) for request in drawn.requests] == [20, 30, 40]
        assert list(drawn.schedule.offsets_ns or ()) == [500_000_000, 1_000_000_000, 2_000_000_000]
        assert drawn.notes == ()

    def test_what_does_not_fit_is_left_out_with_its_moment(self, tmp_path: Path) -> None:
        rows = [
            {"timestamp": 1000 * k, "input_length": tokens, "output_length": 6}
            for k, tokens in enumerate((30, 9000, 40))
        ]
        drawn = draw_with(
            ApproximateTokenizer(), workload(30, requests=3, arrival=self.trace(tmp_path, rows, "mooncake"))
        )
        assert sizes(drawn) == [(30, 6), (40, 6)]
        assert list(drawn.schedule.offsets_ns or ()) == [0, 2_000_000_000]
        assert any("too long for the context of 4096 with their output: 9000" in note for note in drawn.notes)
        assert any("hash_ids" in note for note in drawn.notes)

    def test_a_shorter_trace_is_said(self, tmp_path: Path) -> None:
        drawn = draw_with(
            ApproximateTokenizer(), workload(30, requests=5, arrival=self.trace(tmp_path, [{"offset_s": 1}]))
        )
        assert len(drawn.requests) == 1
        assert "the trace has 1 requests for the 5 that may be sent" in drawn.notes

    def test_given_prompts_keep_their_lengths(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path, [{"offset_s": 1, "input_tokens": 99, "output_tokens": 99}] * 2)
        drawn = draw_with(ApproximateTokenizer(), workload(FixedPrompt(text="one two"), requests=2, arrival=trace))
        assert [output for _, output in sizes(drawn)] == [8, 8]
        assert any("only its moments are used" in note for note in drawn.notes)

    def test_a_broken_trace_names_its_line(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path, [{"offset_s": 1}, {"offset_s": 0}])
        with pytest.raises(DatasetError, match=r"trace\.jsonl, line 2: its moment is before"):
            draw_with(ApproximateTokenizer(), workload(30, requests=2, arrival=trace))
