"""What is known to fail is said at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench_runner.plan.presets import PRESETS
from bench_runner.plan.spec import WorkloadSpec
from engines.address import AddressPolicy
from engines.spec import TargetSpec
from services.domain.admission import (
    HouseRules,
    least_tokens,
    origin_of,
    pair_problems,
    target_problems,
    workload_problems,
)

RULES = HouseRules(AddressPolicy(), allow_launch=False, secret_origins={"KEY": "http://127.0.0.1"}, files_from=None)
FIXED = {"kind": "fixed", "tokens": 8}
LAUNCHED = {"kind": "process", "model_path": "m"}


def target(**more: Any) -> TargetSpec:
    base = {"engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1"}}
    return TargetSpec.model_validate(base | more)


def workload(inputs: dict[str, Any], outputs: int = 8, **more: Any) -> WorkloadSpec:
    prompts = {"kind": "synthetic", "input_tokens": inputs, "form": more.pop("form", "text")}
    return WorkloadSpec.model_validate(
        {"requests": 1, "prompts": prompts, "output_tokens": {"kind": "fixed", "tokens": outputs}} | more
    )


def test_a_sound_target_has_no_problems() -> None:
    assert target_problems(target(), RULES) == []
    named = target(reach={"kind": "attached", "url": "http://127.0.0.1:80/", "api_key_env": "KEY"})
    assert target_problems(named, RULES) == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"engine": "vlm"}, "t.engine"),
        ({"endpoint": "native"}, "t.endpoint"),
        ({"headers": {"Cookie": "x"}}, "t.headers"),
        ({"flags": ["--max-num-seqs=8", "--api-key", "sk-123"]}, "t.flags.2"),
        ({"tokenizer": "/etc/passwd"}, "t.tokenizer"),
        ({"reach": LAUNCHED}, "t.reach.kind"),
        ({"reach": {"kind": "attached", "url": "http://169.254.169.254"}}, "t.reach.url"),
        ({"reach": {"kind": "attached", "url": "http://127.0.0.1", "api_key_env": "OTHER"}}, "t.reach.api_key_env"),
        ({"reach": {"kind": "attached", "url": "https://127.0.0.1", "api_key_env": "KEY"}}, "t.reach.api_key_env"),
    ],
)
def test_a_target_is_refused_at_its_field(more: dict[str, Any], field: str) -> None:
    assert [p.field for p in target_problems(target(**more), RULES, "t")] == [field]


def test_launching_is_allowed_where_the_house_says_so_and_a_command_is_known() -> None:
    rules = HouseRules(AddressPolicy(), allow_launch=True, secret_origins={}, files_from=None)
    assert target_problems(target(reach=LAUNCHED), rules) == []
    assert [p.field for p in target_problems(target(reach=LAUNCHED, engine="bud"), rules)] == ["reach.kind"]


def test_a_launched_engine_is_given_no_secret() -> None:
    rules = HouseRules(AddressPolicy(), allow_launch=True, secret_origins={}, files_from=None)
    reach = {**LAUNCHED, "args": ["--api-key", "sk-123"], "env": {"HF_TOKEN": "hf_123", "VLLM_USE_V1": "1"}}
    problems = target_problems(target(reach=reach), rules)
    assert [p.field for p in problems] == ["reach.args.1", "reach.env.HF_TOKEN"]
    assert all("leave it out" in p.mend and "123" not in p.problem for p in problems)
    sound = {**LAUNCHED, "args": ["--max-num-batched-tokens", "8192"], "env": {"TOKENIZERS_PARALLELISM": "false"}}
    assert target_problems(target(reach=sound), rules) == []


def test_only_listed_containers_are_started_and_their_address_is_held_to_the_same_rules() -> None:
    rules = HouseRules(AddressPolicy(), allow_launch=False, secret_origins={}, files_from=None, containers=("c",))

    def fields(container: str, url: str, house: HouseRules = rules) -> list[str]:
        reach = {"kind": "container", "container": container, "url": url}
        return [p.field for p in target_problems(target(reach=reach), house)]

    assert fields("c", "http://127.0.0.1:8000") == []
    assert fields("other", "http://127.0.0.1:8000") == ["reach.container"]
    assert fields("c", "http://127.0.0.1:8000", RULES) == ["reach.container"]
    assert fields("c", "http://169.254.169.254") == ["reach.url"]


def test_files_are_read_below_one_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    rules = HouseRules(AddressPolicy(), allow_launch=False, secret_origins={}, files_from=folder)
    (folder / "ok.jsonl").write_text('{"prompt": "x"}\n')
    (folder / "bad.jsonl").write_text('{"prompt": 7}\n')

    def problems(path: str) -> list[str]:
        asked = workload({"kind": "fixed", "tokens": 1}, prompts={"kind": "dataset", "path": path})
        return [p.problem for p in workload_problems(asked, rules, "w")]

    assert problems(f"{folder}/ok.jsonl") == []
    assert "line 1" in problems(f"{folder}/bad.jsonl")[0]
    for outside in ("/etc/passwd", f"{folder}/../x", f"{folder}-twin/x", "relative.jsonl"):
        assert problems(outside) == ["is outside the service's folder of files"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "least"),
    [
        ({"kind": "fixed", "tokens": 100}, 28, 128),
        ({"kind": "uniform", "low": 1, "high": 50}, 5, 55),
        ({"kind": "normal", "mean": 99.6, "stddev": 50}, 1, 101),
        ({"kind": "list", "tokens": [1, 6144, 129_024]}, 2048, 2049),
    ],
)
def test_tokens_that_a_request_surely_needs(inputs: dict[str, Any], outputs: int, least: int) -> None:
    assert least_tokens(workload(inputs, outputs)) == least


def test_what_does_not_fit_the_models_context_is_refused() -> None:
    mistral = target(model="mistralai/Mistral-7B-Instruct-v0.2")
    fits, beyond = (workload({"kind": "fixed", "tokens": tokens}, 768) for tokens in (32_000, 32_001))
    assert list(pair_problems(mistral, fits, "w")) == []
    assert [p.field for p in pair_problems(mistral, beyond, "w")] == ["w.prompts.input_tokens"]
    assert list(pair_problems(target(model="not/known"), beyond, "w")) == []


def test_a_given_text_needs_its_output_at_least() -> None:
    text = {"kind": "text", "text": "x"}
    fits, beyond = (workload({"kind": "fixed", "tokens": 1}, tokens, prompts=text) for tokens in (32_767, 32_768))
    mistral = target(model="mistralai/Mistral-7B-Instruct-v0.2")
    assert list(pair_problems(mistral, fits, "w")) == []
    assert [p.field for p in pair_problems(mistral, beyond, "w")] == ["w.output_tokens"]


@pytest.mark.parametrize(
    ("inputs", "more", "given", "refused"),
    [
        (FIXED, {}, 2, False),
        (FIXED, {}, 1, True),
        (FIXED, {}, 3, True),
        (FIXED, {"lengths": "natural"}, 2, True),
        # what a context does not take is left out
        ({"kind": "list", "tokens": [1, 100_000]}, {}, 1, False),
        ({"kind": "list", "tokens": [1, 100_000]}, {}, 3, True),
        (FIXED, {"arrival": {"kind": "closed_loop", "concurrency": 1}, "duration_s": 1}, 1, False),
    ],
)
def test_matched_lengths_are_one_a_request(
    inputs: dict[str, Any], more: dict[str, Any], given: int, refused: bool
) -> None:
    matched: dict[str, Any] = {"requests": 2, "lengths": "length-matched", "matched_output_tokens": [5] * given}
    asked = workload(inputs, **matched | more)
    assert [p.field for p in workload_problems(asked, RULES, "w")] == ["w.matched_output_tokens"] * refused


def test_a_trace_is_read_below_the_same_folder_before_it_is_sent(tmp_path: Path) -> None:
    rules = HouseRules(AddressPolicy(), allow_launch=False, secret_origins={}, files_from=tmp_path)
    (tmp_path / "ok.jsonl").write_text('{"offset_s": 0}\n')
    (tmp_path / "bad.jsonl").write_text('{"offset_s": "soon"}\n')

    def problems(path: str, rules: HouseRules = rules) -> list[tuple[str, str]]:
        asked = workload(FIXED, arrival={"kind": "trace", "path": path})
        return [(p.field, p.problem) for p in workload_problems(asked, rules, "w")]

    assert problems(f"{tmp_path}/ok.jsonl") == []
    ((field, problem),) = problems(f"{tmp_path}/bad.jsonl")
    assert (field, "line 1" in problem) == ("w.arrival.path", True)
    assert problems("/etc/passwd") == [("w.arrival.path", "is outside the service's folder of files")]
    assert problems("/etc/passwd", RULES) == [("w.arrival.path", "this service reads no files for jobs")]


def test_a_trace_with_lengths_of_its_own_is_not_held_to_the_workloads(tmp_path: Path) -> None:
    asked = workload({"kind": "fixed", "tokens": 100_000}, arrival={"kind": "trace", "path": "x"})
    assert list(pair_problems(target(model="mistralai/Mistral-7B-Instruct-v0.2"), asked, "w")) == []


def test_a_dataset_that_is_too_short_is_told_at_the_door(tmp_path: Path) -> None:
    rules = HouseRules(AddressPolicy(), allow_launch=False, secret_origins={}, files_from=tmp_path)
    (tmp_path / "two.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    prompts = {"kind": "dataset", "path": str(tmp_path / "two.jsonl")}
    two, three = (workload(FIXED, requests=requests, prompts=prompts) for requests in (2, 3))
    assert workload_problems(two, rules, "w") == []
    assert [p.field for p in workload_problems(three, rules, "w")] == ["w.requests"]


def test_every_preset_may_be_asked_of_every_known_model() -> None:
    for model in ("Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2"):
        for preset in PRESETS.values():
            assert list(pair_problems(target(model=model), preset, "w")) == []


def test_token_ids_go_only_where_they_are_taken() -> None:
    ids = workload({"kind": "fixed", "tokens": 8}, form="token_ids")
    assert list(pair_problems(target(), ids, "w")) == []
    assert [p.field for p in pair_problems(target(engine="tgi"), ids, "w")] == ["w.prompts.form"]


def test_an_overlay_is_for_launched_servers() -> None:
    overlay = workload({"kind": "fixed", "tokens": 8}, lengths="overlay")
    assert [p.field for p in pair_problems(target(), overlay, "w")] == ["w.lengths"]
    assert list(pair_problems(target(reach=LAUNCHED), overlay, "w")) == []


def test_an_origin_is_scheme_host_and_port() -> None:
    assert origin_of("https://H.example/v1") == origin_of("https://h.example:443")
    assert origin_of("http://h") != origin_of("https://h")
