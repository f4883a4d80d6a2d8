"""What is not alike between the targets of a job is said, each thing in words; what is alike is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from bench_runner.fairness import FLAGS, PREFIX_CACHE, asymmetries, flags_of, treatment
from bench_runner.plan.spec import WorkloadSpec
from engines.catalog import ENGINES
from engines.launch.container_flags import AS_SHIPPED, MATCHED, model_flags
from engines.launch.container_flags import flags_of as compose_flags
from engines.spec import Attached, Launched, TargetSpec

QWEN = "Qwen/Qwen2.5-7B-Instruct"
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
GRAPHS_64 = "up to a batch of 64"
THEIRS = "somebody else's server, of unknown age"


def work(**given: Any) -> WorkloadSpec:
    fixed = {"kind": "fixed", "tokens": 128}
    body = {"requests": 10, "prompts": {"kind": "synthetic", "input_tokens": fixed}, "output_tokens": fixed, **given}
    return WorkloadSpec.model_validate(body)


def target(engine: str = "vllm", *flags: str, **given: Any) -> TargetSpec:
    body = {"engine": engine, "model": QWEN, "reach": {"kind": "attached", "url": "http://h:8000"}, "flags": flags}
    return TargetSpec.model_validate({**body, **given})


def arm(engine: str, flag_class: str, model: str = QWEN) -> TargetSpec:
    """An engine of docker-compose.yml, with the flags it has there."""
    words = [word for flag in compose_flags(engine, flag_class) for word in flag.words]
    return target(engine, *model_flags(engine, model, flag_class), *words, model=model, flag_class=flag_class)


def subjects(*targets: TargetSpec, workload: WorkloadSpec | None = None) -> dict[str, list[str]]:
    named = {f"t{number}": one for number, one in enumerate(targets)}
    return {one.subject: list(one.values.values()) for one in asymmetries(named, workload or work())}


def test_a_target_is_treated_as_itself() -> None:
    assert subjects(target(), target()) == {}
    assert subjects(target()) == {}


def test_the_matched_arms_of_two_engines_differ_in_what_cannot_be_told_alike_and_in_nothing_else() -> None:
    assert subjects(arm("vllm", MATCHED), arm("tgi", MATCHED)) == {
        "end of sequence": ["ignored on request", "never sampled: the model folder is an overlay"],
        "penalties": ["none, said in the request", "none, by the engine's own default"],
        "too many at once": ["queued", "refused above 512"],
    }


def test_as_shipped_the_two_engines_differ_in_their_defaults() -> None:
    found = subjects(arm("vllm", AS_SHIPPED), arm("tgi", AS_SHIPPED))
    assert {"prefill budget", "running sequences", "CUDA graphs", "longest sequence", "too many at once"} <= {*found}
    assert found["end of sequence"] == ["ignored on request", "may end an output early"]
    assert found["too many at once"] == ["queued", "refused above 128"]
    assert found["CUDA graphs"][1] == "not said: up to a batch of 32"
    assert "flag class" not in found


@pytest.mark.parametrize(
    ("one", "other", "subject", "values"),
    [
        (target(), target("vllm", "--no-enable-prefix-caching"), "prefix cache", ["on", "off"]),
        (target("tgi"), target("tgi", "PREFIX_CACHING=0"), "prefix cache", ["on", "off"]),
        (target("vllm", "--dtype=float16"), target("vllm", "--dtype bfloat16"), "dtype", ["float16", "bfloat16"]),
        (target("vllm", "--enforce-eager"), target("tgi", "--cuda-graphs", "1,64"), "CUDA graphs", ["none", GRAPHS_64]),
        (target(), target(flag_class="matched"), "flag class", ["as-shipped", "matched"]),
        (target(), target(endpoint="chat"), "route", ["completions", "chat"]),
        (target(hardware="A100-80GB"), target(hardware="H100-80GB"), "hardware", ["1 × A100-80GB", "1 × H100-80GB"]),
        (target(), target(reach={"kind": "process", "model_path": "m"}), "start", [THEIRS, "started for the run"]),
        (target(), target(model=MISTRAL), "model", [QWEN, MISTRAL]),
        (target(), target(model=MISTRAL), "BOS", ["the model has none", "added and counted"]),
    ],
)  # fmt: skip
def test_each_difference_is_said(one: TargetSpec, other: TargetSpec, subject: str, values: list[str]) -> None:
    assert subjects(one, other)[subject] == values


def test_a_socket_policy_that_hits_one_engine_only() -> None:
    slow = work(socket={"connections": "reused", "quick_ack": False})
    found = subjects(target(), target("tgi"), workload=slow)
    assert found["socket policy"] == [
        "nothing waits for an ACK of ours",
        "the first token waits some 30 ms for our ACK",
    ]
    assert "socket policy" not in subjects(target(), target("tgi"))


def test_lengths_decide_how_an_output_ends() -> None:
    for lengths in ("natural", "length-matched", "overlay"):
        assert "end of sequence" not in subjects(target(), target("tgi"), workload=work(lengths=lengths))


def test_a_run_s_own_flags_go_before_what_was_stated() -> None:
    stated = target("vllm", "--max-num-seqs 256")
    assert treatment(stated, work())["running sequences"] == "256"
    assert treatment(stated, work(), {"flags": ["--max-num-seqs", "64"]})["running sequences"] == "64"
    assert treatment(stated, work(), {"flags": []})["running sequences"] == "256"


def test_flags_of_a_launched_engine_are_its_arguments_and_variables() -> None:
    reach = Launched(model_path="m", args=("--a=1", "--b 2"), env={"PREFIX_CACHING": "0"})
    spec = TargetSpec(engine="tgi", model=QWEN, reach=reach)
    assert flags_of(spec) == ("--a", "1", "--b", "2", "PREFIX_CACHING=0")
    assert flags_of(spec, {"flags": ["--a=1", "--b 2"]}) == flags_of(spec)
    assert treatment(spec, work(), {"flags": ["--a=1", "--b 2"]})["prefix cache"] == "off"
    assert flags_of(TargetSpec(engine="tgi", model=QWEN, reach=Attached(url="http://h"))) == ()


def test_a_sentence_names_each_side_once() -> None:
    named = {"a": target(), "b": target(), "c": target("vllm", "--no-enable-prefix-caching")}
    (one,) = asymmetries(named, work())
    assert one.words == "prefix cache: a, b: on; c: off"
    assert asdict(one) == {
        "subject": "prefix cache",
        "values": {"a": "on", "b": "on", "c": "off"},
        "words": one.words,
    }


def test_only_engines_of_the_catalog_are_spoken_of() -> None:
    assert {engine for named in FLAGS.values() for engine in named} | {*PREFIX_CACHE} <= {*ENGINES}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_a_treatment_in_words(engine: str) -> None:
    assert all(treatment(target(engine), work()).values())
