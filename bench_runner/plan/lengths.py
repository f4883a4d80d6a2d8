"""How long prompts and answers are: drawn, held against the target's context, matched to another run. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from bench_runner.errors import SpecError
from bench_runner.plan.prompt import Prompt
from bench_runner.plan.spec import FixedLength, Length, ListedLength, NormalLength, UniformLength, WorkloadSpec
from bench_runner.plan.tokenizer import Tokenizer


def draw_lengths(length: Length, count: int, rng: random.Random) -> list[int]:
    """`count` token lengths, each at least 1."""
    match length:
        case FixedLength(tokens=tokens):
            return [tokens] * count
        case UniformLength(low=low, high=high):
            return [rng.randint(low, high) for _ in range(count)]
        case NormalLength(mean=mean, stddev=stddev, low=low, high=high):
            return [min(high, max(low, round(rng.gauss(mean, stddev)))) for _ in range(count)]
        case ListedLength(tokens=listed):
            return [listed[i % len(listed)] for i in range(count)]
        case _ as unknown:
            assert_never(unknown)


@dataclass(frozen=True, slots=True)
class Room:
    """What the target counts and how much it takes."""

    tokenizer: Tokenizer
    context_tokens: int | None
    overhead: int

    def prompt(self, text: str) -> Prompt:
        """A given text with its count."""
        return Prompt(text, self.tokenizer.count(text) + self.overhead, self.tokenizer.exact, len(text))

    def holds(self, input_tokens: int, output_tokens: int) -> bool:
        """Input and output fit the context, as far as it is known."""
        return self.context_tokens is None or input_tokens + output_tokens <= self.context_tokens

    def check(self, input_tokens: int, output_tokens: int) -> None:
        """Raise SpecError, with the larger of the two as the field to mend, where they do not fit."""
        if not self.holds(input_tokens, output_tokens):
            raise SpecError(
                f"{input_tokens} input + {output_tokens} output tokens are {input_tokens + output_tokens}, longer than "
                f"the target's context of {self.context_tokens}; ask for less, or serve a longer context",
                field="workload.output_tokens" if output_tokens > input_tokens else "workload.prompts.input_tokens",
            )


def fit_lengths(inputs: list[int], outputs: list[int], room: Room, notes: list[str], *, one_by_one: bool) -> list[int]:
    """Positions of the requests that fit the target.

    Args:
        inputs: token lengths of the prompts.
        outputs: of their answers.
        room: what the target takes.
        notes: added to.
        one_by_one: lengths are listed, or a trace's: those that do not fit are left out with a note.

    Raises:
        SpecError: one does not fit and may not be left out, or none is left.
    """
    pairs = list(zip(inputs, outputs, strict=True))
    if not one_by_one:
        for tokens, output in pairs:
            room.check(tokens, output)
        return list(range(len(pairs)))
    least = room.overhead + int(room.tokenizer.bos) + 1
    long = sorted({i for i, o in pairs if not room.holds(i, o)})
    short = sorted({i for i, _ in pairs if i < least})
    if long:
        limit = f"too long for the context of {room.context_tokens} with their output"
        notes.append(f"input lengths left out, {limit}: {_some(long)}")
    if short:
        limit = f"no room for a word beside BOS and template ({least - 1} tokens)"
        notes.append(f"input lengths left out, {limit}: {_some(short)}")
    kept = [at for at, (i, o) in enumerate(pairs) if room.holds(i, o) and i >= least]
    if not kept:
        raise SpecError(
            f"no input length is left: {'; '.join(notes)}; list lengths between {least} and what the context takes",
            field="workload.prompts.input_tokens",
        )
    return kept


def match_lengths(workload: WorkloadSpec, outputs: list[int], kept: Sequence[int], notes: list[str]) -> list[int]:
    """The output lengths of another run in place of the planned ones, where the workload carries them.

    Args:
        workload: says so.
        outputs: planned, one for each request that is sent.
        kept: positions of the requests that are sent among all of the workload's.
        notes: added to.

    Raises:
        SpecError: lengths that do not belong here, or not one for each request.
    """
    matched = workload.matched_output_tokens
    field = "workload.matched_output_tokens"
    if workload.lengths != "length-matched":
        if matched is None:
            return outputs
        raise SpecError(
            f'matched_output_tokens belong to lengths "length-matched", not "{workload.lengths}"; leave them out',
            field=field,
        )
    if matched is None:
        notes.append("length-matched without lengths: what this run's outputs turn out to be is asked of the others")
        return outputs
    # A run that left out what its context does not take has lengths only for what it sent.
    if len(matched) == len(kept):
        return list(matched)
    if len(matched) == workload.requests:
        return [matched[position] for position in kept]
    raise SpecError(
        f"{len(matched)} matched output lengths for {len(kept)} requests; give one for each request", field=field
    )


def _some(lengths: list[int]) -> str:
    """Lengths as a person lists them, no more than a line of them."""
    return ", ".join(map(str, lengths[:20])) + (f" and {len(lengths) - 20} more" if len(lengths) > 20 else "")
