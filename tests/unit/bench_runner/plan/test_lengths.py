from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.plan.lengths import draw_lengths
from bench_runner.plan.seeds import open_stream
from bench_runner.plan.spec import FixedLength, Length, ListedLength, NormalLength, UniformLength


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(FixedLength, tokens=st.integers(1, 99)),
        st.builds(UniformLength, low=st.integers(1, 50), high=st.integers(50, 99)),
        st.builds(
            NormalLength,
            mean=st.floats(1, 99),
            stddev=st.floats(0, 200),
            low=st.integers(1, 50),
            high=st.integers(50, 99),
        ),
        st.builds(ListedLength, tokens=st.lists(st.integers(1, 99), min_size=1, max_size=9).map(tuple)),
    ),
    st.integers(0, 200),
)
def test_as_many_as_asked_and_within_bounds(length: Length, count: int) -> None:
    drawn = draw_lengths(length, count, open_stream("lengths", 1))
    assert len(drawn) == count
    assert all(1 <= tokens <= 99 for tokens in drawn)
    assert drawn == draw_lengths(length, count, open_stream("lengths", 1))


def test_uniform_reaches_both_ends() -> None:
    assert set(draw_lengths(UniformLength(low=3, high=5), 200, open_stream("lengths", 1))) == {3, 4, 5}


def test_normal_has_its_mean_and_spread() -> None:
    drawn = draw_lengths(NormalLength(mean=500, stddev=50), 4000, open_stream("lengths", 1))
    mean = sum(drawn) / len(drawn)
    spread = (sum((tokens - mean) ** 2 for tokens in drawn) / len(drawn)) ** 0.5
    assert 495 < mean < 505
    assert 47 < spread < 53


def test_listed_starts_over() -> None:
    assert draw_lengths(ListedLength(tokens=(7, 9)), 5, open_stream("lengths", 1)) == [7, 9, 7, 9, 7]
