"""A server of this package as a child process: started, awaited until it listens, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import IO, Any

from engines.errors import LaunchFailed

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_PACKAGES = Path(__file__).resolve().parents[2]


@contextmanager
def running(what: str, arguments: Sequence[str], *, lean: bool = False) -> Iterator[dict[str, Any]]:
    """Run `python ARGUMENTS` for the length of a `with` block; gives the line of JSON it says when it listens.

    Args:
        what: its name in errors.
        arguments: of the interpreter; whatever runs must end with its stdin, so that a parent that is killed leaves
            no server behind.
        lean: without site-packages, which start slowly.

    Raises:
        LaunchFailed: it did not say that it listens.
    """
    command, environment = [sys.executable, *arguments], None
    if lean:
        command, environment = [sys.executable, "-S", "-P", *arguments], {**os.environ, "PYTHONPATH": str(_PACKAGES)}
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, after the process
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=_PACKAGES, env=environment
    )
    try:
        yield _await_ready(what, process, errors)
    finally:
        _stop(process)
        errors.close()


def _await_ready(what: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    readable, _, _ = select([process.stdout], [], [], _READY_TIMEOUT_S)
    line = process.stdout.readline() if readable else b""
    if not line:
        process.kill()
        process.wait()
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace")[-2000:]
        last_line = next(reversed(tail.strip().splitlines()), "it wrote nothing")
        raise LaunchFailed(f"{what} did not start: {last_line}", log_tail=tail)
    ready = json.loads(line)
    assert isinstance(ready, dict)
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
