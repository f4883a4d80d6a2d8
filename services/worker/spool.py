"""Results on the worker's own disk until the database took them: a result once measured is not lost to an outage.

One file a result: a line of what it is, then one line a record. A file is whole or not there.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpooledResult:
    """A result that waits for the database. With run, attempt and worker it is a Fence."""

    path: Path
    run_id: str
    attempt: int
    worker: str
    #: RunResult as JSON
    result: Mapping[str, Any]

    def records(self) -> Iterator[dict[str, Any]]:
        """Its request records, one at a time."""
        with self.path.open(encoding="utf-8") as lines:
            next(lines)
            for line in lines:
                yield json.loads(line)

    def discard(self) -> None:
        """Forget it: the database has it, or will never take it."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep it for a person to look at, out of the way."""
        refused = self.path.parent / "refused"
        refused.mkdir(exist_ok=True)
        self.path.rename(refused / self.path.name)


def write_result(
    folder: Path,
    *,
    run_id: str,
    attempt: int,
    worker: str,
    result: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
) -> SpooledResult:
    """Put a result on disk, for good.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_id}.{attempt}.jsonl"
    draft = path.with_suffix(".draft")
    what = {"run_id": run_id, "attempt": attempt, "worker": worker, "result": result}
    try:
        with draft.open("w", encoding="utf-8") as lines:
            lines.write(_line(what))
            for record in records:
                lines.write(_line(record))
            lines.flush()
            os.fsync(lines.fileno())
        draft.rename(path)
        _sync_folder(folder)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return _read(path)


def waiting_results(folder: Path) -> list[SpooledResult]:
    """Results that an earlier life of this worker left behind, the oldest first."""
    for draft in folder.glob("*.draft"):
        draft.unlink(missing_ok=True)
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            found.append(_read(path))
        except (ValueError, KeyError, TypeError):
            log.exception("spooled result cannot be read", extra={"path": str(path)})
            SpooledResult(path, "", 0, "", {}).set_aside()
    return found


def _read(path: Path) -> SpooledResult:
    with path.open(encoding="utf-8") as lines:
        what = json.loads(next(lines, ""))
    return SpooledResult(path, what["run_id"], what["attempt"], what["worker"], what["result"])


def _line(value: Mapping[str, Any]) -> str:
    """ASCII, so that even half a surrogate pair in an engine's answer comes through."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n"
    except ValueError:
        # no database takes NaN or infinity; missing is None
        return json.dumps(_finite(value), separators=(",", ":")) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


def _sync_folder(folder: Path) -> None:
    """The file's name is on disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
