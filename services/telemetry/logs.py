"""JSON lines: a stable event phrase, values as fields with units. Secrets are cut out whatever carries them.

What is in work is said once, where the work begins (`in_work`), and stands on every line that is written in its course,
whoever writes it. Nothing reaches the stream in another form: warnings of Python and errors that nobody caught are
lines too.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, TextIO

#: What a LogRecord has of its own; anything else came in through `extra`.
_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    *("message", "asctime", "taskName"),
    "color_message",  # uvicorn's event once more, with escapes
}
#: Shorter ones would cut ordinary words.
_SHORTEST_SECRET = 4
CUT = "[secret]"

#: Fields of what is in work here; `None`: nothing.
_work: ContextVar[Mapping[str, Any] | None] = ContextVar("work", default=None)
#: The request that is answered here, as ASGI has it; its route fills in the path's parameters.
_request: ContextVar[MutableMapping[str, Any] | None] = ContextVar("request", default=None)

log = logging.getLogger(__name__)


@contextmanager
def in_work(**fields: Any) -> Iterator[None]:
    """These fields stand on every line that is written within the block, beside those of blocks around it."""
    token = _work.set({**(_work.get() or {}), **fields})
    try:
        yield
    finally:
        _work.reset(token)


def about_run(run_id: str, **more: Any) -> dict[str, Any]:
    """Fields of a run: its job's id is what its own begins with."""
    return {"job_id": run_id.rpartition("-")[0], "run_id": run_id, **more}


def answering(scope: MutableMapping[str, Any]) -> None:
    """From here on this task answers that request: method, path, and the ids that its path names are on its lines."""
    _request.set(scope)


def carried(function: Callable[[], None]) -> Callable[[], None]:
    """For a thread of its own, which else knows nothing of what is in work where it was started."""
    return partial(copy_context().run, function)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, event, what is in work, then the fields given as `extra`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # As they stand, and as JSON writes them; the longest first, for one may be part of another.
        forms = known | {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in known}
        self._secrets = tuple(sorted(forms, key=len, reverse=True))

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        line |= _work.get() or {}
        line |= _of_request()
        line |= {key: value for key, value in record.__dict__.items() if key not in _OWN and not key.startswith("_")}
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        try:
            text = json.dumps(line, default=str, ensure_ascii=False)
        except (TypeError, ValueError):
            # a key that JSON has none for, or a thing within itself
            text = json.dumps({str(key): str(value) for key, value in line.items()}, ensure_ascii=False)
        for secret in self._secrets:
            text = text.replace(secret, CUT)
        # Half a surrogate pair, as an engine may send one, has no UTF-8.
        return text.encode("utf-8", "replace").decode("utf-8")


def configure_logs(level: str = "INFO", secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send every logger of this process to `stream` (standard error) as JSON lines, once."""
    into = stream or sys.stderr
    if isinstance(into, io.TextIOWrapper):
        into.reconfigure(encoding="utf-8", errors="replace")  # JSON is UTF-8, whatever the locale
    handler = logging.StreamHandler(into)
    handler.setFormatter(JsonLines(secrets))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # The HTTP metrics count requests; a line each would drown what matters.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")
    _catch_the_rest()


def _catch_the_rest() -> None:
    """What Python would write to standard error by itself."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False

    def uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("process dies of an error", exc_info=(kind, error, at))

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is None or what.exc_type is SystemExit:
            return
        name = None if what.thread is None else what.thread.name
        caught = (what.exc_type, what.exc_value, what.exc_traceback)
        log.critical("thread died of an error", exc_info=caught, extra={"thread_name": name})

    def ignored(what: sys.UnraisableHookArgs) -> None:
        if what.exc_value is not None:
            caught = (what.exc_type, what.exc_value, what.exc_traceback)
            log.error("error that could not be raised", exc_info=caught, extra={"where": what.err_msg})

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, ignored


def _event(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)  # its arguments do not fit it


def _of_request() -> dict[str, Any]:
    scope = _request.get()
    if scope is None:
        return {}
    named = scope.get("path_params") or {}
    ids = about_run(named["run_id"]) if "run_id" in named else {key: named[key] for key in named if key == "job_id"}
    return {"method": scope.get("method"), "path": scope.get("path"), **ids}
