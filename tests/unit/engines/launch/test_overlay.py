"""A model folder that is the model's own but for its end-of-sequence id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.errors import LaunchFailed
from engines.launch.overlay import overlay_model_folder


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_weights_are_linked_and_the_end_is_beyond_the_vocabulary(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write(model / "config.json", {"vocab_size": 2048, "eos_token_id": 2, "hidden_size": 8})
    write(model / "generation_config.json", {"eos_token_id": [2, 4], "pad_token_id": 3, "temperature": 0.7})
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "tokenizer.json").write_text("{}")
    write(model / "tokenizer_config.json", {"eos_token": "</s>", "bos_token": "<s>"})
    write(model / "special_tokens_map.json", {"eos_token": {"content": "</s>"}})

    overlay = overlay_model_folder(str(model), tmp_path / "overlay")

    assert (overlay / "model.safetensors").is_symlink()
    assert (overlay / "model.safetensors").read_bytes() == b"weights"
    assert (overlay / "tokenizer.json").is_symlink()
    assert json.loads((overlay / "config.json").read_text()) == {
        "vocab_size": 2048,
        "eos_token_id": 2048,
        "hidden_size": 8,
    }
    assert json.loads((overlay / "generation_config.json").read_text()) == {
        "eos_token_id": [2048],
        "pad_token_id": 3,
        "temperature": 0.7,
    }
    assert json.loads((overlay / "tokenizer_config.json").read_text()) == {"eos_token": None, "bos_token": "<s>"}
    assert json.loads((overlay / "special_tokens_map.json").read_text()) == {"eos_token": None}
    assert json.loads((model / "config.json").read_text())["eos_token_id"] == 2


def test_a_model_without_a_generation_config_gets_one(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write(model / "config.json", {"text_config": {"vocab_size": 10, "eos_token_id": 1}})
    overlay = overlay_model_folder(str(model), tmp_path / "overlay")
    assert json.loads((overlay / "generation_config.json").read_text()) == {"eos_token_id": [10], "pad_token_id": 0}
    assert json.loads((overlay / "config.json").read_text())["text_config"]["eos_token_id"] == 10
    assert not (overlay / "tokenizer_config.json").exists()


@pytest.mark.parametrize("config", [None, "[]", "{", '{"vocab_size": "many"}'])
def test_what_is_no_model_folder_is_refused_with_the_mend(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(LaunchFailed, match="needs a local model folder") as failed:
        overlay_model_folder(str(tmp_path), tmp_path / "overlay")
    assert failed.value.field == "reach.model_path"
