"""Targets that somebody else runs: opened, described, or refused with the mend. Nothing leaks a token."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from engines.contract import Endpoint, FailureKind
from engines.errors import OpeningStopped, TargetRefused, TargetUnavailable
from engines.spec import Attached, TargetSpec
from engines.target import Secret, Site, open_target
from tests.integration.engines.answering import (
    Asked,
    Reply,
    answering,
    as_events,
    as_json,
    completion_events,
    native_events,
)

TOKEN = "s3cret-t0ken"
MODELS = as_json({"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 4096, "root": "tiny"}]})
METRICS = Reply(
    200,
    b'# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{engine="0"} 7.0\n'
    b'# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{enable_prefix_caching="False"} 1.0\n',
    {"content-type": "text/plain; version=0.0.4"},
)
VLLM_ROUTES: dict[str, Any] = {
    "/v1/completions": completion_events(),
    "/v1/models": MODELS,
    "/version": as_json({"version": "0.32.0"}),
    "/metrics": METRICS,
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, secrets={"ENGINE_KEY": Secret(TOKEN)})


@pytest.fixture(autouse=True)
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a login shell may hold: tokens, proxies, a .netrc. None of it may reach a target."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password ambient-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HF_TOKEN", "hf_ambient")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


def attached(url: str, engine: str = "vllm", **more: Any) -> TargetSpec:
    key = {name: more.pop(name) for name in ("api_key_env", "api_key_header") if name in more}
    return TargetSpec(engine=engine, model=more.pop("model", "tiny"), reach=Attached(url=url, **key), **more)


def refusal(url: str, site: Site, **more: Any) -> TargetUnavailable:
    """The error of a target that does not open."""
    with pytest.raises(TargetUnavailable) as raised, open_target(attached(url, **more), site, probe_timeout_s=3.0):
        pass
    return raised.value


def test_a_target_that_generates_is_described(site: Site) -> None:
    with answering(VLLM_ROUTES) as server, open_target(attached(server.url, flags=("--x",)), site) as target:
        assert target.endpoint is Endpoint.COMPLETIONS
        assert target.model == "tiny"
        assert target.facts.version == "0.32.0"
        assert target.facts.model_max_tokens == 4096
        assert target.facts.served_models == ("tiny",)
        assert target.facts.info["enable_prefix_caching"] == "False"
        assert target.facts.flags == ("--x",)
        assert target.facts.startup_s is None
        assert not target.facts.simulated
        assert target.facts.probe["output_tokens"] == 8
        assert target.counters() == {"prompt_tokens_total": 7.0}
        assert target.tokenize("text") is None
        assert (target.log_tail(), target.is_here) == ("", False)


def test_a_simulated_engine_is_told_by_its_own_header_whatever_the_spec_says(site: Site) -> None:
    def marked(reply: Reply) -> Reply:
        return Reply(reply.status, reply.body, {**reply.headers, "Server": "enginebench-simulated"})

    routes: dict[str, Any] = {path: marked(reply) for path, reply in VLLM_ROUTES.items()}
    routes["/simulated"] = marked(as_json({"profile": "vllm-mistral-7b", "seed": 3}))
    with answering(routes) as server, open_target(attached(server.url), site) as target:
        assert target.facts.simulated
        assert target.facts.simulation == {"profile": "vllm-mistral-7b", "seed": 3}


def test_a_server_without_anything_but_generation_is_a_target_too(site: Site) -> None:
    routes = {"/v1/completions": completion_events()}
    with answering(routes) as server, open_target(attached(server.url, engine="openai"), site) as target:
        assert target.facts.version is None
        assert target.facts.model_max_tokens is None
        assert target.counters() == {}


def test_a_base_url_that_ends_in_v1_finds_the_same_routes(site: Site) -> None:
    with answering(VLLM_ROUTES) as server, open_target(attached(f"{server.url}/v1"), site) as target:
        assert target.facts.version == "0.32.0"
        assert target.facts.served_models == ("tiny",)


def test_a_target_is_probed_with_the_workload_s_own_fields(site: Site) -> None:
    def choosy(asked: Asked) -> Reply:
        missing = as_json({"error": "adapter is missing"}, 400)
        return completion_events() if asked.body.get("adapter") == "poet" else missing

    with answering(VLLM_ROUTES | {"/v1/completions": choosy}) as server:
        assert "adapter is missing" in str(refusal(server.url, site))
        with open_target(attached(server.url), site, extra={"adapter": "poet"}) as target:
            assert target.facts.probe["output_tokens"] == 8


def test_texts_are_tokenised_by_the_engine(site: Site) -> None:
    def tokenize(asked: Asked) -> Reply:
        count = 3 if "messages" in asked.body else len(asked.body["prompt"])
        return as_json({"count": count, "max_model_len": 4096, "tokens": list(range(count))})

    with answering(VLLM_ROUTES | {"/tokenize": tokenize}) as server, open_target(attached(server.url), site) as target:
        assert target.tokenize("abcde") == (0, 1, 2, 3, 4)
        assert target.tokenize("abcde", chat=True) == (0, 1, 2)


# --- what keeps a target from being one


def test_nobody_there(site: Site) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = refusal(f"http://127.0.0.1:{closed.getsockname()[1]}", site)
    assert error.failure is not None
    assert error.failure.kind is FailureKind.CONNECT
    assert "nothing answers" in str(error)
    assert "start the server, or mend reach.url" in str(error)


def test_nobody_there_under_a_name_says_which_address_was_asked(site: Site) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"http://localhost:{port}"
        assert f"nothing answers at {url} (127.0.0.1)" in str(refusal(url, site))


def test_one_that_listens_on_the_other_address_of_its_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server on ::1 that is asked for as localhost; here both are IPv4, for a host may have no IPv6."""
    real = socket.getaddrinfo

    def with_two(host: str, port: int, *arguments: Any, **named: Any) -> list[Any]:
        if host != "two.example":
            return real(host, port, *arguments, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port)) for at in ("127.9.9.9", "127.0.0.1")]

    monkeypatch.setattr("engines.address.socket.getaddrinfo", with_two)
    with answering(VLLM_ROUTES) as server, open_target(attached(f"http://two.example:{server.port}"), site) as target:
        assert target.origin.address == "127.0.0.1"
        assert {asked.headers["host"] for asked in server.asked} == {f"two.example:{server.port}"}


def test_one_that_listens_and_says_nothing(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refusal(f"http://127.0.0.1:{silent.getsockname()[1]}", site)
    assert error.failure is not None
    assert error.failure.kind is FailureKind.TIMEOUT
    assert "within 3 s" in str(error)


@pytest.mark.parametrize("status", [200, 502])
def test_one_that_answers_html(site: Site, status: int) -> None:
    page = Reply(status, b"<html><body>Welcome</body></html>", {"content-type": "text/html; charset=utf-8"})
    with answering({"/v1/completions": page}) as server:
        error = refusal(server.url, site)
    assert error.failure is not None
    assert error.failure.kind is (FailureKind.MALFORMED if status == 200 else FailureKind.REJECTED)
    assert "answers HTML" in str(error)


def test_one_that_redirects_is_not_followed(site: Site) -> None:
    with answering(VLLM_ROUTES) as elsewhere:
        moved = Reply(307, b"", {"location": f"{elsewhere.url}/v1/completions"})
        with answering({"/v1/completions": moved}) as server:
            error = refusal(server.url, site, api_key_env="ENGINE_KEY")
        assert elsewhere.asked == []
    assert error.failure is not None
    assert error.failure.status == 307
    assert "redirects are not followed: give the final base URL" in str(error)


def test_one_that_wants_a_token(site: Site) -> None:
    with answering({"/v1/completions": as_json({"error": "Unauthorized"}, 401)}) as server:
        error = refusal(server.url, site)
        assert "wants a token (status 401); name the secret" in str(error)
        assert error.field == "reach.api_key_env"
        assert "refuses the token" in str(refusal(server.url, site, api_key_env="ENGINE_KEY"))


def test_one_that_serves_another_model(site: Site) -> None:
    missing = as_json({"error": {"message": "The model `mine` does not exist.", "code": 404}}, 404)
    with answering({"/v1/completions": missing, "/v1/models": MODELS}) as server:
        error = refusal(server.url, site, model="mine")
    assert str(error) == "the server does not serve 'mine'; it serves tiny: mend model"
    assert error.field == "model"


def test_one_that_generates_with_another_model_whatever_is_asked(site: Site) -> None:
    with answering(VLLM_ROUTES) as server:
        assert "generates with tiny, not with 'mine'" in str(refusal(server.url, site, model="mine"))


def test_one_that_has_no_such_route(site: Site) -> None:
    with answering({}) as server:
        error = refusal(server.url, site)
    assert "answers 404" in str(error)
    assert "mend the model's name, reach.url or the engine" in str(error)


def test_one_that_is_healthy_and_does_not_generate(site: Site) -> None:
    broken = as_events({"error": {"message": "EngineCore died", "type": "x", "code": 500}})
    with answering({"/health": Reply(), "/v1/completions": broken}) as server:
        error = refusal(server.url, site)
    assert error.failure is not None
    assert error.failure.kind is FailureKind.ENGINE_ERROR
    assert "EngineCore died" in str(error)


def test_waiting_ends_when_somebody_asks(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        stop = threading.Event()
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        with pytest.raises(OpeningStopped), open_target(attached(url), site, should_stop=stop.is_set):
            pass
        timer.join()


# --- tokens go where they belong


def test_a_token_is_sent_with_every_question_and_shown_nowhere(site: Site) -> None:
    with answering(VLLM_ROUTES) as server, open_target(attached(server.url, api_key_env="ENGINE_KEY"), site) as target:
        target.counters()
        assert {asked.headers.get("authorization") for asked in server.asked} == {f"Bearer {TOKEN}"}
        assert TOKEN not in repr(target)
        assert TOKEN not in repr(target.facts)
        assert target.redact(f"bad token {TOKEN}") == "bad token [redacted]"


def test_a_key_in_a_header_of_its_own_is_sent_as_it_is_and_shown_nowhere(site: Site) -> None:
    spec = attached("http://h", api_key_env="ENGINE_KEY", api_key_header="api-key")
    with answering(VLLM_ROUTES) as server:
        here = spec.model_copy(update={"reach": spec.reach.model_copy(update={"url": server.url})})
        with open_target(here, site) as target:
            target.counters()
            assert {asked.headers.get("api-key") for asked in server.asked} == {TOKEN}
            assert not any("authorization" in asked.headers for asked in server.asked)
            assert TOKEN not in repr(target)
            assert target.redact(f"bad key {TOKEN}") == "bad key [redacted]"


def test_a_key_of_its_own_header_that_is_refused(site: Site) -> None:
    def repeat(asked: Asked) -> Reply:
        return as_json({"error": {"message": f"no such key: {asked.headers['api-key']}"}}, 401)

    with answering({"/v1/completions": repeat}) as server:
        error = refusal(server.url, site, api_key_env="ENGINE_KEY", api_key_header="api-key")
    assert "the header that api_key_header does" in str(error)
    assert TOKEN not in str(error)


def test_a_token_that_the_server_repeats_is_taken_out_of_the_error(site: Site) -> None:
    def repeat(asked: Asked) -> Reply:
        return as_json({"error": {"message": f"invalid: {asked.headers['authorization']}"}}, 400)

    with answering({"/v1/completions": repeat}) as server:
        error = refusal(server.url, site, api_key_env="ENGINE_KEY")
    assert error.failure is not None
    assert TOKEN not in str(error) + error.failure.message
    assert "[redacted]" in str(error)


def test_nobodys_ambient_credentials_reach_a_target(site: Site) -> None:
    with answering(VLLM_ROUTES) as server, open_target(attached(server.url), site) as target:
        target.counters()
        assert_nothing_ambient(server.asked)


def assert_nothing_ambient(asked: list[Asked]) -> None:
    assert asked
    for one in asked:
        assert "authorization" not in one.headers
        assert "ambient" not in str(one.headers)
        assert "cookie" not in one.headers


def test_headers_of_the_target_are_sent_and_its_host_is_named(site: Site) -> None:
    with answering(VLLM_ROUTES) as server:
        url = f"http://localhost:{server.port}"
        with open_target(attached(url, headers={"x-team": "a"}), site):
            pass
        assert {one.headers["x-team"] for one in server.asked} == {"a"}
        assert {one.headers["host"] for one in server.asked} == {f"localhost:{server.port}"}


def test_a_header_with_credentials_is_refused_before_anything_is_sent(site: Site) -> None:
    with answering(VLLM_ROUTES) as server:
        spec = attached(server.url, headers={"Authorization": "Bearer x"})
        with pytest.raises(TargetRefused, match="api_key_env"), open_target(spec, site):
            pass
        assert server.asked == []


# --- TGI and Hugging Face's own client

INFO = as_json({"model_id": "tiny", "version": "3.3.5", "max_total_tokens": 2048, "max_concurrent_requests": 128})


@pytest.fixture
def tgi_routes() -> dict[str, Any]:
    return {"/v1/completions": completion_events(), "/generate_stream": native_events(), "/info": INFO}


def test_the_hub_client_agrees_with_our_dialect(site: Site, tgi_routes: dict[str, Any]) -> None:
    with answering(tgi_routes) as server, open_target(attached(server.url, engine="tgi"), site) as target:
        assert target.facts.probe["hub_client_output_tokens"] == target.facts.probe["native_output_tokens"] == 8
        assert target.facts.version == "3.3.5"
        assert target.facts.model_max_tokens == 2048


def test_the_hub_client_carries_no_ambient_token(site: Site, tgi_routes: dict[str, Any]) -> None:
    with answering(tgi_routes) as server, open_target(attached(server.url, engine="tgi"), site):
        by_hub = [one for one in server.asked if "hf_hub" in one.headers.get("user-agent", "")]
        assert len(by_hub) == 1
        assert_nothing_ambient(server.asked)


def test_the_hub_client_carries_the_bound_token(site: Site, tgi_routes: dict[str, Any]) -> None:
    spec_more = {"engine": "tgi", "api_key_env": "ENGINE_KEY"}
    with answering(tgi_routes) as server, open_target(attached(server.url, **spec_more), site):
        assert {one.headers.get("authorization") for one in server.asked} == {f"Bearer {TOKEN}"}


def test_a_server_that_counts_otherwise_is_not_tgi(site: Site, tgi_routes: dict[str, Any]) -> None:
    calls = iter([native_events(8), native_events(8, said=7)])
    with answering(tgi_routes | {"/generate_stream": lambda _asked: next(calls)}) as server:
        error = refusal(server.url, site, engine="tgi")
    assert "counts 7 generated tokens where we count 8" in str(error)


def test_a_server_without_the_native_route_is_not_tgi(site: Site, tgi_routes: dict[str, Any]) -> None:
    del tgi_routes["/generate_stream"]
    with answering(tgi_routes) as server:
        error = refusal(server.url, site, engine="tgi")
    assert error.failure is not None
    assert error.failure.status == 404


def test_tgi_with_another_model_is_told_by_its_own_description(site: Site, tgi_routes: dict[str, Any]) -> None:
    with answering(tgi_routes) as server:
        error = refusal(server.url, site, engine="tgi", model="mine", endpoint=Endpoint.NATIVE)
    assert "generates with tiny, not with 'mine'" in str(error)


def test_tgi_tokens_are_read_in_its_own_shape(site: Site, tgi_routes: dict[str, Any]) -> None:
    tokens = as_json([{"id": 1, "text": "<s>", "start": 0, "stop": 0}, {"id": 9, "text": "a", "start": 0, "stop": 1}])
    chat = as_json({"templated_text": "x", "tokenize_response": [{"id": 4, "text": "x", "start": 0, "stop": 1}]})
    tgi_routes |= {
        "/tokenize": lambda asked: as_json({"error": "missing inputs"}, 422) if "inputs" not in asked.body else tokens,
        "/chat_tokenize": chat,
    }
    with answering(tgi_routes) as server, open_target(attached(server.url, engine="tgi"), site) as target:
        assert target.tokenize("a") == (1, 9)
        assert target.tokenize("a", chat=True) == (4,)
