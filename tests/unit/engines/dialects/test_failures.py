"""What a connection did to a response, in words that tell one end from another."""

from __future__ import annotations

import pytest

from engines.contract import FailureKind
from engines.dialects.failures import transport_failure
from engines.dialects.http1_response import split_response
from tests.fakes.captures import head, make_capture


@pytest.mark.parametrize(
    ("ended", "body", "words"),
    [
        ("reset", b"", "connection reset before any byte of a response by peer"),
        ("reset", head(content_length="9") + b"half", "connection reset inside the response by peer"),
        # Its end is the connection's, so nobody knows whether it was whole.
        ("reset", head() + b"data", "connection reset inside the response by peer"),
        ("eof", b"", "connection closed before any byte of a response by peer"),
        ("eof", head(content_length="9") + b"half", "connection closed inside the response by peer"),
    ],
)
def test_a_connection_that_broke_says_when_and_how(ended: str, body: bytes, words: str) -> None:
    capture = make_capture(body, ended=ended, error="by peer")
    failure = transport_failure(capture, split_response(capture.body))
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.BROKEN_STREAM, words)


def test_a_whole_response_does_not_care_how_the_connection_ended() -> None:
    capture = make_capture(head(content_length="4") + b"data", ended="reset")
    assert transport_failure(capture, split_response(capture.body)) is None
