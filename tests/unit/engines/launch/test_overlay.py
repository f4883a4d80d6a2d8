"""A model folder that is the model's own but for its end-of-sequence id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import LaunchFailed
from engines.launch.keeper import started_at
from engines.launch.orphans import boot_id, launches_folder, reap_orphans
from engines.launch.overlay import overlaid, overlay_model_folder


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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    write(folder / "config.json", {"vocab_size": 50})
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_an_overlay_stands_beside_the_launch_records_under_the_model_s_name(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with overlaid(str(model), state) as folder:
        assert folder.parent.parent == launches_folder(state)
        assert folder.name == "tiny"
        assert (folder / "model.safetensors").read_bytes() == b"weights"
        assert reap_orphans(state) == 0
        assert folder.exists()
    assert list(launches_folder(state).iterdir()) == []
    assert (model / "model.safetensors").exists()


def test_one_of_a_killed_worker_is_taken_away_at_the_next_start(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    program = (
        "import os, signal, sys; from pathlib import Path; from engines.launch.overlay import overlaid\n"
        "with overlaid(sys.argv[1], Path(sys.argv[2])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(model), str(state)], cwd=Path.cwd(), check=False)
    (left,) = launches_folder(state).glob("*.overlay/tiny/model.safetensors")
    assert left.is_symlink()
    assert reap_orphans(state) == 0
    assert list(launches_folder(state).iterdir()) == []
    assert (model / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("boot", ["this", "another"])
def test_whose_it_is_counts_within_one_boot(tmp_path: Path, boot: str) -> None:
    folder = launches_folder(tmp_path) / "one.overlay"
    folder.mkdir(parents=True)
    owner = [os.getpid(), started_at(os.getpid())]
    write(folder.with_suffix(".overlay.owner"), {"boot": boot_id() if boot == "this" else boot, "owner": owner})
    reap_orphans(tmp_path)
    assert folder.exists() == (boot == "this")


def test_what_is_no_model_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="needs a local model folder"), overlaid(str(tmp_path), tmp_path / "state"):
        pass
    assert list(launches_folder(tmp_path / "state").iterdir()) == []


def test_a_state_folder_that_cannot_be_written_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(LaunchFailed, match=r"no overlay of .*; mend the folder or disk"):
        overlaid(str(model), tmp_path / "state").__enter__()
