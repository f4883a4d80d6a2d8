"""What a result keeps of a server's command line and variables: settings, and nobody's secret."""

from __future__ import annotations

import pytest

from engines.launch.container_flags import AS_SHIPPED, MATCHED, flags_of, model_flags
from engines.launch.disclosure import disclosed, secrets_of, tells_secret, without

KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("--api-key", KEY, "--port", "8000"), ("--api-key", "[redacted]", "--port", "8000")),
        (
            ("--api-key", KEY, "another-key-0815", "--port", "1"),
            ("--api-key", "[redacted]", "[redacted]", "--port", "1"),
        ),
        ((f"--api-key={KEY}", "m"), ("--api-key=[redacted]", "m")),
        (("--hf_token", KEY), ("--hf_token", "[redacted]")),
        (("--Password", "pw"), ("--Password", "[redacted]")),
        (("--enable-auth-check", "--port", "8000"), ("--enable-auth-check", "--port", "8000")),
        (("-c", f"vllm serve m --api-key {KEY} --port 1"), ("-c", "vllm serve m --api-key [redacted] --port 1")),
        (("-c", f"API_KEY='{KEY}' vllm serve m"), ("-c", "API_KEY=[redacted] vllm serve m")),
        (("--extra", f'{{"api_key": "{KEY}", "n": 2}}'), ("--extra", '{"api_key": [redacted], "n": 2}')),
        (("--header", f"Authorization: Bearer {KEY}"), ("--header", "Authorization: [redacted]")),
        (("--header", f"Cookie: theme=dark; session={KEY}"), ("--header", "Cookie: [redacted]")),
        ((f"--header=Authorization: Basic {KEY}", "m"), ("--header=Authorization: [redacted]", "m")),
        (
            ("-c", f"curl -H 'Authorization: Bearer {KEY}' -H 'Accept: text/plain' h"),
            ("-c", "curl -H 'Authorization: [redacted]' -H 'Accept: text/plain' h"),
        ),
        (
            ("-c", f"vllm serve m --api-key {KEY} another-key-0815 'a third' --port 1; echo done"),
            ("-c", "vllm serve m --api-key [redacted] --port 1; echo done"),
        ),
        (("-c", f"vllm serve m --api-key {KEY}; echo done"), ("-c", "vllm serve m --api-key [redacted]; echo done")),
        (("--x", f'{{"api_key": ["{KEY}", "second-key-12345"]}}'), ("--x", '{"api_key": [redacted]}')),
        (("--x", f'{{"keys": {{"me": ["a]b", "{KEY}"]}}, "n": 2}}'), ("--x", '{"keys": [redacted], "n": 2}')),
        (("--hf-overrides", '{"num_key_value_heads": 8}'), ("--hf-overrides", '{"num_key_value_heads": 8}')),
        (("--api-key-value", KEY), ("--api-key-value", "[redacted]")),
        (("--proxy", "http://me:secret-word@proxy:3128"), ("--proxy", "http://[redacted]@proxy:3128")),
        (("--model", f"/keys/{KEY}", "--hf-token", KEY), ("--model", "/keys/[redacted]", "--hf-token", "[redacted]")),
        (("--max-num-batched-tokens", "8192"), ("--max-num-batched-tokens", "8192")),
        (("--tokenizer", "t", "--max-total-tokens=9"), ("--tokenizer", "t", "--max-total-tokens=9")),
    ],
)
def test_a_command_line_is_shown_but_for_its_secrets(command: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert disclosed(command, ()) == shown


@pytest.mark.parametrize(
    "variable",
    [
        f"HF_TOKEN={KEY}",
        f"VLLM_API_KEY={KEY}",
        f"HUGGINGFACE_HUB_PASSWORD={KEY}",
        "HTTP_PROXY=http://me:secret-word@proxy:3128",
        "VLLM_NCCL_STORE=redis://me:secret-word@store:6379",
        "SOMETHING_OF_SOMEBODY=hunter2",
        "PATH=/usr/bin",
        "CUDA_HOME=/usr/local/cuda",
        "HOSTNAME=abc",
    ],
)
def test_variables_that_are_no_setting_of_an_engine_are_left_out(variable: str) -> None:
    assert disclosed((), (variable, "PREFIX_CACHING=0", "CUDA_VERSION=12.8")) == (
        "CUDA_VERSION=12.8",
        "PREFIX_CACHING=0",
    )


@pytest.mark.parametrize("flag_class", [AS_SHIPPED, MATCHED])
@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_what_compose_sets_is_shown_whole(engine: str, flag_class: str) -> None:
    flags = flags_of(engine, flag_class)
    command = [*model_flags(engine, "Qwen/Qwen2.5-7B-Instruct", flag_class)]
    command += [word for flag in flags if not flag.is_variable for word in flag.words]
    variables = [word for flag in flags if flag.is_variable for word in flag.words]
    assert disclosed(command, variables) == (*command, *sorted(variables))


def test_secrets_are_found_wherever_they_are_named_and_taken_out_of_a_log() -> None:
    command = ("--api-key", KEY, "--proxy", "http://me:secret-word@proxy")
    found = secrets_of(command, ("HF_TOKEN=hf_0123456789", "AUTH_ENABLED=true", "PREFIX_CACHING=00000000"))
    assert set(found) == {KEY, "me:secret-word", "hf_0123456789"}
    log = f"args: {{'api_key': ['{KEY}'], 'ready': true}} token hf_0123456789"
    assert without(log, found) == "args: {'api_key': ['[redacted]'], 'ready': true} token [redacted]"


@pytest.mark.parametrize(
    "command",
    [
        ("--api-key", KEY, "second-key-12345"),
        ("--auth-header", f"Bearer {KEY}", "second-key-12345"),
        ("--header", f"Authorization: Bearer {KEY}", "--header", "X-Api-Key: second-key-12345"),
        ("-c", f"curl -H 'Authorization: Bearer {KEY}' -H 'Cookie: second-key-12345; a=b'"),
        ("-c", f"vllm serve m --api-key {KEY} second-key-12345 --port 1"),
        ("--x", f'{{"api_key": ["{KEY}", "second-key-12345"]}}'),
        ("--x", f'{{"credentials": {{"somebody": "{KEY}", "somebody_else": "second-key-12345"}}}}'),
    ],
)
def test_of_several_secrets_each_one_is_taken_out_of_a_log(command: tuple[str, ...]) -> None:
    log = without(f"somebody has {KEY}, and second-key-12345 too", secrets_of(command, ()))
    assert log == "somebody has [redacted], and [redacted] too"


@pytest.mark.parametrize(
    ("command", "positions"),
    [
        (("--api-key", "sk-1234567890", "--dtype", "bfloat16"), (1,)),
        (("--api-key=sk-1234567890",), (0,)),
        (("--dtype", "auto", "--api-key", "sk-one", "sk-two"), (3, 4)),
        (("--hf-overrides", '{"auth_token": "abc"}'), (1,)),
        (("--middleware-url", "https://user:word@host/"), (1,)),
        (("--api-key", "$VLLM_API_KEY"), ()),
        (("--api-key=${VLLM_API_KEY}",), ()),
        (("--api-key", "[redacted]"), ()),
        (("--api-key=[redacted]",), ()),
        (("--api-key", "x$VLLM_API_KEY"), (1,)),
        (("--long-prefill-token-threshold", "4096", "--return-tokens-as-token-ids"), ()),
        (("--long-prefill-token-threshold=4096",), ()),
        (("--max-num-batched-tokens", "8192", "--tokenizer", "mistral", "--max-num-seqs=128"), ()),
        ((), ()),
    ],
)
def test_a_person_is_told_which_arguments_are_secrets(command: tuple[str, ...], positions: tuple[int, ...]) -> None:
    assert tells_secret(command) == positions


def test_what_stands_for_a_secret_in_a_result_may_be_written_again() -> None:
    assert tells_secret(disclosed(("--api-key", "sk-1234567890", "--token=abc"), ())) == ()
