"""Which prompt tokens are computed already: whole blocks of earlier prompts; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

#: vLLM's block
BLOCK_TOKENS = 16


class PrefixCache:
    """Knows the blocks of earlier prompts by a chain of hashes, so that a block counts only behind the same start."""

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = capacity_tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[int, None] = OrderedDict()
        #: prompt tokens looked up, and found
        self.queried_tokens = 0
        self.hit_tokens = 0

    def lookup(self, prompt: list[int]) -> int:
        """Leading tokens of a prompt that are there, in whole blocks; never its last, which gives the answer."""
        found = 0
        for block in _chain(prompt[:-1]):
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            found += BLOCK_TOKENS
        self.queried_tokens += len(prompt)
        self.hit_tokens += found
        return found

    def insert(self, prompt: list[int]) -> None:
        """A prompt has been computed."""
        for block in _chain(prompt):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


def _chain(prompt: list[int]) -> Iterator[int]:
    block = 0
    for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
        block = hash((block, *prompt[end - BLOCK_TOKENS : end]))
        yield block
