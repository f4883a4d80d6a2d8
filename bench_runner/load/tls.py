"""TLS over bytes that the caller reads and writes itself, so that kernel stamps stay those of the ciphertext."""

from __future__ import annotations

import ssl

_PLAIN_BYTES = 65_536


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Certificates and names are verified, HTTP/1.1 only.

    Authorities are the system's, or those that SSL_CERT_FILE and SSL_CERT_DIR name, and those in `ca_file`.

    Raises:
        OSError: `ca_file` cannot be read, or has no certificate in it.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsStream:
    """The client's end of one TLS connection."""

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake(self, received: bytes = b"") -> bool:
        """Goes on with the handshake. True: done.

        Raises:
            ssl.SSLError: the handshake failed; certificate errors included.
        """
        self._incoming.write(received)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def outgoing(self) -> bytes:
        """Ciphertext to be written to the socket."""
        return self._outgoing.read()

    def encrypt(self, plain: memoryview) -> bytes:
        """Ciphertext of `plain`, and of whatever else TLS has to say."""
        self._tls.write(plain)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> tuple[bytes, bool]:
        """What `received` completed: plaintext, often empty, and whether the peer closed its end.

        Raises:
            ssl.SSLError: not TLS, or tampered with.
        """
        self._incoming.write(received)
        plain = b""
        try:
            while piece := self._tls.read(_PLAIN_BYTES):
                plain = plain + piece if plain else piece
        except ssl.SSLWantReadError:
            return plain, False
        except ssl.SSLZeroReturnError:
            pass
        return plain, True
