"""One JSON object a line, and no secret in any of them."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from services.telemetry.logs import CUT, JsonLines


def line(message: str = "job accepted", secrets: tuple[str, ...] = (), **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("services.api", logging.INFO, "file.py", 1, message, (), None)
    record.__dict__.update(extra)
    text = JsonLines(secrets).format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_event_and_fields() -> None:
    found = line(job="j1", wait_s=1.5)
    assert {k: found[k] for k in ("level", "logger", "event", "job", "wait_s")} == {
        "level": "info",
        "logger": "services.api",
        "event": "job accepted",
        "job": "j1",
        "wait_s": 1.5,
    }
    assert found["at"].endswith("+00:00")
    assert not {"args", "msg", "pathname", "color_message"} & set(found)


def test_secrets_are_cut_out_of_messages_fields_and_tracebacks() -> None:
    secret = "s3cret-word"
    try:
        raise RuntimeError(f"refused {secret}")
    except RuntimeError:
        exc_info = sys.exc_info()
    found = line(f"sent {secret}", (secret,), header=f"Bearer {secret}", exc_info=exc_info)
    assert secret not in json.dumps(found)
    assert found["header"] == f"Bearer {CUT}"
    assert "RuntimeError" in found["traceback"]


def test_what_is_not_json_is_shown_as_text() -> None:
    assert line(path=logging)["path"].startswith("<module")


def test_a_secret_that_json_escapes_is_cut_too() -> None:
    assert line(token='say "friend"\\', secrets=('say "friend"\\',))["token"] == CUT
