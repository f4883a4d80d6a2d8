"""What the engines of docker-compose.yml are told, and why; and each of them as a target.

Two classes, compared only within: *as shipped* is what a person gets from each engine's first page; *matched* is what
the two can be told alike, so that what is left of a difference is the engine's own. docker-compose.yml carries the
flags themselves; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AS_SHIPPED, MATCHED = "as-shipped", "matched"

#: One prompt's and its output's longest sum, and the tokens of one prefill step.
MAX_TOKENS = 8192
PREFILL_TOKENS = 8192
#: Sequences that run at once.
RUNNING = 256
#: Sizes of decode batches whose CUDA graph is captured: vLLM's own list, up to what may run.
GRAPHS = (1, 2, 4, *range(8, RUNNING + 1, 8))
#: Share of the card's memory.
MEMORY = "0.90"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag or variable, and its reason."""

    #: ("--dtype", "bfloat16"), or ("PREFIX_CACHING=0",) for a variable
    words: tuple[str, ...]
    why: str

    @property
    def is_variable(self) -> bool:
        """It is set in the environment, not on the command line."""
        return not self.words[0].startswith("-")


#: What it takes to be reached here at all; both classes have it.
REACHED: dict[str, tuple[Flag, ...]] = {
    "vllm": (
        Flag(("--host", "0.0.0.0"), "the image's default is its own loopback"),  # noqa: S104
        Flag(("--port", "8000"), "one port for all engines"),
        Flag(("VLLM_NO_USAGE_STATS=1",), "no telemetry: it takes time, and the engines have no way out"),
        Flag(("DO_NOT_TRACK=1",), "the same"),
        Flag(("HF_HUB_OFFLINE=1",), "the weights are here; a look at the hub would only wait for its time-out"),
        Flag(("VLLM_CACHE_ROOT=/cache/vllm",), "compiled kernels outlive the container: every start but one is alike"),
        Flag(("TRITON_CACHE_DIR=/cache/triton",), "the same"),
    ),
    "tgi": (
        Flag(("--hostname", "0.0.0.0"), "all addresses, whatever the image says"),  # noqa: S104
        Flag(("--port", "8000"), "one port for all engines; the image's is 80"),
        Flag(("--usage-stats", "off"), "no telemetry: it takes time, and the engines have no way out"),
        Flag(("HF_HUB_OFFLINE=1",), "the weights are here; a look at the hub would only wait for its time-out"),
        Flag(("TRITON_CACHE_DIR=/cache/triton",), "compiled kernels outlive the container"),
    ),
}

#: What the two are told alike.
ALIKE: dict[str, tuple[Flag, ...]] = {
    "vllm": (
        Flag(("--dtype", "bfloat16"), "the type the weights are in, said and not found"),
        Flag(("--max-model-len", str(MAX_TOKENS)), "one longest sequence, so that both plan their memory for the same"),
        Flag(
            ("--max-num-batched-tokens", str(PREFILL_TOKENS)),
            "its default depends on the card (A100: 2,048; TGI's is about 20,800 there), and the TTFT of a burst"
            " measures just that",
        ),
        Flag(("--max-num-seqs", str(RUNNING)), "its default depends on the card, 256 or 1,024"),
        Flag(("--gpu-memory-utilization", MEMORY), "its default is 0.92; the rest of it is KV cache"),
        Flag(("--max-cudagraph-capture-size", str(RUNNING)), "graphs for every batch that may run, and none beyond"),
        Flag(("--no-enable-prefix-caching",), "on by default: repeated prompts would be measured as cache hits"),
        Flag(
            ("--generation-config", "vllm"),
            "else what a request leaves out comes from the model's folder (Qwen2.5: repetition_penalty 1.05)",
        ),
        Flag(("--no-enable-log-requests",), "a line a request is work beside the load"),
        Flag(("--disable-uvicorn-access-log",), "the same"),
    ),
    "tgi": (
        Flag(("--dtype", "bfloat16"), "its default is float16 or what the weights say; a kernel's speed depends on it"),
        Flag(("--max-input-tokens", str(MAX_TOKENS - 1)), "one longest sequence: its input is less than the whole"),
        Flag(("--max-total-tokens", str(MAX_TOKENS)), "the same"),
        Flag(("--max-batch-prefill-tokens", str(PREFILL_TOKENS)), "derived from free memory by default; see vLLM's"),
        Flag(("--max-batch-size", str(RUNNING)), "no limit by default; vLLM has one"),
        Flag(
            ("--max-concurrent-requests", "512"),
            "128 by default, and a request above it is refused at once where vLLM queues it",
        ),
        Flag(("--cuda-memory-fraction", MEMORY), "its default is 1.0"),
        Flag(
            ("--cuda-graphs", ",".join(map(str, GRAPHS))),
            "up to 32 by default: a batch of 100 would run without; vLLM's own sizes",
        ),
        Flag(("PREFIX_CACHING=0",), "on by default: repeated prompts would be measured as cache hits"),
        Flag(("LOG_LEVEL=warn",), "a line a request is work beside the load"),
    ),
}

#: model's name -> (its name in services, its folder)
MODELS = {
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2.5-7b", "Qwen2.5-7B-Instruct"),
    "mistralai/Mistral-7B-Instruct-v0.2": ("mistral-7b", "Mistral-7B-Instruct-v0.2"),
}


def model_flags(engine: str, model: str, flag_class: str) -> tuple[str, ...]:
    """The words that name the model. TGI cannot ignore EOS, so its matched arm serves the overlay."""
    folder = MODELS[model][1]
    if engine == "vllm":
        return (f"/models/{folder}", "--served-model-name", model)
    return ("--model-id", f"/models/overlay/{folder}" if flag_class == MATCHED else f"/models/{folder}")


def flags_of(engine: str, flag_class: str) -> tuple[Flag, ...]:
    """All flags of one engine in one class, but for those that name the model."""
    return REACHED[engine] + (ALIKE[engine] if flag_class == MATCHED else ())


def service_of(engine: str, model: str, flag_class: str) -> str:
    """The service's name in docker-compose.yml, and without a class the name it answers to."""
    return f"{engine}-{MODELS[model][0]}" + ("-as-shipped" if flag_class == AS_SHIPPED else "")


def compose_targets(flag_class: str = MATCHED, hardware: str | None = None) -> list[dict[str, Any]]:
    """The four engines of one class as `POST /v1/targets` takes them.

    Args:
        flag_class: "matched" or "as-shipped".
        hardware: the card, such as "A100-80GB"; `None`: not said, so no roofline.
    """
    return [
        {
            "name": service_of(engine, model, flag_class),
            "engine": engine,
            "model": model,
            "reach": {
                "kind": "container",
                "container": f"enginebench-{service_of(engine, model, flag_class)}",
                "url": f"http://{service_of(engine, model, MATCHED)}:8000",
            },
            "precision": "BF16",
            "flag_class": flag_class,
            # Stated, for a container has none to show before it runs; a test holds them to docker-compose.yml.
            "flags": [
                *model_flags(engine, model, flag_class),
                *(word for flag in flags_of(engine, flag_class) for word in flag.words),
            ],
            "resources": ["gpu:0"],
            **({} if hardware is None else {"hardware": hardware}),
        }
        for model in MODELS
        for engine in REACHED
    ]
