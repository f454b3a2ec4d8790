"""What people are told when a training run ends: an e-mail, a webhook, or both, if they are set up.

CRATEDIG_SMTP_HOST, _PORT, _SECURITY, _USER, _PASSWORD, CRATEDIG_MAIL_FROM, CRATEDIG_MAIL_TO (with
commas between addresses) and CRATEDIG_WEBHOOK_URL, in the environment or in `.env`. Telling people
is no part of the run: one that has ended well does not fail because a mail server is down.
"""

from __future__ import annotations

import dataclasses
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from markupsafe import Markup
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings

from flows.errors import SettingsInvalid
from flows.settings import FROM_ENVIRONMENT, from_blocks, places
from flows.studio_links import evaluation
from flows.train import TrainResult, report_rows

TIMEOUT_S = 20.0


class NotifySettings(BaseSettings):
    """Whom to tell, and by which server. Nothing set: nobody is told."""

    model_config = FROM_ENVIRONMENT

    smtp_host: str | None = None
    """The mail server; no mail is sent without one."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    """Its port."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`, `tls` or `none`."""
    smtp_user: str | None = None
    """Whom to sign in as, if it asks."""
    smtp_password: SecretStr | None = None
    """The password that belongs to it."""
    mail_from: str | None = None
    """Who writes."""
    mail_to: str = ""
    """Whom to write to; commas between addresses."""
    webhook_url: SecretStr | None = None
    """A secret: whoever knows the address of a chat's hook can write there."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.smtp_host and not (self.mail_from and self.recipients):
            raise ValueError("CRATEDIG_SMTP_HOST needs CRATEDIG_MAIL_FROM and CRATEDIG_MAIL_TO")
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError("CRATEDIG_SMTP_USER and CRATEDIG_SMTP_PASSWORD are given together")
        if self.smtp_user and self.smtp_security == "none":
            raise ValueError("a password is not sent in the clear: set CRATEDIG_SMTP_SECURITY")
        if self.webhook_url is not None and urlsplit(
            self.webhook_url.get_secret_value()
        ).scheme not in ("http", "https"):
            raise ValueError("CRATEDIG_WEBHOOK_URL starts with http:// or https://")
        return self

    @property
    def recipients(self) -> list[str]:
        """The addresses to write to."""
        return [each.strip() for each in self.mail_to.split(",") if each.strip()]

    @classmethod
    def load(cls, root: Path) -> Self:
        """Return the settings of the project in `root`. Raises SettingsInvalid, without values.

        PrefectAway is raised when a secret lies in a Prefect block and the server does not give it.
        """
        try:
            return cls(**places(root), **from_blocks(cls, root))
        except ValidationError as error:
            said = "; ".join(
                each["msg"].removeprefix("Value error, ")
                for each in error.errors(include_input=False)
            )
            raise SettingsInvalid(said) from None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told: one line, why, a table of the model if there is one, and what to do next."""

    subject: str
    summary: str
    rows: Sequence[Mapping[str, str]] = ()
    next_steps: Sequence[str] = ()

    def text(self) -> str:
        """Return the notice as plain text."""
        lines = [
            self.summary,
            "",
            *(
                ", ".join(f"{name} {value}" for name, value in row.items() if value)
                for row in self.rows
            ),
        ]
        if self.next_steps:
            lines += ["", "What to do next:", *(f"- {step}" for step in self.next_steps)]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """Return the notice as HTML with nothing in it that would be fetched."""
        parts = [Markup("<p>{}</p>").format(self.summary)]
        if self.rows:
            columns = list(dict.fromkeys(name for row in self.rows for name in row))
            head = Markup("").join(
                Markup('<th align="left">{}</th>').format(name) for name in columns
            )
            body = Markup("").join(
                Markup("<tr>{}</tr>").format(
                    Markup("").join(
                        Markup("<td>{}</td>").format(row.get(name, "")) for name in columns
                    )
                )
                for row in self.rows
            )
            parts.append(Markup('<table cellpadding="6"><tr>{}</tr>{}</table>').format(head, body))
        if self.next_steps:
            steps = Markup("").join(Markup("<li>{}</li>").format(step) for step in self.next_steps)
            parts.append(Markup("<p>What to do next:</p><ul>{}</ul>").format(steps))
        return str(
            Markup("<!doctype html><html><body>{}</body></html>").format(Markup("").join(parts))
        )


def trained_notice(result: TrainResult, *, project: str, studio_url: str | None = None) -> Notice:
    """Return what to say of a training run that ended well."""
    state = "in production" if result.verdict.promoted else "not promoted"
    steps = []
    if report := result.card.report:
        steps += [
            f"about {each.more} more of {each.label} would bring recall from {each.now:.2f} to "
            f"about {each.then.value:.2f}"
            for each in report.forecasts
            if each.then.value - each.now >= 0.02
        ]
        if report.suspects:
            steps.append(f"review {len(report.suspects)} answers that look wrong")
        steps += list(report.weaknesses)
    if not result.verdict.promoted:
        steps.append(
            f"compare it with what is in production: cratedig models compare {result.version}"
        )
    if studio_url:
        page = evaluation(result.version)
        steps.append(f"look at it in the studio: {studio_url}{page.path}")
    return Notice(
        subject=f"{project}: model {result.version} is {state}",
        summary=str(result),
        rows=report_rows(result.card),
        next_steps=list(dict.fromkeys(steps)),
    )


def failed_notice(error: BaseException, *, project: str) -> Notice:
    """Return what to say of a training run that failed, with the reason."""
    return Notice(
        subject=f"{project}: training failed",
        summary=f"training failed: {str(error) or type(error).__name__}",
        next_steps=["put right what the message names, then run `cratedig train` again"],
    )


def send(notice: Notice, settings: NotifySettings) -> list[str]:
    """Tell everyone who is set up; return what went wrong, a sentence each, never raising for it."""
    troubles = []
    if settings.smtp_host:
        try:
            _mail(notice, settings)
        except (OSError, smtplib.SMTPException) as error:
            troubles.append(f"no e-mail was sent by {settings.smtp_host}: {_refusal(error)}")
    if settings.webhook_url is not None:
        try:
            _post(notice, settings.webhook_url.get_secret_value())
        except (OSError, urllib.error.URLError, ValueError) as error:
            host = urlsplit(settings.webhook_url.get_secret_value()).hostname
            troubles.append(f"the webhook at {host} was not told: {error}")
    return troubles


def _refusal(error: OSError | smtplib.SMTPException) -> str:
    """Return what a mail server refused, in words, and which setting to look at."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return (
            f"it refused the user or the password ({_answered(error.smtp_code, error.smtp_error)}): "
            "check CRATEDIG_SMTP_USER and CRATEDIG_SMTP_PASSWORD"
        )
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        refused = "; ".join(
            f"{who} ({_answered(code, said)})" for who, (code, said) in error.recipients.items()
        )
        return f"it refused to write to {refused}: check CRATEDIG_MAIL_TO"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered {_answered(error.smtp_code, error.smtp_error)}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"{error} Check CRATEDIG_SMTP_SECURITY and CRATEDIG_SMTP_USER"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not to be trusted ({error.verify_message}): set SSL_CERT_FILE "
            "to the certificate of its authority if it is one of your own"
        )
    return str(error)


def _answered(code: int, said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return f"{code} {' '.join(text.split())}"


def _mail(notice: Notice, settings: NotifySettings) -> None:
    message = EmailMessage()
    # A line break in a subject would begin another header.
    message["Subject"] = " ".join(notice.subject.split())
    message["From"] = settings.mail_from
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid("cratedig")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text())
    message.add_alternative(notice.html(), subtype="html")
    host, port = settings.smtp_host or "", settings.smtp_port
    context = ssl.create_default_context()
    if settings.smtp_security == "tls":
        with smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context) as server:
            _deliver(server, message, settings)
        return
    with smtplib.SMTP(host, port, timeout=TIMEOUT_S) as server:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        _deliver(server, message, settings)


def _deliver(server: smtplib.SMTP, message: EmailMessage, settings: NotifySettings) -> None:
    if settings.smtp_user and settings.smtp_password:
        server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
    server.send_message(message)


def _post(notice: Notice, address: str) -> None:
    """Post JSON whose "text" chats like Slack and Mattermost show; the rest is for programs."""
    body = {
        "text": f"{notice.subject}\n{notice.text()}",
        "subject": notice.subject,
        "rows": [dict(row) for row in notice.rows],
        "next_steps": list(notice.next_steps),
    }
    request = urllib.request.Request(  # noqa: S310 - the settings allow http and https alone
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
        answer.read()
