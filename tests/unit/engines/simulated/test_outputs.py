"""What the simulated model says is a function of the seed and the prompt, and has as many tokens as it claims."""

from __future__ import annotations

from engines.simulated.outputs import Outputs
from engines.simulated.tokenizer import EOS_ID, Tokenizer

TOKENIZER = Tokenizer(bos=True)


def test_the_same_prompt_gets_the_same_answer() -> None:
    prompt = TOKENIZER.encode_prompt("hello")
    first = Outputs(TOKENIZER, 7).draw(prompt, 64, ignore_eos=True)
    assert Outputs(TOKENIZER, 7).draw(prompt, 64, ignore_eos=True) == first
    assert Outputs(TOKENIZER, 8).draw(prompt, 64, ignore_eos=True) != first
    assert Outputs(TOKENIZER, 7).draw([*prompt, 300], 64, ignore_eos=True) != first


def test_text_retokenises_to_the_counted_tokens() -> None:
    for split_every in (0, 10):
        outputs = Outputs(TOKENIZER, 0, split_every=split_every)
        for k in range(20):
            output = outputs.draw([k], 97, ignore_eos=True)
            if split_every and output.texts[-1] == b"":
                continue  # cut inside a character, whose bytes are no text
            text = TOKENIZER.decode(output.ids)
            assert TOKENIZER.encode(text) == output.ids
            assert b"".join(output.texts).decode() == text


def test_split_characters_leave_tokens_without_text() -> None:
    output = Outputs(TOKENIZER, 0, split_every=10).draw([1], 1000, ignore_eos=True)
    assert output.texts.count(b"") > 20
    assert output.texts[0] != b"" or output.texts[1] == b"", "an answer starts with a whole character"
    assert Outputs(TOKENIZER, 0).draw([1], 1000, ignore_eos=True).texts.count(b"") == 0


def test_ignoring_eos_gives_exactly_the_length() -> None:
    outputs = Outputs(TOKENIZER, 0)
    for k in range(200):
        output = outputs.draw([k], 128, ignore_eos=True)
        assert (len(output.ids), output.stopped) == (128, False)
        assert EOS_ID not in output.ids


def test_a_batch_that_may_stop_is_about_fifty_of_12800_short() -> None:
    outputs = Outputs(TOKENIZER, 0)
    batches = 30
    answers = [outputs.draw([batch, k], 128, ignore_eos=False) for batch in range(batches) for k in range(100)]
    missing = sum(128 - len(answer.ids) for answer in answers) / batches
    assert 40 < missing < 60
    for answer in answers:
        assert answer.stopped == (len(answer.ids) < 128)
        assert (answer.ids[-1] == EOS_ID) == answer.stopped


def test_a_minimum_length_holds_the_stop_off() -> None:
    outputs = Outputs(TOKENIZER, 0)
    assert all(len(outputs.draw([k], 128, ignore_eos=False, min_tokens=128).ids) == 128 for k in range(100))


def test_one_token_is_one_token() -> None:
    outputs = Outputs(TOKENIZER, 0)
    assert {len(outputs.draw([k], 1, ignore_eos=False).ids) for k in range(100)} == {1}
    assert len(outputs.draw([1], 20_000, ignore_eos=True).ids) == 20_000
