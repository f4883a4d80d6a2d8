"""The server's end of TLS, over bytes that the caller reads and writes itself: kernel stamps stay as they are."""

from __future__ import annotations

import ssl
from pathlib import Path

_PLAIN_BYTES = 64 * 1024


def server_context(pem: Path) -> ssl.SSLContext:
    """HTTP/1.1 only, with the key and certificate in one file.

    Raises:
        OSError: the file cannot be read, or does not hold both.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsEnd:
    """One connection's."""

    __slots__ = ("_incoming", "_outgoing", "_shaken", "_tls")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def encrypt(self, plain: bytes) -> bytes:
        """Ciphertext of `plain`; the handshake must be over."""
        self._tls.write(plain)
        return self._outgoing.read()

    def take(self, received: bytes) -> tuple[bytes, bytes]:
        """Plaintext that `received` completed, and what the handshake has to say to the client; either may be empty.

        Raises:
            ssl.SSLError: not TLS, refused by the client, or closed.
        """
        self._incoming.write(received)
        plain = bytearray()
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while piece := self._tls.read(_PLAIN_BYTES):
                plain += piece
        except ssl.SSLWantReadError:
            pass
        return bytes(plain), self._outgoing.read()
