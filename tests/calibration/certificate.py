"""A key and a self-signed certificate of this host's loopback names, made on the spot, for a TLS server under test.

ECDSA over P-256 (FIPS 186-5; SEC 1) and the few ASN.1 shapes of RFC 5280 that a certificate needs, so that neither an
`openssl` program nor a further package has to be there. Python's integers do not run in constant time: good for a
key that lives as long as a measurement on loopback, and for nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from engines.clock import utc_now

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None

# object identifiers, encoded: ecPublicKey, prime256v1, ecdsa-with-SHA256, commonName, subjectAltName, basicConstraints
_EC_KEY, _CURVE = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a8648ce3d030107")
_ECDSA_SHA256, _COMMON_NAME = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("0603550403")
_ALT_NAME, _BASIC = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d13")
_DAYS = 2


def write_certificate(path: Path) -> Path:
    """Key and certificate of `localhost` and 127.0.0.1 in one PEM file, good for two days; the path."""
    secret = secrets.randbelow(_ORDER - 1) + 1
    x, y = _times(secret, _BASE) or (0, 0)
    public = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    certificate = _certificate(secret, public)
    private = _sequence(
        _integer(1), _tagged(0x04, secret.to_bytes(32, "big")), _tagged(0xA0, _CURVE), _tagged(0xA1, _bits(public))
    )
    path.touch(mode=0o600)
    path.write_text(_pem("EC PRIVATE KEY", private) + _pem("CERTIFICATE", certificate), encoding="ascii")
    return path


def _certificate(secret: int, public: bytes) -> bytes:
    signature_kind = _sequence(_ECDSA_SHA256)
    name = _sequence(_tagged(0x31, _sequence(_COMMON_NAME, _tagged(0x0C, b"localhost"))))
    now = utc_now()
    names = _sequence(_tagged(0x82, b"localhost"), _tagged(0x87, bytes([127, 0, 0, 1])))
    authority = _sequence(_tagged(0x01, b"\xff"))
    extensions = _sequence(
        _sequence(_BASIC, _tagged(0x01, b"\xff"), _tagged(0x04, authority)), _sequence(_ALT_NAME, _tagged(0x04, names))
    )
    to_be_signed = _sequence(
        _tagged(0xA0, _integer(2)),
        _integer(secrets.randbits(64) | 1),
        signature_kind,
        name,
        _sequence(_time(now - timedelta(days=1)), _time(now + timedelta(days=_DAYS))),
        name,
        _sequence(_sequence(_EC_KEY, _CURVE), _bits(public)),
        _tagged(0xA3, extensions),
    )
    return _sequence(to_be_signed, signature_kind, _bits(_sign(secret, to_be_signed)))


def _sign(secret: int, message: bytes) -> bytes:
    """ECDSA with SHA-256; a fresh random nonce for each."""
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        nonce = secrets.randbelow(_ORDER - 1) + 1
        point = _times(nonce, _BASE)
        r = point[0] % _ORDER if point else 0
        s = pow(nonce, -1, _ORDER) * (digest + r * secret) % _ORDER
        if r and s:
            return _sequence(_integer(r), _integer(s))


def _plus(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, _P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _times(factor: int, point: Point) -> Point:
    whole: Point = None
    while factor:
        if factor & 1:
            whole = _plus(whole, point)
        point = _plus(point, point)
        factor >>= 1
    return whole


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tagged(0x03, b"\x00" + content)


def _time(moment: datetime) -> bytes:
    return _tagged(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def _pem(label: str, content: bytes) -> str:
    body = base64.encodebytes(content).decode().replace("\n", "")
    lines = [body[k : k + 64] for k in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
