"""Like with like along one axis: ratios where all else is equal, the fields that differ where it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench_runner.compare import Comparison, compare
from bench_runner.errors import SpecError
from bench_runner.likeness import AXES
from bench_runner.plan.spec import ClosedLoop, FixedLength
from engines.contract import FailureKind
from engines.spec import Launched
from tests.fakes.records import make_record
from tests.fakes.results import make_result

TGI = {"engine": "tgi"}


def ratio(found: Comparison, figure: str, side: int = 1) -> float | None:
    return found.sides[side].figures[figure].ratio


def fields_that_differ(found: Comparison) -> list[str]:
    assert not found.comparable
    assert all(not side.figures for side in found.sides)
    return [difference.field for difference in found.differences]


def test_two_engines_with_all_else_equal() -> None:
    found = compare([make_result(took_ms=1000), make_result(target=TGI, version="3.3.7", took_ms=800)], "engine")
    assert found.comparable
    assert [side.value for side in found.sides] == ["vllm", "tgi"]
    assert ratio(found, "duration_s") == pytest.approx(0.8)
    assert ratio(found, "output_tokens_per_s") == pytest.approx(1.25)
    assert ratio(found, "ttft_s.p50") == pytest.approx(0.8)
    assert ratio(found, "output_tokens_per_s", side=0) == 1
    assert found.sides[1].figures["duration_s"].verdict is None
    assert found.notes == ("version differs with engine (vllm: 0.32.0, tgi: 3.3.7)",)


def test_what_the_sides_are_not_alike_in_is_said_beside_the_figures() -> None:
    found = compare([make_result(), make_result(target=TGI | {"flags": ["--cuda-graphs", "1,100"]})], "engine")
    told = {one.subject: one.values for one in found.asymmetries}
    assert told["CUDA graphs"]["tgi"] == "up to a batch of 100"
    assert told["too many at once"] == {"vllm": "queued", "tgi": "refused above 128"}
    assert found.to_json()["asymmetries"][0]["words"] == found.asymmetries[0].words
    assert compare([make_result(), make_result(version="0.33.0")], "version").asymmetries == ()
    unreadable = make_result(target=TGI)
    unreadable["spec"]["workload"]["of_another_version"] = 1
    assert compare([make_result(), unreadable], "engine").asymmetries == ()


def test_repeats_are_medians_with_a_range_and_a_verdict() -> None:
    slow = [make_result(took_ms=ms, repeat=k) for k, ms in enumerate((1000, 1020, 980))]
    fast = [make_result(took_ms=ms, repeat=k, target=TGI) for k, ms in enumerate((800, 790, 820))]
    found = compare([*slow, *fast], "engine")
    duration = found.sides[1].figures["duration_s"]
    assert duration.spread.n == 3
    assert duration.spread.median == pytest.approx(0.8)
    assert duration.ratio == pytest.approx(0.8)
    assert duration.ratio_range is not None
    assert list(duration.ratio_range) == pytest.approx([0.79 / 1.02, 0.82 / 0.98])
    assert duration.verdict == "better"
    assert found.sides[1].figures["output_tokens_per_s"].verdict == "better"
    assert found.sides[0].figures["duration_s"].verdict == "same"
    back = compare([*fast, *slow], "engine")
    assert back.sides[1].figures["duration_s"].verdict == "worse"
    assert back.sides[1].figures["output_tokens_per_s"].verdict == "worse"


def in_start(name: str, **more: Any) -> dict[str, Any]:
    result = make_result(**more)
    result["environment"]["start"] = {"id": name, "burst": 0}
    return result


def test_starts_are_the_samples_where_runs_are_bursts_of_them() -> None:
    took = {"s1": (1000, 1010, 990), "s2": (1100, 1090, 1500), "s3": (950, 950, 940)}
    slow = [in_start(name, took_ms=ms) for name, bursts in took.items() for ms in bursts]
    fast = [in_start(f"t{k}", took_ms=ms, target=TGI) for k, ms in enumerate((800, 810, 790, 805, 815, 800))]
    found = compare([*slow, *fast], "engine")
    assert [(side.starts, len(side.runs)) for side in found.sides] == [(3, 9), (6, 6)]
    baseline = found.sides[0].figures["duration_s"].spread
    assert (baseline.n, baseline.bursts) == (3, 9)
    assert baseline.median == pytest.approx(1.0)
    assert [baseline.min, baseline.max] == pytest.approx([0.95, 1.1]), "of medians: 1.5 is one burst"
    assert found.sides[1].figures["duration_s"].verdict == "better"
    few = compare([*slow, *(in_start("t0", took_ms=800 + k, target=TGI) for k in range(20))], "engine")
    assert few.sides[1].figures["duration_s"].verdict is None, "twenty bursts of one start are one sample"
    assert few.sides[1].figures["duration_s"].spread.interval is None


def test_blocks_on_a_server_that_nobody_started_are_said_to_be_no_starts() -> None:
    attached, other = in_start("s1"), in_start("s2", target=TGI)
    attached["environment"]["start"]["engine_started"] = False
    notes = compare([attached, other], "engine").notes
    assert [note for note in notes if "was not started" in note] == [
        "vllm was not started for its runs: its blocks are of one server, and tell of no other start"
    ]


def test_ranges_that_touch_are_the_same() -> None:
    one = [make_result(took_ms=ms) for ms in (1000, 1020, 980)]
    other = [make_result(took_ms=ms, target=TGI) for ms in (990, 970, 960)]
    assert compare([*one, *other], "engine").sides[1].figures["duration_s"].verdict == "same"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": TGI | {"hardware": "H100"}}, "hardware"),
        ({"target": TGI | {"precision": "FP8"}}, "precision"),
        ({"target": TGI | {"flag_class": "matched"}}, "flag_class"),
        ({"target": TGI | {"gpus": 2}}, "gpus"),
        ({"target": TGI | {"model": "Qwen/Qwen2.5-7B-Instruct"}}, "model"),
        ({"target": TGI | {"endpoint": "native"}}, "endpoint"),
        ({"target": TGI, "simulated": True}, "simulated"),
        ({"target": TGI, "workload": {"output_tokens": FixedLength(tokens=4)}}, "workload.output_tokens.tokens"),
        ({"target": TGI, "workload": {"lengths": "overlay"}}, "workload.lengths"),
        ({"target": TGI, "workload": {"socket": {"connections": "reused"}}}, "workload.socket.connections"),
        ({"target": TGI, "workload": {"temperature": 0.7}}, "workload.temperature"),
        ({"target": TGI, "scrape_interval_s": 1.0}, "scrape_interval_s"),
        ({"target": TGI, "scrape_interval_s": None}, "scrape_interval_s"),
    ],
)
def test_whatever_else_differs_is_named_with_both_values(change: dict[str, Any], field: str) -> None:
    other = make_result(**change)
    found = compare([make_result(), other], "engine", ["a", "b"])
    assert field in fields_that_differ(found)
    difference = next(one for one in found.differences if one.field == field)
    assert set(difference.values) == {"a", "b"}
    assert difference.values["a"] != difference.values["b"]


@pytest.mark.parametrize(
    ("axis", "change"),
    [
        ("version", {"version": "0.33.0"}),
        ("model", {"target": {"model": "Qwen/Qwen2.5-7B-Instruct"}}),
        ("flags", {"target": {"flags": ("--enforce-eager",), "flag_class": "matched"}}),
        ("flag_class", {"target": {"flags": ("--enforce-eager",), "flag_class": "matched"}}),
        ("precision", {"target": {"precision": "AWQ", "model": "mistralai/Mistral-7B-Instruct-v0.2-AWQ"}}),
        ("hardware", {"target": {"hardware": "H100"}}),
        ("gpus", {"target": {"gpus": 2, "flags": ("--tensor-parallel-size=2",)}}),
        ("endpoint", {"target": {"endpoint": "chat"}}),
        ("output_tokens", {"workload": {"output_tokens": FixedLength(tokens=4)}}),
        (
            "input_tokens",
            {"workload": {"prompts": {"kind": "synthetic", "input_tokens": {"tokens": 9, "kind": "fixed"}}}},
        ),
        ("socket", {"workload": {"socket": {"quick_ack": False}}}),
    ],
)
def test_each_axis_sets_its_own_fields_free_and_no_others(axis: str, change: dict[str, Any]) -> None:
    pair = [make_result(), make_result(**change)]
    # tokens off plan are not this test's matter
    for result in pair:
        result["validity"] = {"state": "VALID", "reasons": []}
    assert compare(pair, axis).comparable
    for other in AXES.keys() - {axis, "flags", "flag_class", "gpus", "engine", "precision"}:
        assert not compare(pair, other).comparable


def capped(
    *watts: float | None, of_target: bool = True, driver: str = "580.95.05", version: str = "0.32.0"
) -> dict[str, Any]:
    """A run on cards that may draw so much each."""
    result = make_result(version=version)
    cards = [{"index": index, "power_limit_w": limit} for index, limit in enumerate(watts)]
    told = {"driver": driver, "cuda": "13.0", "count": len(cards), "of_target": of_target, "cards": cards}
    result["environment"]["cards"] = told
    return result


def test_cards_that_may_draw_more_are_other_hardware() -> None:
    assert fields_that_differ(compare([capped(700), capped(400)], "version")) == ["power_limits_w"]
    found = compare([capped(700), capped(400)], "power_limit")
    assert [side.value for side in found.sides] == ["700", "400"]
    assert found.comparable
    assert found.asymmetries == ()
    (other,) = compare([capped(700), capped(400, driver="590.1")], "power_limit").asymmetries
    assert other.words == "driver of the cards: 700: 580.95.05, CUDA 13.0; 400: 590.1, CUDA 13.0"
    # Of cards that nobody says are the target's, nothing is known.
    found = compare([capped(700, of_target=False), make_result(version="0.33.0")], "version")
    assert (found.comparable, found.notes) == (True, ())


def test_a_power_limit_that_one_side_does_not_know_is_a_note() -> None:
    unknown = make_result()
    found = compare([unknown, capped(400, version="0.33.0")], "version")
    assert found.comparable
    assert found.notes == ("the power limit of 0.32.0 is not known: it may differ",)
    mixed = compare([unknown, capped(400), capped(400, version="0.33.0")], "version")
    assert (mixed.comparable, mixed.notes) == (
        True,
        ("the power limit of some runs of 0.32.0 is not known: it may differ",),
    )
    # What one run does not know hides nothing of what two others do.
    three = compare([unknown, capped(400), capped(300, version="0.33.0")], "version")
    assert fields_that_differ(three) == ["power_limits_w"]


def test_a_power_limit_that_one_of_two_cards_does_not_tell_is_not_known_of_that_card_alone() -> None:
    found = compare([capped(400, None), capped(400, 300, version="0.33.0")], "version")
    assert (found.comparable, found.notes) == (True, ("the power limit of 0.32.0 is not known: it may differ",))
    found = compare([capped(400, None), capped(300, None, version="0.33.0")], "version")
    assert fields_that_differ(found) == ["power_limits_w"]


def test_power_limits_are_held_against_each_other_in_whole_watts() -> None:
    assert compare([capped(400.0), capped(400.1, version="0.33.0")], "version").comparable
    assert fields_that_differ(compare([capped(400.0), capped(401.0, version="0.33.0")], "version")) == [
        "power_limits_w"
    ]
    sides = compare([capped(400.0), capped(399.9), capped(300.0)], "power_limit").sides
    assert [(side.value, len(side.runs)) for side in sides] == [("400", 2), ("300", 1)]


def test_concurrency_is_an_axis_of_the_closed_loop() -> None:
    def at(concurrency: int, requests: int) -> dict[str, Any]:
        records = [make_record(k) for k in range(requests)]
        return make_result(records, workload={"arrival": ClosedLoop(concurrency=concurrency)})

    found = compare([at(1, 10), at(8, 80)], "concurrency")
    assert found.comparable
    assert [side.value for side in found.sides] == ["1", "8"]
    assert "workload.requests differs with concurrency (1: 10, 8: 80)" in found.notes
    burst = compare([at(1, 10), make_result()], "concurrency")
    assert "workload.arrival.kind" in fields_that_differ(burst)


def test_a_side_must_be_of_one_kind_even_in_what_the_axis_sets_free() -> None:
    mixed = [make_result(), make_result(version="0.33.0"), make_result(target=TGI)]
    assert fields_that_differ(compare(mixed, "engine")) == ["version"]


def test_launched_flags_count_as_flags() -> None:
    eager = Launched(model_path="m", args=("--enforce-eager",))
    pair = [make_result(target={"reach": Launched(model_path="m")}), make_result(target={"reach": eager})]
    assert fields_that_differ(compare(pair, "version")) == ["flags"]
    assert [side.value for side in compare(pair, "flags").sides] == ["none", "--enforce-eager"]


def contained(*found: str, version: str = "0.32.0", **target: Any) -> dict[str, Any]:
    """A run of a container, with the flags it was found to have."""
    reach = {"kind": "container", "container": "vllm", "url": "http://vllm:8000"}
    result = make_result(target={"reach": reach} | target, version=version)
    result["environment"]["server"]["flags"] = list(found)
    return result


def test_a_container_s_flags_are_those_it_was_found_with() -> None:
    many, few = ("--max-num-seqs", "256"), ("--max-num-seqs", "8")
    for stated in ((), many):
        runs = [contained(*found, flags=stated) for found in (many, many, few, few)]
        found = compare([*runs, make_result(target=TGI), make_result(target=TGI)], "engine")
        assert fields_that_differ(found) == ["flags"]
        assert [side.value for side in compare(runs, "flags").sides] == ["--max-num-seqs 256", "--max-num-seqs 8"]
    stated_only = [contained(flags=many), contained(flags=few)]
    assert [side.value for side in compare(stated_only, "flags").sides] == ["--max-num-seqs 256", "--max-num-seqs 8"]


def test_what_comes_with_a_container_s_image_or_model_is_no_flag_of_its_own() -> None:
    old = contained("--max-num-seqs", "8", "CUDA_VERSION=12.8", "NVIDIA_REQUIRE_CUDA=cuda>=12.8")
    new = contained("--max-num-seqs", "8", "CUDA_VERSION=13.0", "NVIDIA_REQUIRE_CUDA=cuda>=13.0", version="0.33.0")
    assert compare([old, new], "version").comparable
    names = ("mistralai/Mistral-7B-Instruct-v0.2", "Qwen/Qwen2.5-7B-Instruct")
    runs = [contained(f"/models/{name.split('/')[1]}", "--served-model-name", name, model=name) for name in names]
    assert compare(runs, "model").comparable


def test_a_run_that_is_not_valid_is_left_out() -> None:
    failed = make_result([make_record(k, failure=FailureKind.ABORTED) for k in range(10)], target=TGI)
    found = compare([make_result(), failed], "engine", ["good", "bad"])
    assert not found.comparable
    assert [(one.run, one.state) for one in found.left_out] == [("bad", "INVALID")]
    assert "failures" in found.left_out[0].reasons
    assert found.notes == ("nothing to compare with: all VALID runs have engine vllm (1 left out as not VALID)",)
    beside = compare([make_result(), failed, make_result(target=TGI, took_ms=500)], "engine")
    assert beside.comparable
    assert beside.sides[1].runs == ("run 3",)


@pytest.mark.parametrize("results", [[], [make_result([make_record(failure=FailureKind.ABORTED)])]])
def test_nothing_valid_is_nothing_to_compare(results: list[dict[str, Any]]) -> None:
    found = compare(results, "engine")
    assert not found.comparable
    assert found.notes == (f"nothing to compare: none of the {len(results)} runs is VALID",)


def test_an_axis_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="axis must be one of engine, version") as caught:
        compare([make_result()], "colour")
    assert caught.value.field == "axis"


def test_natural_lengths_are_never_ranked_by_tokens_over_time() -> None:
    natural = {"lengths": "natural"}
    found = compare([make_result(workload=natural), make_result(workload=natural, target=TGI)], "engine")
    assert found.comparable
    figures = found.sides[1].figures
    assert "ttft_s.p50" in figures
    assert not {"output_tokens_per_s", "duration_s", "e2e_s.p50", "requests_per_s"} & figures.keys()
    assert any("nothing is ranked" in note for note in found.notes)


def test_matched_lengths_must_have_given_the_same_tokens() -> None:
    def matched(tokens: int, **target: Any) -> dict[str, Any]:
        given = {"lengths": "length-matched", "matched_output_tokens": (tokens,) * 10, "name": f"as {tokens}"}
        return make_result(
            [make_record(k, engine_output_tokens=tokens) for k in range(10)], workload=given, target=target
        )

    same = [matched(3, engine="tgi"), matched(3)]
    assert compare(same, "engine").comparable
    other = [matched(3, engine="tgi"), matched(2)]
    other[1]["validity"] = {"state": "VALID", "reasons": []}
    assert fields_that_differ(compare(other, "engine")) == ["output_tokens"]


def test_two_models_are_noted_as_two_tokenizers() -> None:
    found = compare([make_result(), make_result(target={"model": "Qwen2.5-7B-Instruct"})], "model")
    assert any("two tokenizers" in note for note in found.notes)


def test_different_seeds_and_totals_are_noted() -> None:
    fewer = make_result([make_record(k, engine_output_tokens=2) for k in range(10)], target=TGI, seed=1)
    fewer["validity"] = {"state": "VALID", "reasons": []}
    notes = compare([make_result(), fewer], "engine").notes
    assert "output tokens differ (vllm: 30, tgi: 20)" in notes
    assert "prompts were drawn from different seeds" in notes


def test_the_same_model_under_another_organisation_is_the_same() -> None:
    local = make_result(target=TGI | {"model": "/models/mistral-7b-instruct-v0.2"})
    assert compare([make_result(), local], "engine").comparable


def test_an_answer_is_plain_json() -> None:
    found = compare([make_result(), make_result(target=TGI)], "engine").to_json()
    assert json.loads(json.dumps(found))["sides"][1]["figures"]["duration_s"]["ratio"] == 1
