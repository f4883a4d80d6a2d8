from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from engines.catalog import ENGINES, encode_body, encode_request, find_dialect, find_engine, request_path
from engines.contract import Endpoint, Engine, GenerationRequest, Origin
from engines.errors import RequestNotPossible, UnknownEngine
from engines.scrape import read_metrics
from tests.fakes.captures import RECORDINGS

ORIGIN = Origin("http", "127.0.0.1", 8000, "", "127.0.0.1")

CANONICAL = {
    "requests_running",
    "requests_waiting",
    "kv_cache_usage_ratio",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "preemptions_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "requests_success_total",
    "time_to_first_token_seconds_sum",
    "time_to_first_token_seconds_count",
    "queue_time_seconds_sum",
    "queue_time_seconds_count",
    "process_start_time_seconds",
}


REQUEST = GenerationRequest("m", "hi", 7)


def ask(engine: str, endpoint: Endpoint = Endpoint.COMPLETIONS, **changes: Any) -> dict[str, Any]:
    """The body for one engine, as plain JSON."""
    asked = replace(REQUEST, **changes)
    wire = encode_request(ENGINES[engine], endpoint, asked, ORIGIN, index=3, keep_alive=True)
    assert wire.index == 3
    body = json.loads(wire.payload.partition(b"\r\n\r\n")[2])
    assert body == encode_body(ENGINES[engine], endpoint, asked)
    assert isinstance(body, dict)
    return body


def test_vllm_is_asked_for_neutral_sampling_a_fixed_length_and_running_usage() -> None:
    assert ask("vllm") == {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 7,
        "stream": True,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_vllm_chat_takes_one_user_message() -> None:
    body = ask("vllm", Endpoint.CHAT, stream=False, fixed_length=False)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "stream": False,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
    }


def test_tgi_is_greedy_on_each_route_in_its_own_way() -> None:
    assert ask("tgi") == {"model": "m", "prompt": "hi", "max_tokens": 7, "stream": True, "temperature": 0.0}
    assert ask("tgi", Endpoint.CHAT)["stream_options"] == {"include_usage": True}
    assert ask("tgi", Endpoint.NATIVE) == {
        "inputs": "hi",
        "parameters": {"max_new_tokens": 7, "details": True, "decoder_input_details": False, "do_sample": False},
    }
    sampled = ask("tgi", Endpoint.NATIVE, temperature=0.7)["parameters"]
    assert (sampled["do_sample"], sampled["temperature"]) == (True, 0.7)


@pytest.mark.parametrize(("stream", "path"), [(True, "/generate_stream"), (False, "/generate")])
def test_tgi_has_a_route_of_its_own_without_streaming(stream: bool, path: str) -> None:
    asked = GenerationRequest("m", "hi", 7, stream=stream)
    wire = encode_request(ENGINES["tgi"], Endpoint.NATIVE, asked, ORIGIN, index=0, keep_alive=False)
    assert wire.payload.startswith(f"POST {path} HTTP/1.1\r\n".encode())


def test_transformers_fixes_the_length_in_a_json_string_and_gets_no_field_it_does_not_know() -> None:
    body = ask("transformers")
    config = json.loads(body.pop("generation_config"))
    assert body == {"model": "m", "prompt": "hi", "max_tokens": 7, "stream": True}
    assert config == {
        "max_new_tokens": 7,
        "do_sample": False,
        "repetition_penalty": 1.0,
        "eos_token_id": -1,
        "pad_token_id": 0,
    }
    assert json.loads(ask("transformers", temperature=0.5)["generation_config"])["temperature"] == 0.5
    assert ask("transformers", fixed_length=False)["temperature"] == 0.0
    assert "generation_config" not in ask("transformers", fixed_length=False)


@pytest.mark.parametrize("engine", ["openai", "bud", "mlx"])
def test_openai_servers_get_standard_fields_only(engine: str) -> None:
    assert ask(engine) == {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 7,
        "stream": True,
        "temperature": 0.0,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in ask(engine, stream=False)


def test_sglang_speaks_vllms_fields() -> None:
    assert ask("sglang") == ask("vllm")


@pytest.mark.parametrize("engine", [e for e in ENGINES.values() if e.capabilities.fixed_length], ids=lambda e: e.name)
def test_a_request_that_may_stop_early_asks_for_no_fixed_length(engine: Engine) -> None:
    fixed = json.dumps(ask(engine.name))
    free = json.dumps(ask(engine.name, fixed_length=False))
    assert re.search("ignore_eos|eos_token_id", fixed)
    assert not re.search("ignore_eos|eos_token_id|min_tokens", free)


@pytest.mark.parametrize("engine", list(ENGINES.values()), ids=lambda e: e.name)
def test_the_workloads_own_fields_lie_over_everything(engine: Engine) -> None:
    extra = {"max_tokens": 9, "temperature": 0.5, "seed": 7, "stream_options": {"include_usage": False}}
    body = ask(engine.name, extra=extra)
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (9, 0.5, 7)
    assert body["stream_options"]["include_usage"] is False


def test_own_fields_join_an_object_they_do_not_replace() -> None:
    parameters = ask("tgi", Endpoint.NATIVE, extra={"parameters": {"seed": 1, "max_new_tokens": 2}})["parameters"]
    assert (parameters["seed"], parameters["max_new_tokens"], parameters["details"]) == (1, 2, True)
    assert ask("openai", extra={"stream_options": None})["stream_options"] is None


@pytest.mark.parametrize("engine", list(ENGINES.values()), ids=lambda e: e.name)
def test_token_ids_are_sent_or_refused(engine: Engine) -> None:
    if engine.capabilities.token_id_prompts:
        assert ask(engine.name, prompt=(1, 2, 3))["prompt"] == [1, 2, 3]
        with pytest.raises(RequestNotPossible, match="chat"):
            ask(engine.name, Endpoint.CHAT, prompt=(1, 2, 3))
    else:
        with pytest.raises(RequestNotPossible, match="text, not token ids") as caught:
            ask(engine.name, prompt=(1, 2, 3))
        assert caught.value.field == "prompts"


@pytest.mark.parametrize("extra", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_what_json_cannot_say_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(RequestNotPossible, match="JSON") as caught:
        ask("vllm", extra=extra)
    assert caught.value.field == "extra_body"


@pytest.mark.parametrize(
    ("base_path", "path"), [("", "/v1/completions"), ("/v1", "/v1/completions"), ("/gw/v1", "/gw/v1/completions")]
)
def test_a_base_url_may_end_in_v1(base_path: str, path: str) -> None:
    assert base_path + request_path(base_path, "/v1/completions") == path
    origin = Origin("http", "h", 80, base_path, "127.0.0.1")
    asked = GenerationRequest("m", "hi", 1)
    wire = encode_request(ENGINES["vllm"], Endpoint.COMPLETIONS, asked, origin, index=0, keep_alive=True)
    assert wire.payload.startswith(f"POST {path} HTTP/1.1\r\n".encode())


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownEngine, match=r"no engine 'vlm': did you mean 'vllm'\? there are vllm, tgi") as caught:
        find_engine("vlm")
    assert caught.value.field == "engine"
    assert find_engine("tgi") is ENGINES["tgi"]


def test_an_endpoint_the_engine_has_not() -> None:
    with pytest.raises(UnknownEngine, match="vLLM has no endpoint native: it has completions, chat") as caught:
        find_dialect(ENGINES["vllm"], Endpoint.NATIVE)
    assert caught.value.field == "endpoint"
    assert find_dialect(ENGINES["tgi"], None)[0] is Endpoint.COMPLETIONS
    assert find_dialect(ENGINES["tgi"], Endpoint.NATIVE)[1].one_token_per_event


@pytest.mark.parametrize("engine", list(ENGINES.values()), ids=lambda e: e.name)
def test_each_engine_is_whole(engine: Engine) -> None:
    assert ENGINES[engine.name] is engine
    assert next(iter(engine.dialects)) is Endpoint.COMPLETIONS
    assert set(engine.metric_names) <= CANONICAL
    assert bool(engine.metric_names) <= (engine.capabilities.metrics_path is not None)
    assert engine.docs_url.startswith("https://")
    if engine.command is not None:
        argv = engine.command("models/tiny", 8123, ("--flag", "x"))
        assert argv[-2:] == ["--flag", "x"]
        assert {"models/tiny", "8123", "127.0.0.1"} <= set(argv)


def test_vllms_metric_names_are_those_it_serves() -> None:
    served = set(re.findall(r"^([a-z_:]+)[ {]", (RECORDINGS / "vllm-0.32.0/metrics_after_load.body").read_text(), re.M))
    names = set(ENGINES["vllm"].metric_names.values())
    assert names <= served
    later = (RECORDINGS / "vllm-0.33.0-metrics.txt").read_text()
    assert all(f'"{re.sub("_(total|sum|count)$", "", n)}"' in later for n in names if n.startswith("vllm:"))
    assert set(ENGINES["vllm"].metric_names) == CANONICAL


def test_sglangs_metric_names_are_those_it_documents() -> None:
    """Its counters have labels, and its cached tokens appear with the first one."""
    text = """\
sglang:prompt_tokens_total{model_name="m"} 100.0
sglang:generation_tokens_total{model_name="m"} 200.0
sglang:num_running_reqs{model_name="m",tp_rank="0"} 3.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 1.0
"""
    names = ENGINES["sglang"].metric_names
    assert read_metrics(text, names) == {
        "prompt_tokens_total": 100.0,
        "generation_tokens_total": 200.0,
        "requests_running": 3.0,
        "requests_waiting": 1.0,
    }
    cached = (
        'sglang:cached_tokens_total{cache_source="device"} 5.0\nsglang:cached_tokens_total{cache_source="host"} 2.0\n'
    )
    assert read_metrics(text + cached, names)["prefix_cache_hits_total"] == 7.0


@pytest.mark.parametrize("engine", ["vllm", "tgi", "openai"])
def test_extra_fields_may_not_contradict_the_stream(engine: str) -> None:
    with pytest.raises(RequestNotPossible, match=r"extra_body\.stream contradicts the request.*leave it out") as caught:
        ask(engine, extra={"stream": False})
    assert caught.value.field == "extra_body.stream"
    assert ask(engine, extra={"stream": True})["stream"] is True
    assert ask(engine, stream=False, extra={"stream": False})["stream"] is False
