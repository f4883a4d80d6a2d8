"""The strict least time, held against the published rows and worked by hand."""

from __future__ import annotations

import pytest

from bench_runner.measure.roofline import LeastTime, Work, least_time

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
QWEN = "Qwen/Qwen2.5-7B-Instruct"
PUBLISHED = [Work(267, 128)] * 101


def bound(work: list[Work], **other: object) -> LeastTime:
    given = {"model": MISTRAL, "hardware": "A100-80GB", "precision": "BF16"} | other
    found = least_time(work, **given)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(("took_s", "ratio"), [(7.05, 0.26), (6.91, 0.26), (4.88, 0.37)])
def test_the_published_a100_rows(took_s: float, ratio: float) -> None:
    least_s = bound(PUBLISHED).least_s
    assert least_s == pytest.approx(1.80, abs=0.005)
    assert least_s / took_s == pytest.approx(ratio, abs=0.005)


def test_a_40_gb_card_moves_fewer_bytes_and_computes_as_much() -> None:
    large, small = bound(PUBLISHED), bound(PUBLISHED, hardware="A100-40GB")
    assert small.compute_s == large.compute_s
    assert small.memory_s == pytest.approx(large.memory_s * 2.039 / 1.555)


def test_one_request_by_hand() -> None:
    """Qwen at batch 1: 2,047 steps read 14.141 GB of weights each, and the cache of 1 + k tokens at step k."""
    found = bound([Work(1, 2048)], model=QWEN)
    weights = 2047 * 2 * (7_615_616_512 - 152_064 * 3584)
    cache = 57_344 * sum(1 + k for k in range(1, 2048))
    assert found.bytes == weights + cache
    assert found.least_s == found.memory_s == pytest.approx((weights + cache) / 2.039e12)


def test_few_slots_read_the_weights_more_often() -> None:
    work = [Work(100, 101)] * 10
    at_once, one_by_one = bound(work), bound(work, concurrency=1)
    weights = 2 * (7_241_732_096 - 32_000 * 4096)
    assert one_by_one.bytes - at_once.bytes == pytest.approx(900 * weights)
    assert one_by_one.flops == at_once.flops
    assert bound(work, concurrency=1000) == at_once


def test_int4_shrinks_bytes_and_not_flops() -> None:
    sixteen, four = bound(PUBLISHED), bound(PUBLISHED, precision="GPTQ-Int4")
    assert four.compute_s == sixteen.compute_s
    assert sixteen.bytes - four.bytes == pytest.approx(127 * 1.5 * (7_241_732_096 - 32_000 * 4096))


def test_eight_bit_activations_compute_twice_as_fast() -> None:
    assert bound(PUBLISHED, precision="fp8").compute_s == pytest.approx(bound(PUBLISHED).compute_s / 2)


def test_several_gpus_share_the_work() -> None:
    assert bound(PUBLISHED, gpus=4).least_s == pytest.approx(bound(PUBLISHED).least_s / 4)


def test_cached_prompt_tokens_are_not_computed() -> None:
    assert bound([Work(267, 1, 200)]).flops == bound([Work(67, 1)]).flops


def test_no_stated_precision_is_the_one_the_model_ships_in() -> None:
    assert bound(PUBLISHED, precision=None) == bound(PUBLISHED)


@pytest.mark.parametrize(
    "unknown",
    [
        {"model": "somebody/else"},
        {"model": None},
        {"hardware": "A100"},
        {"hardware": None},
        {"precision": "Q4_K_M"},
        {"hardware": "RTX 4060", "precision": "FP16"},
    ],
)
def test_what_is_not_known_or_does_not_fit_has_no_bound(unknown: dict[str, str | None]) -> None:
    given: dict[str, str | None] = {"model": MISTRAL, "hardware": "A100-80GB", "precision": "BF16"}
    given |= unknown
    assert least_time(PUBLISHED, **given) is None  # type: ignore[arg-type]


def test_no_work_has_no_bound() -> None:
    assert least_time([], model=MISTRAL, hardware="A100-80GB") is None
