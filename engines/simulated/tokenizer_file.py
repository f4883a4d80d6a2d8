"""The simulated engine's tokenizer as a `tokenizer.json` of the tokenizers library, for whoever counts locally."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.simulated.tokenizer import BOS_ID, PIECE_PATTERN, SPECIAL_TEXT, Tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write `tokenizer.json` into a folder, made where it is not there; the file's path.

    Longest match first over bytes is what the library calls WordPiece, over its byte-level alphabet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(_document(tokenizer), ensure_ascii=False), encoding="utf-8")
    return path


def _document(tokenizer: Tokenizer) -> dict[str, Any]:
    alphabet = _byte_alphabet()
    vocabulary = {text: token for token, text in SPECIAL_TEXT.items()}
    for token, data in tokenizer.entries():
        vocabulary["".join(alphabet[byte] for byte in data)] = token
    pieces = {"type": "Split", "pattern": {"Regex": PIECE_PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(token, text) for token, text in SPECIAL_TEXT.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [pieces, byte_level]},
        "post_processor": _opening() if tokenizer.bos else None,
        "decoder": byte_level,
        "model": {
            "type": "WordPiece",
            "unk_token": SPECIAL_TEXT[0],
            "continuing_subword_prefix": "",
            "max_input_chars_per_word": 1_000_000,
            "vocab": vocabulary,
        },
    }


def _special(token: int, text: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token, "content": text, **plain, "special": True}


def _opening() -> dict[str, Any]:
    bos = SPECIAL_TEXT[BOS_ID]
    single = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}]
    special = {bos: {"id": bos, "ids": [BOS_ID], "tokens": [bos]}}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _byte_alphabet() -> list[str]:
    """The printable character that stands for each byte: itself where it is printable, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]
