"""`enginebench admin` as a person uses it, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.keys import ROLES
from services.cli.main import main
from services.domain.key import Role
from services.store.database import Database, close, open_database
from services.store.keys import find_key
from services.store.runs import get_records, get_run
from tests.fakes.history import one_run


@pytest.fixture(autouse=True)
def _of_this_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", database_url)


def test_a_backup_is_made_and_restored(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = one_run(database)
    backup = str(tmp_path / "backup.gz")
    assert main(["admin", "backup", backup]) == 0
    assert "rows in" in capsys.readouterr().out
    assert main(["admin", "backup", backup]) == 2
    assert "is there" in capsys.readouterr().err
    assert main(["admin", "backup", backup, "--force"]) == 0
    assert main(["admin", "restore", backup]) == 2
    assert "holds jobs" in capsys.readouterr().err
    url = f"sqlite:///{tmp_path / 'new' / 'other.sqlite'}"
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", url)
    assert main(["admin", "restore", backup]) == 0
    other = open_database(url)
    assert get_run(other, run_id) == get_run(database, run_id)
    close(other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backup", "{folder}/none/file"], "No such file"),
        (["restore", "{folder}/none"], "No such file"),
        (["restore", "{folder}/text"], "is no whole backup"),
        (["retention", "--keep-days", "-1"], "from 0 to 100000"),
        (["retention", "--keep-days", "nan"], "from 0 to 100000"),
        (["backup", ".", "--force"], ". is a folder; name a file in it"),
        (["backup", "..", "--force"], ".. is a folder"),
        (["backup", "{folder}", "--force"], "is a folder"),
        (["restore", "."], "Is a directory"),
        (["keys", "revoke", "none"], "there is no key 'none' (take an id from `enginebench admin keys list`)"),
        (["keys", "create", "--role", "read", "--name", " "], "--name: give 1 to 100 characters"),
        (["keys", "create", "--role", "read", "--name", "a\nb"], "--name: give 1 to 100 characters"),
        (["keys", "create", "--role", "read", "--name", "a" * 101], "--name: give 1 to 100 characters"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("hello")
    assert main(["admin", *(word.replace("{folder}", str(tmp_path)) for word in words)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_database_that_is_not_migrated_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", f"sqlite:///{tmp_path / 'new.sqlite'}")
    assert main(["admin", "backup", str(tmp_path / "file")]) == 1
    assert main(["admin", "retention", "--keep-days", "1"]) == 1
    assert main(["admin", "keys", "create", "--name", "a", "--role", "read"]) == 1
    assert main(["admin", "keys", "list"]) == 1
    assert main(["admin", "keys", "revoke", "a"]) == 1
    assert capsys.readouterr().err.count("not migrated") == 5


def test_old_records_are_let_go_of(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = one_run(database)
    assert main(["admin", "retention", "--keep-days", "30"]) == 0
    assert main(["admin", "retention", "--keep-days", "0", "--dry-run"]) == 0
    assert "of 1 runs" in capsys.readouterr().out
    assert len(list(get_records(database, run_id))) == 2
    assert main(["admin", "retention", "--keep-days", "0"]) == 0
    assert get_run(database, run_id).records == 0


def test_keys_are_made_listed_and_revoked(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(role.value for role in Role) == ROLES
    assert main(["admin", "keys", "create", "--name", "nightly [ci]", "--role", "run"]) == 0
    made = capsys.readouterr()
    text = made.out.strip()
    found = find_key(database, text)
    assert found is not None
    assert (found.name, found.role) == ("nightly [ci]", Role.RUN)
    assert found.id in made.err
    assert text not in made.err
    assert main(["admin", "keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "nightly [ci]" in listed
    assert text not in listed
    for _ in range(2):
        assert main(["admin", "keys", "revoke", found.id]) == 0
        assert f"key {found.id} (nightly [ci]) opens nothing from " in capsys.readouterr().out
    revoked = find_key(database, text)
    assert revoked is not None
    assert revoked.revoked_at is not None


@pytest.mark.parametrize("words", [["--role", "root"], ["--role", "read"], ["--name", "a"]])
def test_a_key_wants_a_name_and_a_role_there_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["admin", "keys", "create", *words])
    assert ended.value.code == 2
    assert "--" in capsys.readouterr().err
