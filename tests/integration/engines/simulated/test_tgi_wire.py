"""The TGI profile over real sockets: its own routes, refusals and limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import InferenceClient

from engines.contract import Endpoint, FailureKind
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.engines.simulated.talk import ask, ask_json, burst, connect, events, generate, http, receive


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("tgi-mistral-7b", speed=50, never_stops=True) as running:
        yield running


def native(text: str = " the energy", **parameters: Any) -> dict[str, Any]:
    return {"inputs": text, "parameters": {"max_new_tokens": 8, **parameters}}


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.CHAT, Endpoint.NATIVE])
@pytest.mark.parametrize("stream", [True, False])
def test_the_dialect_understands_it(server: SimulatedServer, endpoint: Endpoint, stream: bool) -> None:
    _, completion = generate(server, endpoint=endpoint, stream=stream, max_tokens=20)
    assert completion.failure is None
    assert completion.output_tokens == 20
    assert completion.finish_reason == "length"
    assert completion.input_tokens == server.truth()[-1]["prompt_tokens"] or not completion.input_tokens
    if stream and endpoint is Endpoint.NATIVE:
        assert list(completion.event_tokens) == [1] * 20


def test_the_native_stream_has_a_frame_for_each_token_and_no_end_marker(server: SimulatedServer) -> None:
    response = ask(server, http("POST", "/generate_stream", native()))
    frames = events(response.content)
    assert [frame["index"] for frame in frames] == list(range(1, 9))
    assert [list(frame) for frame in frames] == [["index", "token", "generated_text", "details"]] * 8
    assert list(frames[0]["token"]) == ["id", "text", "logprob", "special"]
    assert frames[-1]["generated_text"] == "".join(frame["token"]["text"] for frame in frames)
    assert frames[-1]["details"] == {"finish_reason": "length", "generated_tokens": 8, "seed": None, "input_length": 3}
    assert b"[DONE]" not in response.content


def test_whole_answers_say_where_the_time_went(server: SimulatedServer) -> None:
    response = ask(server, http("POST", "/generate", native(details=True)))
    told = json.loads(response.content)
    assert list(told["details"]) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert len(told["details"]["tokens"]) == 8
    assert response.header("x-prompt-tokens") == "3"
    assert response.header("x-generated-tokens") == "8"
    for name in ("x-compute-time", "x-total-time", "x-validation-time", "x-queue-time", "x-inference-time"):
        assert float(response.header(name)) >= 0
    bare = json.loads(ask(server, http("POST", "/generate", native(return_full_text=True))).content)
    assert list(bare) == ["generated_text"]
    assert bare["generated_text"].startswith(" the energy")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (native(temperature=0), "`temperature` must be strictly positive"),
        (native(max_new_tokens=0), "`max_new_tokens` must be strictly positive"),
        (native(max_new_tokens=40_000), "`inputs` tokens + `max_new_tokens` must be <= 32768"),
        (native(""), "`inputs` cannot be empty"),
        (native(top_p=2.0), "`top_p` must be > 0.0 and < 1.0"),
    ],
)
def test_refusals_are_422_and_inside_a_200_on_a_stream(
    server: SimulatedServer, body: dict[str, Any], words: str
) -> None:
    status, told = ask_json(server, "POST", "/generate", body)
    assert status == 422
    assert told["error_type"] == "validation"
    assert words in told["error"]
    streamed = ask(server, http("POST", "/generate_stream", body))
    assert streamed.status == 200
    assert events(streamed.content) == [told]


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), ({}, 422), ({"inputs": [1, 2]}, 422), (native(max_new_tokens="x"), 422)]
)
def test_what_cannot_be_read_is_refused_in_plain_text(server: SimulatedServer, body: Any, status: int) -> None:
    for path in ("/generate", "/generate_stream"):
        response = ask(server, http("POST", path, body))
        assert response.status == status
        assert response.header("content-type").startswith("text/plain")


def test_openai_routes_ignore_the_model_and_what_they_do_not_know(server: SimulatedServer) -> None:
    body = {"model": "whatever", "prompt": " the", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    status, told = ask_json(server, "POST", "/v1/completions", body)
    assert status == 200
    assert told["model"] == server.model
    assert told["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    streamed = ask(server, http("POST", "/v1/completions", body | {"stream": True}))
    chunks = events(streamed.content)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == ["", "", "", "length"]
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert streamed.content.endswith(b"data: [DONE]\n\n")


def test_the_hubs_own_client_understands_the_root_route(server: SimulatedServer) -> None:
    with InferenceClient(model=server.url, token="none") as client:
        prompt = " the energy"
        told = client.text_generation(prompt, details=True, max_new_tokens=5)
        assert told.details is not None
        assert (told.details.generated_tokens, told.details.finish_reason) == (5, "length")
        frames = list(client.text_generation(prompt, details=True, stream=True, max_new_tokens=5))
        assert frames[-1].details is not None
        assert frames[-1].details.generated_tokens == len(frames) == 5
        assert told.generated_text == frames[-1].generated_text == prompt + "".join(f.token.text for f in frames)


def test_it_cannot_be_told_to_ignore_eos() -> None:
    with simulated_engine("tgi-mistral-7b", speed=500, seed=3) as server:
        short = []
        for k in range(80):
            _, told = ask_json(server, "POST", "/generate", native(f" {k}", max_new_tokens=20, details=True))
            details = told["details"]
            assert (details["finish_reason"] == "eos_token") == (details["generated_tokens"] < 20)
            if details["finish_reason"] == "eos_token":
                short.append(details)
        assert 1 <= len(short) < 20
        assert all(details["tokens"][-1]["special"] for details in short)
        assert all(details["generated_tokens"] == len(details["tokens"]) for details in short)


def test_the_129th_request_is_refused_at_once() -> None:
    with simulated_engine("tgi-mistral-7b", speed=0.2) as server:
        body = native(max_new_tokens=50)
        socks = [connect(server) for _ in range(128)]
        for sock in socks:
            sock.sendall(http("POST", "/generate_stream", body))
        for sock in socks:
            assert sock.recv(12) == b"HTTP/1.1 200"
        overloaded = {"error": "Model is overloaded", "error_type": "overloaded"}
        assert ask_json(server, "POST", "/generate", body) == (429, overloaded)
        streamed = ask(server, http("POST", "/generate_stream", body))
        assert (streamed.status, events(streamed.content)) == (200, [overloaded])
        _, completion = generate(server)
        assert completion.failure is not None
        assert completion.failure.kind is FailureKind.REJECTED
        for sock in socks:
            sock.close()


def test_128_at_once_are_all_served(server: SimulatedServer) -> None:
    answers = burst(server, 128, max_tokens=4)
    assert [completion.failure for _, completion in answers] == [None] * 128
    assert sum(completion.output_tokens or 0 for _, completion in answers) == 512


def test_plain_routes(server: SimulatedServer) -> None:
    _, info = ask_json(server, "GET", "/info")
    assert info["model_id"] == server.model
    assert info["max_concurrent_requests"] == 128
    assert info["max_total_tokens"] == 32_768
    assert ask(server, http("GET", "/health")).status == 200
    assert ask(server, http("GET", "/version")).status == 404
    _, models = ask_json(server, "GET", "/v1/models")
    assert models["data"][0]["id"] == server.model
    text = " the naïve light"
    _, tokens = ask_json(server, "POST", "/tokenize", {"inputs": text})
    assert tokens[0] == {"id": 1, "text": "<s>", "start": 0, "stop": 0}
    assert tokens[-1]["stop"] == len(text)
    _, completion = generate(server, prompt=text)
    assert completion.input_tokens == len(tokens)
    metrics = ask(server, http("GET", "/metrics")).content.decode()
    for name in ("tgi_request_count", "tgi_queue_size", "tgi_request_generated_tokens_sum", "process_start_time"):
        assert f"\n{name}" in f"\n{metrics}"


def first_token_waits_ms(profile: str) -> list[float]:
    """First token's arrival minus its send, for exchanges on one reused connection."""
    waits = []
    with simulated_engine(profile, never_stops=True) as server, connect(server) as sock:
        body = {"model": server.model, "prompt": " the", "max_tokens": 3, "stream": True}
        for _ in range(5):
            sock.sendall(http("POST", "/v1/completions", body))
            capture = receive(sock, sent_ns=0)
            waits.append((capture.read_user_ns[1] - server.truth()[-1]["first_token_ns"]) / 1e6)
    return waits


def test_small_writes_wait_for_the_reader_without_nodelay() -> None:
    """TGI never sets TCP_NODELAY: behind an unacknowledged head, the first token waits for the client's delayed ACK."""
    assert max(first_token_waits_ms("tgi-mistral-7b")) > 15
    assert min(first_token_waits_ms("vllm-mistral-7b")) < 10


def test_concurrent_clients_do_not_hold_each_other_up(server: SimulatedServer) -> None:
    done = threading.Event()

    def slow_reader() -> None:
        with connect(server) as sock:
            sock.sendall(http("POST", "/generate_stream", native(max_new_tokens=2000)))
            done.wait(20)

    thread = threading.Thread(target=slow_reader)
    thread.start()
    _, completion = generate(server, endpoint=Endpoint.NATIVE)
    done.set()
    thread.join()
    assert completion.failure is None
