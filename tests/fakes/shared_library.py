"""Writes a shared library that the loader takes for any other, where there is no compiler: ELF, by hand.

Each function is one jump through a table, which the test fills with callbacks of its own. What calls them, by dlopen
and dlsym, is then the very code that would call the real library.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TABLE = "table_of_functions"

#: larger than any page
_PAGE = 0x10000
_MACHINES = {"x86_64": 62, "aarch64": 183}
_STUB_BYTES = 16
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_R, _W, _X = 4, 2, 1
_HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT, _SONAME = 4, 5, 6, 10, 11, 14


def write_library(path: Path, soname: str, functions: Sequence[str]) -> None:
    """A library that exports these functions, and the table they jump through."""
    machine = platform.machine()
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (soname, TABLE, *functions))
    offsets = {name: names.index(b"\0" + name.encode() + b"\0") + 1 for name in (soname, TABLE, *functions)}
    symbols = len(functions) + 2
    symtab_at = 64 + 4 * 56
    strtab_at = symtab_at + symbols * 24
    hash_at = _aligned(strtab_at + len(names), 8)
    code_at = _aligned(hash_at + 4 * (3 + symbols), 16)
    table_at = _PAGE + 7 * 16
    assert code_at + _STUB_BYTES * len(functions) < _PAGE

    symtab = bytes(24) + struct.pack("<IBBHQQ", offsets[TABLE], 0x11, 0, 1, table_at, 8 * len(functions))
    code = b""
    for n, name in enumerate(functions):
        at = code_at + n * _STUB_BYTES
        symtab += struct.pack("<IBBHQQ", offsets[name], 0x12, 0, 1, at, _STUB_BYTES)
        code += _jump(machine, table_at + 8 * n - at).ljust(_STUB_BYTES, b"\0")
    # One bucket, in which every symbol follows the other.
    hashes = struct.pack(f"<{3 + symbols}I", 1, symbols, 1, 0, *range(2, symbols), 0)
    entries = ((_HASH, hash_at), (_STRTAB, strtab_at), (_SYMTAB, symtab_at), (_STRSZ, len(names)), (_SYMENT, 24))
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in (*entries, (_SONAME, offsets[soname]), (0, 0)))
    data = dynamic + bytes(8 * len(functions))

    text = b"".join(
        (
            _head(_MACHINES[machine]),
            _segment(_LOAD, _R | _X, 0, code_at + len(code)),
            _segment(_LOAD, _R | _W, _PAGE, len(data)),
            _segment(_DYNAMIC, _R | _W, _PAGE, len(dynamic)),
            _segment(_STACK, _R | _W, 0, 0),
            symtab,
            names,
        )
    )
    whole = text.ljust(hash_at, b"\0") + hashes
    path.write_bytes((whole.ljust(code_at, b"\0") + code).ljust(_PAGE, b"\0") + data)


def fill(library: ctypes.CDLL, functions: Mapping[str, Any]) -> None:
    """Let the library's functions, in the order in which it was written, be these callbacks; keep them alive."""
    table = (ctypes.c_void_p * len(functions)).in_dll(library, TABLE)
    for n, function in enumerate(functions.values()):
        table[n] = ctypes.cast(function, ctypes.c_void_p)


def _aligned(at: int, to: int) -> int:
    return -(-at // to) * to


def _jump(machine: str, distance: int) -> bytes:
    """To the address that stands so many bytes behind this instruction's own."""
    match machine:
        case "x86_64":
            return b"\xff\x25" + struct.pack("<i", distance - 6)
        case _:
            # Load from beside the code into a scratch register, and go there.
            return struct.pack("<II", 0x58000010 | (distance // 4) << 5, 0xD61F0200)


def _head(machine: int) -> bytes:
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return identity + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 4, 0, 0, 0)


def _segment(kind: int, flags: int, at: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, _PAGE if kind == _LOAD else 8)
