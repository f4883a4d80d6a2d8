"""Which prompt tokens an earlier prompt has computed."""

from __future__ import annotations

from engines.simulated.prefix_cache import PrefixCache


def test_whole_blocks_of_the_same_start_are_found() -> None:
    cache = PrefixCache(1000)
    prompt = list(range(100))
    assert cache.lookup(prompt) == 0
    cache.insert(prompt)
    assert cache.lookup(prompt) == 96
    assert cache.lookup([*prompt[:40], *range(500, 560)]) == 32
    assert cache.lookup([7, *prompt[1:]]) == 0
    assert cache.hit_tokens == 128
    assert cache.queried_tokens == 400


def test_the_last_token_is_always_computed() -> None:
    cache = PrefixCache(1000)
    cache.insert(list(range(32)))
    assert cache.lookup(list(range(32))) == 16


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(64)
    old, new = list(range(33)), list(range(100, 133))
    cache.insert(old)
    cache.insert(new)
    assert cache.lookup(old) == 32
    cache.insert(list(range(200, 233)))
    assert cache.lookup(new) == 0
    assert cache.lookup(old) == 32
