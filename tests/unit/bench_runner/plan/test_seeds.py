from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.plan.seeds import open_stream

parts = st.lists(st.integers() | st.text(max_size=5), max_size=4)


def test_the_same_in_every_process() -> None:
    """Held to a number: results name their seed, and a later version must draw the same from it."""
    assert open_stream("prompts", 1, 0, 1, "measured").getrandbits(32) == 2389036724


@settings(deadline=None)
@given(parts, parts)
def test_other_parts_are_another_stream(one: list[int | str], other: list[int | str]) -> None:
    draws = [open_stream("prompts", *each).getrandbits(128) for each in (one, other)]
    assert (draws[0] == draws[1]) is (one == other)


def test_purposes_do_not_disturb_each_other() -> None:
    assert open_stream("prompts", 1).random() != open_stream("arrivals", 1).random()
