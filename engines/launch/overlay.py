"""A model folder that never stops early: the weights linked, the end-of-sequence id changed to one never sampled.

For engines without ignore-EOS in their API (TGI). They build their stop set from the folder's `generation_config.json`
(else from config or tokenizer), so an id beyond the vocabulary, which no sampler can draw, makes every output as long
as it was asked to be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.errors import LaunchFailed

_CHANGED = ("generation_config.json", "config.json")


def overlay_model_folder(model_path: str, into: Path) -> Path:
    """A folder at `into` that is the model's but for its end-of-sequence id.

    Args:
        model_path: a local Hugging Face model folder.
        into: an empty or absent folder of this launch's own.

    Raises:
        LaunchFailed: `model_path` is no model folder.
    """
    source = Path(model_path).resolve()
    config = _read(source / "config.json")
    text_config = config.get("text_config", config)
    vocab = text_config.get("vocab_size") if isinstance(text_config, dict) else None
    if not isinstance(vocab, int) or vocab < 1:
        raise LaunchFailed(
            f"the overlay protocol needs a local model folder with a config.json that states vocab_size; {model_path!r}"
            " has none: download the model and give its folder, or choose another lengths protocol",
            field="reach.model_path",
        )
    into.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name not in _CHANGED:
            (into / entry.name).symlink_to(entry)
    never_sampled = vocab
    config["eos_token_id"] = never_sampled
    if isinstance(text_config, dict) and "eos_token_id" in text_config:
        text_config["eos_token_id"] = never_sampled
    generation = _read(source / "generation_config.json")
    generation["eos_token_id"] = [never_sampled]
    # Some servers pad with the end-of-sequence id where no other is given, and would look this one up.
    if not isinstance(generation.get("pad_token_id"), int):
        generation["pad_token_id"] = 0
    (into / "config.json").write_text(json.dumps(config, indent=2))
    (into / "generation_config.json").write_text(json.dumps(generation, indent=2))
    return into


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
