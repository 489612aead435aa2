"""A small SMTP server for tests."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(folder: Path) -> Path:
    """Write a key and a certificate for ``localhost`` that signs itself, and return their file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@dataclass
class Received:
    """A message that the server took."""

    sender: str
    recipients: list[str]
    content: bytes
    encrypted: bool
    login: tuple[str, str] | None


@dataclass
class MailServer:
    """Speaks enough of RFC 5321 to be handed messages.

    ``replies`` replaces the answer to a command; an empty one closes the connection instead.
    """

    pem: Path | None = None
    replies: dict[str, str] = field(default_factory=dict)
    messages: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def running(self, *, encrypted: bool = False) -> AsyncIterator[MailServer]:
        server = await asyncio.start_server(
            self._serve, "localhost", 0, ssl=self._tls() if encrypted else None, family=2
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    def _tls(self) -> ssl.SSLContext:
        assert self.pem is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        return context

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients, login = "", list[str](), None
        writer.write(b"220 ready\r\n")
        while line := (await reader.readline()).decode():
            verb, _, rest = line.strip().partition(" ")
            verb = verb.upper()
            self.commands.append(line.strip())
            reply = self.replies.get(verb, "250 fine")
            if not reply:
                return
            if verb == "EHLO" and verb not in self.replies:
                encrypted = writer.get_extra_info("ssl_object") is not None
                offers = ["AUTH PLAIN"] + (["STARTTLS"] if self.pem and not encrypted else [])
                reply = "\r\n".join(["250-localhost", *(f"250-{offer}" for offer in offers), "250 SIZE"])
            elif verb == "STARTTLS":
                writer.write(b"220 go ahead\r\n")
                await writer.start_tls(self._tls())
                continue
            elif verb == "AUTH" and verb not in self.replies:
                _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                login, reply = (user, password), "235 welcome"
            elif verb == "MAIL":
                sender, recipients = rest.partition("<")[2].partition(">")[0], []
            elif verb == "RCPT":
                recipients.append(rest.partition("<")[2].partition(">")[0])
            elif verb == "DATA" and verb not in self.replies:
                writer.write(b"354 go ahead\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                reply = self.replies.get("CONTENT", "250 taken")
                if not reply:
                    return
                if reply.startswith("250"):
                    encrypted = writer.get_extra_info("ssl_object") is not None
                    self.messages.append(Received(sender, recipients, content[:-3], encrypted, login))
            writer.write(reply.encode() + b"\r\n")
            if verb == "QUIT":
                return
