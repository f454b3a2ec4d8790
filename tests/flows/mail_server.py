"""A real SMTP server on loopback that keeps what it is given; with STARTTLS and a login if asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import SecretStr

from flows.notify import NotifySettings

USER, PASSWORD = "cratedig", "correct horse"


class Letters:
    """The letters, and of each whether it came encrypted; and who has signed in."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        self.signed_in: list[str] = []

    async def handle_DATA(self, server: object, session: Any, envelope: Any) -> str:  # noqa: ANN401, N802 - aiosmtpd's own names
        """Keep a letter."""
        letter = message_from_bytes(envelope.content, policy=policy.default)
        self.received.append(letter)
        self.encrypted.append(session.ssl is not None)
        return "250 kept"

    def authenticate(self, *asked: Any) -> AuthResult:  # noqa: ANN401 - aiosmtpd has no types there
        """Let in who has the password."""
        given = asked[-1]
        assert isinstance(given, LoginPassword)
        right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
        if right:
            self.signed_in.append(USER)
        return AuthResult(success=right, handled=False)


class AnyPort(Controller):
    """A controller that knows which port it was given, to make its first connection there."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call] # aiosmtpd has no types there


@contextmanager
def mail_server(tls: ssl.SSLContext | None = None) -> Iterator[tuple[Letters, NotifySettings]]:
    """Start a server; give its letters, and settings that write to two people through it.

    With `tls` it takes letters over STARTTLS alone, from `USER` with `PASSWORD`.
    """
    letters = Letters()
    demands: dict[str, Any] = (
        {}
        if tls is None
        else {
            "tls_context": tls,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": letters.authenticate,
        }
    )
    controller = AnyPort(letters, hostname="127.0.0.1", port=0, **demands)
    controller.start()
    try:
        yield (
            letters,
            NotifySettings(
                smtp_host="127.0.0.1",
                smtp_port=controller.port,
                smtp_security="none" if tls is None else "starttls",
                smtp_user=None if tls is None else USER,
                smtp_password=None if tls is None else SecretStr(PASSWORD),
                mail_from="cratedig@example.org",
                mail_to="ann@example.org, bob@example.org",
            ),
        )
    finally:
        controller.stop()
