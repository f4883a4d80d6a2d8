from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_runner.errors import SpecError
from bench_runner.plan.presets import (
    DESCRIPTIONS,
    PRESETS,
    apply_overrides,
    load_workload,
    parse_workload,
    parse_workload_text,
)
from bench_runner.plan.spec import (
    Burst,
    ClosedLoop,
    FixedLength,
    FixedPrompt,
    ListedLength,
    Poisson,
    SyntheticPrompts,
    digest,
)

BODY = {
    "requests": 3,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 10}},
    "output_tokens": {"kind": "uniform", "low": 5, "high": 9},
}


def synthetic(name: str) -> SyntheticPrompts:
    prompts = PRESETS[name].prompts
    assert isinstance(prompts, SyntheticPrompts)
    return prompts


def test_each_preset_has_its_name_and_a_line() -> None:
    assert set(PRESETS) == set(DESCRIPTIONS)
    assert all(name == workload.name for name, workload in PRESETS.items())
    assert all("\n" not in line and len(line) < 100 for line in DESCRIPTIONS.values())
    assert len({digest(workload) for workload in PRESETS.values()}) == len(PRESETS)


def test_the_mission_s_batch() -> None:
    burst = PRESETS["burst-100x128x128"]
    assert burst.requests == 100
    assert synthetic("burst-100x128x128") == SyntheticPrompts(input_tokens=FixedLength(tokens=128), form="text")
    assert burst.output_tokens == FixedLength(tokens=128)
    assert burst.arrival == Burst()
    assert burst.lengths == "ignore-eos"
    assert burst.temperature == 0


def test_the_published_table() -> None:
    published = PRESETS["published-a100"]
    assert published.requests == 101
    assert synthetic("published-a100").input_tokens == FixedLength(tokens=267)
    assert published.requests * 267 == 26_967
    assert published.output_tokens == FixedLength(tokens=128)
    assert published.arrival == Burst()


def test_qwen_s_speed_table() -> None:
    speed = PRESETS["qwen-speed"]
    lengths = synthetic("qwen-speed").input_tokens
    assert lengths == ListedLength(tokens=(1, 6144, 14336, 30720, 63488, 129024))
    assert speed.requests == 6
    assert speed.output_tokens == FixedLength(tokens=2048)
    assert speed.arrival == ClosedLoop(concurrency=1)


def test_the_single_prompt() -> None:
    single = PRESETS["explain-quantum"]
    assert single.prompts == FixedPrompt(text="Explain quantum entanglement in simple terms")
    assert single.requests == 1
    assert single.lengths == "natural"


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [("chat-1k-1k", 1024, 1024), ("summarise-8k-1k", 8192, 1024), ("generate-1k-8k", 1024, 8192)],
)
def test_the_long_ones(name: str, inputs: int, outputs: int) -> None:
    assert synthetic(name).input_tokens == FixedLength(tokens=inputs)
    assert PRESETS[name].output_tokens == FixedLength(tokens=outputs)
    assert isinstance(PRESETS[name].arrival, ClosedLoop)


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(SpecError, match=r"no workload named 'brust'.*burst-100x128x128.*qwen-speed") as caught:
        load_workload("brust")
    assert caught.value.field == "workload"


def test_a_preset_by_name() -> None:
    assert load_workload("qwen-speed") is PRESETS["qwen-speed"]


def test_yaml_and_json_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(BODY))
    (tmp_path / "own.yaml").write_text(
        "requests: 3\n"
        "prompts: {kind: synthetic, input_tokens: {kind: fixed, tokens: 10}}\n"
        "output_tokens:\n  kind: uniform\n  low: 5\n  high: 9\n"
    )
    own = load_workload(str(tmp_path / "own.json"))
    assert own == load_workload(str(tmp_path / "own.yaml"))
    assert own.name == "own"
    assert own == parse_workload(BODY | {"name": "own"})


def test_a_body_without_a_file() -> None:
    text = json.dumps(BODY)
    assert parse_workload_text(text, form="json") == parse_workload_text(text, form="yaml") == parse_workload(BODY)
    assert parse_workload_text(text, form="json").name == "custom"
    with pytest.raises(SpecError, match=r"^workload, line 1: not YAML"):
        parse_workload_text("{", form="yaml")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (BODY | {"requests": 0}, "workload.requests", "greater than or equal to 1"),
        (BODY | {"requests": -3}, "workload.requests", "greater than or equal to 1"),
        (BODY | {"requests": 10**9}, "workload.requests", "less than or equal to"),
        (BODY | {"requests": "many"}, "workload.requests", "must be a number, not text"),
        (BODY | {"requests": "100"}, "workload.requests", "must be a number, not text"),
        (BODY | {"requests": True}, "workload.requests", "must be a number, not true"),
        (BODY | {"requests": 1.5}, "workload.requests", "valid integer"),
        (BODY | {"reqests": 3}, "workload.reqests", "is not a field of a workload"),
        (BODY | {"arrival": {"kind": "poison"}}, "workload.arrival", "'burst', 'closed_loop', 'constant', 'poisson'"),
        (BODY | {"arrival": {"kind": "poisson"}}, "workload.arrival.rate_per_s", "Field required"),
        (BODY | {"arrival": {"kind": "constant", "rate_per_s": 0}}, "workload.arrival.rate_per_s", "greater than"),
        (BODY | {"arrival": {"kind": "gamma", "rate_per_s": 1}}, "workload.arrival.burstiness", "Field required"),
        (BODY | {"arrival": {"kind": "ramp", "from_rate_per_s": 1}}, "workload.arrival", "or steps, and not both"),
        (
            BODY | {"arrival": {"kind": "ramp", "steps": [{"rate_per_s": 0, "duration_s": 1}]}},
            "workload.arrival",
            "a rate above 0",
        ),
        (
            BODY | {"arrival": {"kind": "ramp", "steps": [{"rate_per_s": 5, "duration_s": 0}]}},
            "workload.arrival.steps.0.duration_s",
            "greater than 0",
        ),
        (
            BODY | {"arrival": {"kind": "closed_loop", "concurrency": 2, "think_time": "exponential"}},
            "workload.arrival",
            "give think_time_s",
        ),
        (BODY | {"duration_s": 5}, "workload", "a burst is sent at once"),
        (BODY | {"ramp_up_s": 5}, "workload", "a burst is sent at once"),
        (
            BODY | {"arrival": {"kind": "poisson", "rate_per_s": 5}, "duration_s": 3, "ramp_up_s": 3},
            "workload",
            "must be shorter than duration_s",
        ),
        (
            {k: v for k, v in BODY.items() if k != "requests"}
            | {"arrival": {"kind": "poisson", "rate_per_s": 1e5}, "duration_s": 60},
            "workload.requests",
            "less than or equal to",
        ),
        (
            {k: v for k, v in BODY.items() if k != "requests"}
            | {"arrival": {"kind": "closed_loop", "concurrency": 2}, "duration_s": 60},
            "workload.requests",
            "Field required",
        ),
        (
            {k: v for k, v in BODY.items() if k != "requests"}
            | {"arrival": {"kind": "poisson", "rate_per_s": 5}, "duration_s": "long"},
            "workload.duration_s",
            "must be a number, not text",
        ),
        (
            BODY | {"arrival": {"kind": "closed_loop", "concurrency": 0}},
            "workload.arrival.concurrency",
            "greater than or equal to 1",
        ),
        (
            BODY | {"prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": -1}}},
            "workload.prompts.input_tokens.tokens",
            "greater than or equal to 1",
        ),
        (BODY | {"prompts": {"kind": "text", "text": ""}}, "workload.prompts.text", "at least 1 character"),
        (
            BODY | {"output_tokens": {"kind": "uniform", "low": 9, "high": 5}},
            "workload.output_tokens",
            "low must not be above high",
        ),
        (
            {k: v for k, v in BODY.items() if k != "requests"},
            "workload.requests",
            "Field required; give it, such as 100",
        ),
        (
            {k: v for k, v in BODY.items() if k != "output_tokens"},
            "workload.output_tokens",
            "Field required; give it, such as {kind: fixed, tokens: 128}",
        ),
        ([], "workload", "valid dictionary"),
        (None, "workload", "valid dictionary"),
        (BODY | {"temperature": float("nan")}, "workload.temperature", ""),
    ],
)
def test_mistakes_name_their_field(body: object, field: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"^here: .*{message}") as caught:
        parse_workload(body, where="here")
    assert caught.value.field == field


def test_many_mistakes_are_cut_short() -> None:
    with pytest.raises(SpecError, match=r"and 7 more$"):
        parse_workload(BODY | {f"odd_{i}": i for i in range(12)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{\n"requests": ', "line 2: not JSON"),
        ("a.yaml", b"requests: 3\nprompts: {", "line 2: not YAML"),
        ("a.yaml", b"a: \x00", "cannot be parsed|not YAML"),
        ("a.yaml", b"!!python/object:os.system {}", "not YAML"),
        ("a.yml", b"\xff\xff", "not UTF-8"),
        ("a.yaml", b"", "valid dictionary"),
        ("a.yaml", b"- 1\n", "valid dictionary"),
        ("a.json", b"[" * 100_000, "cannot be parsed: RecursionError"),
        ("a.yaml", b"[" * 100_000, "nested more than 50 levels deep"),
        ("a.yaml", b"requests: 2026-13-45\n", "cannot be parsed"),
        ("a.yaml", b"x: 1\ny: &a [1]\nz: *a\n", "YAML references \\(\\*a\\) are not taken"),
        ("a.yaml", b"&a [*a]\n", "YAML references"),
        ("a.yaml", b"extra_body: {when: 2026-01-02}\n", "cannot be parsed: TypeError"),
        ("a.yaml", b"extra_body: {raw: !!binary gIGC}\n", "cannot be parsed: TypeError"),
        ("a.json", b'{"extra_body": {"x": NaN}}', "cannot be parsed: ValueError"),
        ("a.json", b"\xef\xbb\xbf[]", "valid dictionary"),
        ("a.json", b" " * (17 * 2**20), "larger than"),
    ],
)
def test_files_that_are_no_workload(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=message) as caught:
        load_workload(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.field == "workload"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no workload file at"):
        load_workload(str(tmp_path / "none.yaml"))
    with pytest.raises(SpecError, match=r"cannot read .*name too long|no workload file at"):
        load_workload(str(tmp_path / ("n" * 300 + ".yaml")))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecError, match="no workload file at"):
        load_workload(str(tmp_path / "folder.yaml"))


def test_flags_change_fields_and_the_name() -> None:
    burst = PRESETS["burst-100x128x128"]
    changed = apply_overrides(burst, requests=10, input_tokens=64, output_tokens=32, concurrency=4, warmup_batches=0)
    assert changed.requests == 10
    assert isinstance(changed.prompts, SyntheticPrompts)
    assert changed.prompts.input_tokens == FixedLength(tokens=64)
    assert changed.output_tokens == FixedLength(tokens=32)
    assert changed.arrival == ClosedLoop(concurrency=4)
    assert changed.warmup_batches == 0
    assert changed.name == "burst-100x128x128+requests=10+input=64+output=32+concurrency=4+warmup=0"


def test_flags_change_how_it_is_sent() -> None:
    burst = PRESETS["burst-100x128x128"]
    poisson = {"kind": "poisson", "rate_per_s": 20}
    changed = apply_overrides(burst, sending={"arrival": poisson})
    assert (changed.requests, changed.arrival) == (100, Poisson(rate_per_s=20))
    assert changed.name == "burst-100x128x128+arrival=poisson-20"
    timed = apply_overrides(burst, sending={"arrival": poisson, "duration_s": 60, "ramp_up_s": 5})
    assert timed.name == "burst-100x128x128+requests=1418+arrival=poisson-20+duration=60+ramp-up=5"
    assert apply_overrides(burst, requests=7, sending={"arrival": poisson, "duration_s": 60}).requests == 7
    with pytest.raises(SpecError, match="requests: Field required"):
        apply_overrides(burst, concurrency=3, sending={"duration_s": 60})


def test_a_duration_and_rates_say_how_many_requests_there_can_be() -> None:
    body = {k: v for k, v in BODY.items() if k != "requests"} | {"duration_s": 10}
    line = {"kind": "ramp", "from_rate_per_s": 0, "to_rate_per_s": 20, "duration_s": 10}
    assert parse_workload(body | {"arrival": {"kind": "constant", "rate_per_s": 10}}).requests == 170
    assert parse_workload(body | {"arrival": line}).requests == 170
    assert parse_workload(body | {"arrival": line, "requests": 5}).requests == 5
    assert parse_workload(body | {"arrival": {"kind": "gamma", "rate_per_s": 10, "burstiness": 0.25}}).requests == 260


def test_digests_of_workloads_from_before_the_open_loops_hold() -> None:
    assert {name: digest(workload) for name, workload in PRESETS.items()} == {
        "burst-100x128x128": "c94b06faa14a3b5e",
        "published-a100": "43f7cd14a30ed5f2",
        "qwen-speed": "c0deeead0fe9789c",
        "explain-quantum": "03ceb057611285ea",
        "chat-1k-1k": "6e9699dd51ad8f38",
        "summarise-8k-1k": "0f44765778e2860b",
        "generate-1k-8k": "03914708f1a46a29",
    }


def test_a_workload_s_json_says_everything_that_was_asked_for() -> None:
    arrival = {"kind": "closed_loop", "concurrency": 3, "think_time_s": 0.5, "think_time": "exponential"}
    workload = parse_workload(BODY | {"arrival": arrival, "duration_s": 10, "ramp_up_s": 1})
    plain = workload.model_dump(mode="json")
    assert plain["arrival"] == arrival
    assert (plain["duration_s"], plain["ramp_up_s"]) == (10, 1)
    assert parse_workload(plain) == workload


def test_flags_that_change_nothing_leave_the_name() -> None:
    burst = PRESETS["burst-100x128x128"]
    assert apply_overrides(burst) is burst
    assert apply_overrides(burst, requests=100, input_tokens=128) == burst
    assert apply_overrides(burst, requests=100, output_tokens=7).name == "burst-100x128x128+output=7"


def test_a_form_of_prompts_survives_its_length() -> None:
    body = BODY | {
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 9}, "form": "token_ids"}
    }
    prompts = apply_overrides(parse_workload(body), input_tokens=20).prompts
    assert prompts == SyntheticPrompts(input_tokens=FixedLength(tokens=20), form="token_ids")


@pytest.mark.parametrize(
    ("flag", "value", "field"),
    [
        ("requests", 0, "workload.requests"),
        ("requests", 10**12, "workload.requests"),
        ("input_tokens", -1, "workload.prompts.input_tokens.tokens"),
        ("output_tokens", 0, "workload.output_tokens.tokens"),
        ("concurrency", 0, "workload.arrival.concurrency"),
        ("warmup_batches", -1, "workload.warmup_batches"),
    ],
)
def test_flags_out_of_range(flag: str, value: int, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides(PRESETS["burst-100x128x128"], **{flag: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_given_prompt_has_the_length_it_has() -> None:
    with pytest.raises(SpecError, match="its prompts are given, not drawn"):
        apply_overrides(PRESETS["explain-quantum"], input_tokens=5)


def test_a_long_name_gives_way() -> None:
    workload = parse_workload(BODY | {"name": "n" * 100})
    assert apply_overrides(workload, requests=5).name == "custom"
