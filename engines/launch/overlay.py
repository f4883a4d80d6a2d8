"""A model folder that never stops early: the weights linked, the end-of-sequence id changed to one never sampled.

For engines without ignore-EOS in their API. They build their stop set from the folder's `generation_config.json`, else
from its config or tokenizer (TGI), or from all of them (mlx-lm). With an id beyond the vocabulary, which no sampler can
draw, and a tokenizer that names none, every output is as long as it was asked to be.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.errors import LaunchFailed
from engines.launch.orphans import drop_overlay, launches_folder, write_owner

_CHANGED = ("generation_config.json", "config.json", "tokenizer_config.json", "special_tokens_map.json")


@contextlib.contextmanager
def overlaid(model_path: str, state_dir: Path) -> Iterator[Path]:
    """An overlay of the model beside the launch records, for the length of a `with` block.

    It bears the model's name, which some servers take for the model's. One that a killed worker left is taken away by
    `orphans.reap_orphans`.

    Args:
        model_path: a local Hugging Face model folder.
        state_dir: where logs and records of launches are.

    Raises:
        LaunchFailed: `model_path` is no model folder, or the overlay cannot be written.
    """
    owner = launches_folder(state_dir).resolve() / f"{uuid.uuid4().hex[:12]}.overlay.owner"
    name = Path(model_path).resolve().name or "model"
    try:
        try:
            write_owner(owner)
            folder = overlay_model_folder(model_path, owner.with_suffix("") / name)
        except OSError as error:
            raise LaunchFailed(
                f"no overlay of {model_path!r} can be made in {owner.parent}: {error.strerror}; mend the folder or disk"
            ) from None
        yield folder
    finally:
        drop_overlay(owner)


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
    changed = {"config.json": config, "generation_config.json": generation}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (source / name).exists():
            # An explicit null: a name left out would be the tokenizer class's own default.
            changed[name] = _read(source / name) | {"eos_token": None}
    for name, content in changed.items():
        (into / name).write_text(json.dumps(content, indent=2))
    return into


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
