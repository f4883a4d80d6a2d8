"""Hugging Face model folders made on the spot: real architectures, random weights, under 2 MB, in a second.

vLLM, Transformers and mlx-lm load them like any other model. Nothing but `tokenizers` and the standard library is
needed: bfloat16 is the upper half of a float32, and a safetensors file is a length, a JSON header and the numbers.
"""

from __future__ import annotations

import json
import random
import struct
import sysconfig
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE, VOCAB = 128, 2, 4, 2, 256, 2048
CONTEXT = 2048
#: ids of the special tokens, in the order the tokenizer gets them
UNKNOWN, BOS, EOS, TURN_START, TURN_END = range(5)
_SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(folder: Path, architecture: str, *, seed: int = 0) -> Path:
    """A loadable model folder.

    Args:
        folder: made where it is absent.
        architecture: "qwen2" (biases, no BOS) or "mistral" (no biases, BOS before every text).
        seed: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bos = architecture == "mistral"
    _write_json(folder / "config.json", _config(architecture))
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": BOS, "eos_token_id": [EOS, TURN_END], "pad_token_id": UNKNOWN, "do_sample": False},
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<unk>",
            "model_max_length": CONTEXT,
            "chat_template": _CHATML,
            "clean_up_tokenization_spaces": False,
        },
    )
    _train_tokenizer(bos).save(str(folder / "tokenizer.json"))
    _write_weights(folder / "model.safetensors", random.Random(seed), biases=architecture == "qwen2")
    return folder


def _config(architecture: str) -> dict[str, Any]:
    classes = {"qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}
    return {
        "architectures": [classes[architecture]],
        "model_type": architecture,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "sliding_window": None,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": UNKNOWN,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }


def _train_tokenizer(bos: bool) -> Tokenizer:
    """A byte-level BPE, trained on the standard library's own sources."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-h]*.py"))
    tokenizer.train_from_iterator((path.read_text(encoding="utf-8", errors="ignore") for path in sources), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
        )
    return tokenizer


def _weights(biases: bool) -> Iterator[tuple[str, list[int], float]]:
    """Name, shape and spread of each tensor; a spread of 0 is a norm's ones."""
    q, kv = HIDDEN, HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN], 1.0
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", [HIDDEN], 0.0
        yield f"{at}.post_attention_layernorm.weight", [HIDDEN], 0.0
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield f"{at}.self_attn.{name}_proj.weight", [rows, HIDDEN], 0.1
            if biases:
                yield f"{at}.self_attn.{name}_proj.bias", [rows], 0.02
        yield f"{at}.self_attn.o_proj.weight", [HIDDEN, q], 0.1
        yield f"{at}.mlp.gate_proj.weight", [INTERMEDIATE, HIDDEN], 0.1
        yield f"{at}.mlp.up_proj.weight", [INTERMEDIATE, HIDDEN], 0.1
        yield f"{at}.mlp.down_proj.weight", [HIDDEN, INTERMEDIATE], 0.1
    yield "model.norm.weight", [HIDDEN], 0.0
    yield "lm_head.weight", [VOCAB, HIDDEN], 0.1


def _write_weights(path: Path, draw: random.Random, *, biases: bool) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blob = bytearray()
    for name, shape, spread in _weights(biases):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        numbers = array("f", [draw.gauss(0.0, spread) for _ in range(count)] if spread else [1.0] * count)
        whole = numbers.tobytes()
        halves = bytearray(2 * count)
        halves[0::2], halves[1::2] = whole[2::4], whole[3::4]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(blob), len(blob) + len(halves)]}
        blob += halves
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    path.write_bytes(struct.pack("<Q", len(described)) + described + blob)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))
