"""Words to ids and back: exact lengths are always possible."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from engines.simulated.tokenizer import BOS_ID, EOS_ID, SPECIAL_TEXT, WORDS, Tokenizer

PLAIN = Tokenizer(bos=False)
WITH_BOS = Tokenizer(bos=True)


@given(st.text())
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert PLAIN.decode(PLAIN.encode(text)) == text


@given(st.text())
def test_special_ids_never_come_from_text(text: str) -> None:
    assert not set(PLAIN.encode(text)) & set(SPECIAL_TEXT)


@given(st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=60))
def test_words_are_one_token_each_wherever_they_stand(positions: list[int]) -> None:
    text = "".join(f" {WORDS[k]}" for k in positions)
    ids = PLAIN.encode(text)
    assert len(ids) == len(positions)
    assert PLAIN.encode(PLAIN.decode(ids)) == ids


def test_some_words_are_several_tokens() -> None:
    assert len(PLAIN.encode(" entanglement")) > 1
    assert len(PLAIN.encode(" explain")) == 1


def test_bos_counts_where_the_model_has_one() -> None:
    assert WITH_BOS.encode_prompt("two words") == [BOS_ID, *PLAIN.encode_prompt("two words")]
    assert WITH_BOS.encode_prompt("") == [BOS_ID]


def test_a_chat_is_its_turns_and_an_opening_for_the_answer() -> None:
    open_turns = WITH_BOS.encode_chat([("user", "hello")], generation_prompt=False)
    with_opening = WITH_BOS.encode_chat([("user", "hello")])
    assert open_turns[0] == BOS_ID
    assert with_opening[: len(open_turns)] == open_turns
    longer = WITH_BOS.encode_chat([("user", "hello the the")])
    assert len(longer) == len(with_opening) + 2


def test_json_text_is_what_stands_inside_a_json_string() -> None:
    for text in ('"', "\n", "\\", " the", "\t"):
        (token,) = PLAIN.encode(text)
        assert json.loads(b'"' + PLAIN.json_text(token) + b'"') == text
    assert PLAIN.json_text(EOS_ID) == b""


def test_every_process_has_the_same_vocabulary() -> None:
    again = Tokenizer(bos=False)
    ids = random.Random(1).choices(range(again.size), k=500)
    assert again.decode(ids) == PLAIN.decode(ids)
    assert PLAIN.encode(" the energy of light") == again.encode(" the energy of light")
    assert len(set(PLAIN.word_ids)) == len(WORDS)
    assert max(PLAIN.word_ids) < PLAIN.size <= 32_000, "ids must stand inside the smallest model's vocabulary"
