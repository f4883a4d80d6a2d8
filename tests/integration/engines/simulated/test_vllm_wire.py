"""The vLLM profile over real sockets: every shape has the keys of the recorded vLLM, in its order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engines.contract import Endpoint, FailureKind
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.fakes.captures import read_recording
from tests.integration.engines.simulated.talk import ask, ask_json, events, generate, http


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=50) as running:
        yield running


@pytest.fixture(scope="module")
def qwen() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-qwen2.5-7b", speed=50) as running:
        yield running


def keys(value: Any) -> Any:
    """The shape of JSON: keys in order, lists by their first entry, leaves dropped."""
    if isinstance(value, dict):
        return [(key, keys(inner)) for key, inner in value.items()]
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return [keys(value[0])]
    return None


def recorded(name: str) -> Any:
    return json.loads(read_recording(f"vllm-0.32.0/{name}")[1])


def recorded_events(name: str) -> list[dict[str, Any]]:
    return events(read_recording(f"vllm-0.32.0/{name}")[1])


def completion_body(server: SimulatedServer, **fields: Any) -> dict[str, Any]:
    return {"model": server.model, "prompt": " the energy", "max_tokens": 8, "ignore_eos": True, **fields}


def chat_body(server: SimulatedServer, **fields: Any) -> dict[str, Any]:
    return completion_body(server, messages=[{"role": "user", "content": "hello"}], **fields)


@pytest.mark.parametrize(
    ("recording", "path", "fields"),
    [
        ("cmpl", "/v1/completions", {}),
        ("chat", "/v1/chat/completions", {}),
        ("err_unknown_field", "/v1/completions", {"some_field": 1}),
        ("err_model", "/v1/completions", {"model": "nope"}),
        ("err_toolong", "/v1/completions", {"max_tokens": 100_000}),
        ("err_toolong_stream", "/v1/completions", {"max_tokens": 100_000, "stream": True}),
        ("tokenize", "/tokenize", {}),
    ],
)
def test_whole_answers_have_the_recorded_shape(
    server: SimulatedServer, recording: str, path: str, fields: dict[str, Any]
) -> None:
    body = (chat_body if "chat" in path else completion_body)(server, **fields)
    response = ask(server, http("POST", path, body))
    head, _ = read_recording(f"vllm-0.32.0/{recording}")
    assert response.status == int(head.split()[1])
    assert keys(json.loads(response.content)) == keys(recorded(recording))
    assert response.header("content-type") == "application/json"
    assert response.header("server") == "enginebench-simulated"


@pytest.mark.parametrize(
    ("recording", "path", "fields"),
    [
        ("cmpl_stream", "/v1/completions", {"stream_options": {"include_usage": True}}),
        (
            "cmpl_stream_ids",
            "/v1/completions",
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        ("cmpl_stream_nousage", "/v1/completions", {}),
        ("chat_stream", "/v1/chat/completions", {"stream_options": {"include_usage": True}}),
        ("chat_stream_mct", "/v1/chat/completions", {"max_completion_tokens": 8, "max_tokens": None}),
    ],
)
def test_streams_have_the_recorded_shape(
    server: SimulatedServer, recording: str, path: str, fields: dict[str, Any]
) -> None:
    body = (chat_body if "chat" in path else completion_body)(server, stream=True, **fields)
    response = ask(server, http("POST", path, body))
    assert response.complete
    assert response.header("content-type") == "text/event-stream; charset=utf-8"
    ours, theirs = events(response.content), recorded_events(recording)
    role = 1 if "chat" in path else 0
    assert keys(ours[0]) == keys(theirs[0])
    assert keys(ours[role]) == keys(theirs[role])
    # the last token's chunk and what follows it
    tail = 2 if "include_usage" in str(fields) else 1
    assert [keys(event) for event in ours[-tail:]] == [keys(event) for event in theirs[-tail:]]
    assert len(ours) == role + 8 + tail - 1
    assert response.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.CHAT])
@pytest.mark.parametrize("stream", [True, False])
def test_the_dialect_understands_it(server: SimulatedServer, endpoint: Endpoint, stream: bool) -> None:
    _, completion = generate(server, endpoint=endpoint, stream=stream, max_tokens=20)
    assert completion.failure is None
    assert completion.output_tokens == 20
    assert completion.finish_reason == "length"
    (truth,) = server.truth()[-1:]
    assert completion.input_tokens == truth["prompt_tokens"]
    if stream:
        assert list(completion.event_tokens) == [1] * 20


def test_bos_counts_on_mistral_and_not_on_qwen(server: SimulatedServer, qwen: SimulatedServer) -> None:
    counts = {}
    for target in (server, qwen):
        status, told = ask_json(target, "POST", "/tokenize", {"model": target.model, "prompt": " the energy"})
        assert status == 200
        assert told["count"] == len(told["tokens"])
        _, completion = generate(target)
        assert completion.input_tokens == told["count"]
        counts[target.profile] = told["count"]
    assert counts == {"vllm-mistral-7b": 3, "vllm-qwen2.5-7b": 2}


def test_tokenize_and_detokenize_are_each_others_inverse(server: SimulatedServer) -> None:
    text = "Explain quantum entanglement in simple terms: 42 × naïve."
    _, told = ask_json(server, "POST", "/tokenize", {"prompt": text, "add_special_tokens": False})
    assert ask_json(server, "POST", "/detokenize", {"tokens": told["tokens"]}) == (200, {"prompt": text})
    _, chat = ask_json(server, "POST", "/tokenize", {"messages": [{"role": "user", "content": " the"}]})
    _, completion = generate(server, endpoint=Endpoint.CHAT, prompt=" the")
    assert completion.input_tokens == chat["count"]


def test_token_ids_are_taken_and_given(server: SimulatedServer) -> None:
    body = completion_body(server, prompt=[300, 301, 302], return_token_ids=True)
    status, told = ask_json(server, "POST", "/v1/completions", body)
    assert status == 200
    assert keys(told) == keys(recorded("cmpl_ids"))
    (choice,) = told["choices"]
    assert choice["prompt_token_ids"] == [300, 301, 302]
    assert len(choice["token_ids"]) == told["usage"]["completion_tokens"] == 8
    assert told["usage"]["prompt_tokens"] == 3
    _, text = ask_json(server, "POST", "/detokenize", {"tokens": choice["token_ids"]})
    assert text["prompt"] == choice["text"]


def test_the_same_request_gets_the_same_answer(server: SimulatedServer) -> None:
    first, second = (generate(server, prompt=" the light")[1].text for _ in range(2))
    assert first == second
    assert first != generate(server, prompt=" the other light")[1].text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        (b"[1]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        ({"prompt": None}, 400),
        ({"prompt": []}, 400),
        ({"prompt": ["a", "b"]}, 400),
        ({"prompt": [1, "a"]}, 400),
        ({"prompt": [10**9]}, 400),
        ({"max_tokens": 0}, 400),
        ({"max_tokens": "8"}, 400),
        ({"max_tokens": 32_768}, 400),
        ({"n": 2}, 400),
        ({"stream": "yes"}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
    ],
)
def test_refusals_are_json_errors(server: SimulatedServer, body: Any, status: int) -> None:
    sent = body if isinstance(body, bytes) else completion_body(server, **body)
    got, told = ask_json(server, "POST", "/v1/completions", sent)
    assert got == status
    assert list(told["error"]) == ["message", "type", "param", "code"]
    assert told["error"]["code"] == status


def test_the_dialect_counts_a_refusal_as_rejected(server: SimulatedServer) -> None:
    _, completion = generate(server, model="nope")
    assert completion.failure is not None
    assert (completion.failure.kind, completion.failure.status) == (FailureKind.REJECTED, 404)


def test_plain_routes(server: SimulatedServer) -> None:
    assert ask(server, http("GET", "/health")).status == 200
    assert ask_json(server, "GET", "/version") == (200, {"version": "0.32.0"})
    _, models = ask_json(server, "GET", "/v1/models")
    assert keys(models) == keys(recorded("models"))
    assert models["data"][0]["max_model_len"] == 32_768
    assert ask_json(server, "GET", "/info") == (404, recorded("info"))
    assert ask_json(server, "GET", "/v1/completions") == (405, {"detail": "Method Not Allowed"})
    _, about = ask_json(server, "GET", "/simulated")
    assert about["profile"] == "vllm-mistral-7b"
    assert about["hardware"] == "A100-80GB"
    assert len(about["start_id"]) == 32


def test_metrics_go_by_vllms_names_and_count(server: SimulatedServer) -> None:
    def read() -> dict[str, float]:
        text = ask(server, http("GET", "/metrics")).content.decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0].partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = read()
    _, completion = generate(server, prompt=" a prompt of its own", max_tokens=12)
    after = read()
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 12
    assert after["vllm:prompt_tokens_total"] - before["vllm:prompt_tokens_total"] == completion.input_tokens
    assert after["process_start_time_seconds"] == before["process_start_time_seconds"] > 1.6e9
    names = {name.removesuffix("_created") for name in after if name.startswith("vllm:")}
    recorded_names = read_recording("vllm-0.32.0/metrics")[1].decode()
    assert not [name for name in names if f"\n{name}" not in recorded_names]


def test_prompts_seen_before_come_from_the_prefix_cache(server: SimulatedServer) -> None:
    prompt = " light" * 100
    generate(server, prompt=prompt)
    generate(server, prompt=prompt)
    first, second = server.truth()[-2:]
    assert (first["cached_tokens"], second["cached_tokens"]) == (0, 96)
    with simulated_engine("vllm-mistral-7b", speed=50, prefix_cache=False) as uncached:
        generate(uncached, prompt=prompt)
        generate(uncached, prompt=prompt)
        assert [record["cached_tokens"] for record in uncached.truth()] == [0, 0]


def test_a_model_that_may_stop_says_so() -> None:
    with simulated_engine("vllm-mistral-7b", speed=500, seed=3) as server:
        reasons = set()
        for k in range(60):
            body = completion_body(server, prompt=f" {k}", max_tokens=20, ignore_eos=False)
            _, told = ask_json(server, "POST", "/v1/completions", body)
            reasons.add(told["choices"][0]["finish_reason"])
            assert told["usage"]["completion_tokens"] == server.truth()[-1]["generated_tokens"]
        assert reasons == {"length", "stop"}


def test_split_characters_give_events_without_text() -> None:
    with simulated_engine("vllm-mistral-7b", speed=50, split_characters=6) as server:
        capture, completion = generate(server, max_tokens=101)
        assert capture.body.count(b'"text":""') > 5
        assert completion.output_tokens == 101
        assert completion.failure is None
