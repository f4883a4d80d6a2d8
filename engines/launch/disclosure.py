"""What of a server's command line and variables may be kept with a result: its settings, and nobody's secret.

A command line is shown but for what stands behind a name that speaks of a secret. Variables are the other way about: an
image has dozens of its own, and anybody may add one, so only those are shown that are known to be an engine's settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

#: Stands where a secret stood.
REDACTED = "[redacted]"

#: In a name, what speaks of a secret: `--api-key`, HF_TOKEN; not `--max-num-batched-tokens`, TOKENIZERS_PARALLELISM,
#: num_key_value_heads.
_TELLTALE = r"(?:TOKEN(?!S|IZER)|KEY(?![_-]VALUE[_-])|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE)"
_SECRET_NAME = re.compile(_TELLTALE, re.IGNORECASE)

#: A word of a shell's, in quotes or not; and what stands between the brackets of JSON.
_WORD = r"(?:\"[^\"]*\"|'[^']*'|[^\s;&|])+"
_INNER = r"(?:\\.|\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\[\]{}\"'\\])"

#: Within one argument, such a name with what joins it to its value, and the value.
_PAIRS = tuple(
    re.compile(rf"(?P<name>{name})(?P<value>{value})", re.IGNORECASE | re.DOTALL)
    for name, value in (
        # A header, which is all of the argument or of what is quoted in it.
        *(
            (rf"{opening}[\w-]*{_TELLTALE}[\w-]*:\s*", inner)
            for opening, inner in ((r"\A", ".+"), ('"', '[^"]+'), ("'", "[^']+"))
        ),
        # A flag in a command for a shell: it takes several words.
        (rf"(?<![\w.-])-[\w.-]*{_TELLTALE}[\w.-]*\s+", rf"(?!--){_WORD}(?:\s+(?!-){_WORD})*"),
        # Whatever else, JSON and variables in a command for a shell included.
        (
            rf"(?<![\w.-])[\w.-]*{_TELLTALE}[\w.-]*\\*[\"']?\s*[=:\s]\s*",
            rf"[\[{{](?:{_INNER}|[\[{{]{_INNER}*[\]}}])*[\]}}]|\"(?:\\.|[^\"\\])*\"|'[^']*'"
            r"|(?:Bearer|Basic)\s+[^\s\"']+|(?!--)[^\s,;&}\]]+",
        ),
    )
)

#: Who is let in, in a URL: https://user:password@host.
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")

#: Settings by the beginnings of their names: of the engines, and of what computes for them.
_SETTINGS = (
    "VLLM_", "SGLANG_", "TGI_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_",
    "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "HSA_", "TORCH", "PYTORCH_", "TRITON_", "INDUCTOR_",
    "OMP_", "MKL_", "KMP_", "OPENBLAS_", "FLASH", "USE_", "DISABLE_", "ENABLE_",
    # text-generation-launcher takes each of its flags as a variable, too
    "MODEL_ID", "REVISION", "SHARDED", "NUM_SHARD", "QUANTIZE", "DTYPE", "KV_CACHE_", "SPECULATE", "ROPE_", "MAX_",
    "WAITING_", "PREFIX_CACHING", "PREFILL_", "ATTENTION", "LOG_LEVEL", "USAGE_STATS", "DO_NOT_TRACK",
)  # fmt: skip

#: Of these, what says where things are, not how they are done.
_PLACE = re.compile(r"PATH\Z|HOME\Z", re.IGNORECASE)

#: A whole value that keeps nothing from anybody.
_STAND_IN = re.compile(
    r"(?:\A|(?<=[=:\s]))(?:\$\{?[A-Za-z_]\w*\}?|\d{1,6}(?:\.\d+)?|true|false)(?=\s|\Z)", re.IGNORECASE
)

#: A shorter one is not looked for elsewhere: "true" is a word.
LEAST_LENGTH = 8

#: Of a value that holds several, each one: "Bearer sk-…", a list in JSON; not the names in its objects.
_PIECE = re.compile(rf"[^\s\"'\[\]{{}},;\\]{{{LEAST_LENGTH},}}+(?![\"']?\s*:)")


def disclosed(command: Sequence[str], variables: Iterable[str]) -> tuple[str, ...]:
    """The arguments in their order, then the settings among the variables, sorted; no secret in either.

    Args:
        command: arguments, the program's name left out or not.
        variables: "NAME=value" each.
    """
    kept = list(variables)
    secrets = secrets_of(command, kept)
    settings = sorted(one for one in kept if _is_setting(*_split(one)))
    return tuple(without(word, secrets) for word in (*_arguments(command), *settings))


def secrets_of(command: Sequence[str], variables: Iterable[str]) -> tuple[str, ...]:
    """Values behind names that speak of a secret, longest first; a log may repeat them."""
    found: set[str] = set()
    for name, value in map(_split, variables):
        found |= {value} if _SECRET_NAME.search(name) else {*_LOGIN.findall(value)}
    for word, shown in zip(command, _arguments(command), strict=True):
        if shown == REDACTED:
            found.add(word)
        elif shown != word:
            found |= {pair["value"].strip("\"'") for pairs in _PAIRS for pair in pairs.finditer(word)}
            found |= {*_LOGIN.findall(word)}
    found |= {piece for value in found for piece in _PIECE.findall(value)}
    return tuple(sorted((one for one in found if len(one) >= LEAST_LENGTH), key=len, reverse=True))


def tells_secret(command: Sequence[str]) -> tuple[int, ...]:
    """Positions of the arguments that hold a secret, or are one, where a person writes them down.

    What stands for a secret is none: `$VLLM_API_KEY`, `[redacted]`; nor is a number or a switch, whatever its name.
    """
    words = [_STAND_IN.sub(REDACTED, word) for word in command]
    return tuple(k for k, (word, shown) in enumerate(zip(words, _arguments(words), strict=True)) if word != shown)


def as_shown(command: Sequence[str]) -> tuple[str, ...]:
    """The arguments, with no secret in those that hold one; what stands for one is left as a person wrote it."""
    told = {*tells_secret(command)}
    return tuple(shown if k in told else command[k] for k, shown in enumerate(_arguments(command)))


def speaks_of_secret(variable: str) -> bool:
    """By its name: HF_TOKEN; not TOKENIZERS_PARALLELISM."""
    return bool(_SECRET_NAME.search(variable))


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with each of the secrets taken out."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def tail_without(log: bytes, secrets: Iterable[str], most_bytes: int) -> str:
    """The end of a log without the secrets. They go first: of one that is cut in two, half would stay."""
    cleaned = without(log.decode("utf-8", errors="replace"), secrets)
    return cleaned.encode()[-most_bytes:].decode("utf-8", errors="ignore").strip()


def _arguments(command: Sequence[str]) -> Iterator[str]:
    """Each argument as it may be shown. What follows `--api-key` is taken out up to the next flag: it takes several."""
    behind_secret = False
    for word in command:
        is_flag = word.startswith("-")
        if behind_secret and not is_flag:
            yield REDACTED
            continue
        behind_secret = is_flag and not re.search(r"[=\s]", word) and bool(_SECRET_NAME.search(word))
        shown = word
        for pairs in _PAIRS:
            shown = pairs.sub(lambda pair: pair["name"] + REDACTED, shown)
        yield _LOGIN.sub(REDACTED, shown)


def _is_setting(name: str, value: str) -> bool:
    known = name.startswith(_SETTINGS) and not _PLACE.search(name)
    return known and not _SECRET_NAME.search(name) and not _LOGIN.search(value)


def _split(variable: str) -> tuple[str, str]:
    name, _, value = variable.partition("=")
    return name, value
