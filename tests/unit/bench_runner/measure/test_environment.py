"""What is known of where a run was made, on whatever host this test runs."""

from __future__ import annotations

import json
import os
import platform
import socket
from pathlib import Path
from typing import Any

import pytest

from bench_runner.measure import environment
from bench_runner.measure.environment import (
    RUN_FACTS,
    SERVER_FACTS,
    checked_out,
    describe,
    describe_client,
    model_revision,
    network_path,
    round_trip_s,
)
from engines.launch.container_models import STAMP
from engines.spec import TargetSpec


def test_the_client_is_this_host() -> None:
    client = describe_client()
    assert client["cores"] == os.cpu_count()
    assert client["python"] == platform.python_version()
    assert client["kernel"] == platform.release()
    assert client["commit"] == checked_out(Path(__file__).parents[4])


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert checked_out(tmp_path) is None
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("0123abcd\n")
    assert checked_out(tmp_path) == "0123abcd"
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert checked_out(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\n77aa refs/heads/main\n88bb refs/heads/maintenance\n")
    assert checked_out(tmp_path) == "77aa"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("99cc\n")
    assert checked_out(tmp_path) == "99cc"


def test_the_commit_of_a_worktree_is_in_the_repository_it_came_from(tmp_path: Path) -> None:
    origin, tree = tmp_path / "origin" / ".git", tmp_path / "tree"
    own = origin / "worktrees" / "tree"
    for folder in (own, origin / "refs" / "heads", tree):
        folder.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {own}\n")
    (own / "HEAD").write_text("ref: refs/heads/side\n")
    (own / "commondir").write_text("../..\n")
    (origin / "refs" / "heads" / "side").write_text("11dd\n")
    assert checked_out(tree) == "11dd"


def test_a_host_that_does_not_tell_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_average() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(environment, "_first_value", lambda path, key: None)
    monkeypatch.setattr(os, "getloadavg", no_average)
    client = describe_client()
    assert (client["cpu_model"], client["memory_bytes"], client["load_average_1min"]) == (None, None, None)


def test_memory_is_given_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_first_value", lambda path, key: "2048 kB" if key == "MemTotal" else None)
    assert describe_client()["memory_bytes"] == 2048 * 1024


def test_a_value_is_read_from_key_value_lines(tmp_path: Path) -> None:
    file = tmp_path / "info"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU : v2\nempty :\n")
    assert environment._first_value(file, "model name") == "Some CPU : v2"
    assert environment._first_value(file, "empty") is None
    assert environment._first_value(file, "other") is None
    assert environment._first_value(tmp_path / "none", "other") is None


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (None, None),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("192.0.2.1", "remote"),  # TEST-NET-1: nobody's interface
        ("2001:db8::1", "remote"),
        ("not an address", None),
    ],
)
def test_the_way_to_an_address(address: str | None, path: str | None) -> None:
    assert network_path(address) == path


def test_an_address_of_our_own_is_the_same_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_is_ours", lambda address, version: address == "192.0.2.1")
    assert network_path("192.0.2.1") == "same host"


def test_an_environment_names_every_fact_and_is_plain_json() -> None:
    found = describe("127.0.0.1", server={"version": "0.32.0", "flags": ["--x"]}, run={"simulated": True, "gpus": 1})
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"client", "network_path", "round_trip_s", "server", *RUN_FACTS}
    assert set(found["server"]) == set(SERVER_FACTS)
    assert found["server"]["version"] == "0.32.0"
    assert found["server"]["startup_s"] is None
    assert (found["simulated"], found["hardware"]) == (True, None)
    assert (found["network_path"], found["round_trip_s"]) == ("loopback", None)


def test_a_remote_server_has_its_round_trip_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "network_path", lambda _: "remote")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = describe("127.0.0.1", server={}, run={}, port=port)
        assert 0 < found["round_trip_s"] < 1
        assert round_trip_s("127.0.0.1", port) is not None
        assert describe("127.0.0.1", server={}, run={})["round_trip_s"] is None
    assert round_trip_s("127.0.0.1", port) is None, "nobody listens any more"


SHA = "0123456789abcdef0123456789abcdef01234567"
LAUNCHED = {"kind": "process", "model_path": f"cache/models--a--b/snapshots/{SHA}"}
ATTACHED = {"kind": "attached", "url": "http://127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("reach", "flags", "info", "revision"),
    [
        (ATTACHED, (), {"model_sha": SHA}, SHA),  # as TGI says
        (ATTACHED, (), {"model_sha": None}, None),
        (ATTACHED, ("--dtype bfloat16", "--revision main"), {}, "main"),
        (ATTACHED, ("--revision=v0.2",), {}, "v0.2"),
        (ATTACHED, ("REVISION=v0.3", "--port", "80"), {}, "v0.3"),
        (ATTACHED, ("--tokenizer-revision", "x", "--revision"), {}, None),
        (ATTACHED, (f"--model-id /data/snapshots/{SHA}/",), {}, SHA),
        (LAUNCHED, (), {}, SHA),
        (LAUNCHED | {"model_path": "folder/tiny"}, (), {}, None),
    ],
)
def test_the_revision_of_a_model_is_told_where_anything_tells_it(
    reach: dict[str, Any], flags: tuple[str, ...], info: dict[str, Any], revision: str | None
) -> None:
    target = TargetSpec.model_validate({"engine": "vllm", "model": "m", "reach": reach})
    assert model_revision(target, flags, info) == revision


def test_a_folder_that_was_fetched_for_the_stack_knows_its_commit(tmp_path: Path) -> None:
    folder, overlay = tmp_path / "tiny", tmp_path / "overlay" / "tiny"
    folder.mkdir()
    overlay.mkdir(parents=True)
    container = {"kind": "container", "container": "vllm", "url": "http://vllm:8000"}
    target = TargetSpec.model_validate({"engine": "vllm", "model": "m", "reach": container})
    flags = (str(folder), "--port", "8000")
    assert model_revision(target, flags, {}) is None
    (folder / STAMP).write_text("[]")
    assert model_revision(target, flags, {}) is None
    (folder / STAMP).write_text(json.dumps({"repository": "a/tiny", "revision": "main", "commit": SHA}))
    assert model_revision(target, flags, {}) == SHA
    assert model_revision(target, ("--model-id", str(overlay)), {}) == SHA
    # A path of somebody else's server is one of another host.
    attached = TargetSpec.model_validate({"engine": "vllm", "model": "m", "reach": ATTACHED})
    assert model_revision(attached, flags, {}) is None


def test_a_fact_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="versoin"):
        describe(None, server={"versoin": "1"}, run={})
