"""Runs held against the published rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench_runner.references.held import held_against
from bench_runner.references.published import load_references
from tests.fakes.records import make_record
from tests.fakes.results import make_result

ROWS = load_references()


def published_run(**other: Any) -> dict[str, Any]:
    """The published vLLM row, as our records would have it."""
    records = [
        make_record(
            k,
            events_ms=(1000, 7050),
            planned_input_tokens=267,
            engine_input_tokens=267,
            planned_output_tokens=128,
            engine_output_tokens=128,
        )
        for k in range(101)
    ]
    return make_result(records, workload={"name": "published-a100"}, **other)


def test_the_published_vllm_row_is_found_with_its_ratios() -> None:
    (held,) = held_against(published_run(), ROWS)
    assert held.reference.duration_s == 7.05
    assert held.ratios["duration_s"] == pytest.approx(1)
    assert held.ratios["input_tokens_per_s"] == pytest.approx(1, abs=0.001)
    # 101 × 128 tokens of ours against the published 12,800
    assert held.ratios["output_tokens_per_s"] == pytest.approx(1.01, abs=0.001)
    assert "hardware: published A100, this run A100-80GB" in held.mismatches
    assert "precision: published not stated, this run BF16" in held.mismatches
    assert "total_output_tokens: published 12800, this run 12928" in held.mismatches
    assert not any("total_input_tokens" in words for words in held.mismatches)


def test_what_takes_a_run_out_of_its_class_is_noted() -> None:
    (held,) = held_against(published_run(simulated=True), ROWS)
    assert any("simulated" in words for words in held.mismatches)
    invalid = published_run() | {"validity": {"state": "INVALID", "reasons": []}}
    assert "this run is INVALID" in held_against(invalid, ROWS)[0].mismatches


@pytest.mark.parametrize(
    "target",
    [{"engine": "sglang"}, {"model": "Qwen/Qwen2.5-7B-Instruct"}, {"model": "mistralai/Mistral-7B-Instruct-v0.3"}],
)
def test_rows_of_another_engine_or_model_are_not_held_against(target: dict[str, str]) -> None:
    assert held_against(published_run(target=target), ROWS) == []


def test_another_workload_has_no_rows() -> None:
    assert held_against(make_result(), ROWS) == []


def qwen_run(lengths: tuple[int, ...], precision: str = "BF16") -> dict[str, Any]:
    records = [
        make_record(
            k,
            sent_ms=k * 30_000,
            events_ms=(k * 30_000 + 100, k * 30_000 + 20_480),
            planned_input_tokens=length,
            engine_output_tokens=2048,
            planned_output_tokens=2048,
        )
        for k, length in enumerate(lengths)
    ]
    workload = {"name": "qwen-speed", "arrival": {"kind": "closed_loop", "concurrency": 1}}
    target = {"model": "Qwen/Qwen2.5-7B-Instruct", "precision": precision}
    return make_result(records, workload=workload, target=target)


@pytest.mark.parametrize("lengths", [(1, 6144), (6144,)])
def test_each_input_length_is_held_against_its_own_row(lengths: tuple[int, ...]) -> None:
    held = held_against(qwen_run(lengths), ROWS)
    assert [one.reference.input_tokens_per_prompt for one in held] == list(lengths)
    assert held[-1].reference.output_tokens_per_s == 80.7
    assert held[-1].measured == {"output_tokens_per_s": pytest.approx(100)}
    assert held[-1].ratios["output_tokens_per_s"] == pytest.approx(100 / 80.7)


def test_only_rows_of_the_same_precision_are_held_against() -> None:
    (held,) = held_against(qwen_run((1,), precision="gptq-int4"), ROWS)
    assert held.reference.precision == "GPTQ-Int4"


def test_a_run_that_did_nothing_is_held_against_nothing() -> None:
    empty = make_result([], workload={"name": "published-a100"})
    assert held_against(empty, ROWS) == []


def test_natural_answers_are_held_by_their_speed_only() -> None:
    target = {"engine": "transformers", "hardware": "RTX 4060 8GB", "precision": "FP16"}
    result = make_result(
        [make_record(planned_output_tokens=512)],
        workload={"name": "explain-quantum", "lengths": "natural"},
        target=target,
        version="4.46",
    )
    (held,) = held_against(result, ROWS)
    assert held.ratios.keys() == {"output_tokens_per_s"}
    assert held.mismatches == ("model: published mistral-7b-instruct, this run mistral-7b-instruct-v0.2",)


def test_a_row_that_published_nothing_comparable_is_left_out() -> None:
    bare = [replace(ROWS[1], duration_s=None, input_tokens_per_s=None, output_tokens_per_s=None)]
    assert held_against(published_run(), bare) == []
