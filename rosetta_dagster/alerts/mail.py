"""Sends a message by e-mail, over an encrypted connection unless the receiver says otherwise."""

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final

from rosetta_dagster.alerts.problem import Message
from rosetta_dagster.cdc.errors import AlertFailed

#: Seconds that the server may take for each answer.
TIMEOUT: Final = 10

#: Characters of a subject line.
_SUBJECT_LIMIT: Final = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """How the server is reached."""

    host: str
    port: int
    #: `starttls`, `tls` or `none`.
    security: str
    username: str | None
    password: str | None = field(repr=False)


def mail_of(message: Message, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """Return the message as an e-mail."""
    mail = EmailMessage()
    mail["Subject"] = message.title[:_SUBJECT_LIMIT]
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail.set_content(message.text)
    return mail


def send(server: MailServer, mail: EmailMessage) -> None:
    """Send the e-mail. `AlertFailed` when the server does not accept it. The certificate of the server is verified."""
    try:
        with closing(_connected(server)) as connection:
            if server.security == "starttls":
                connection.starttls(context=ssl.create_default_context())
            if server.username is not None and server.password is not None:
                connection.login(server.username, server.password)
            connection.send_message(mail)
            # It has been accepted. A farewell that fails would send it twice.
            with suppress(OSError, smtplib.SMTPException):
                connection.quit()
    except smtplib.SMTPResponseException as error:
        raise _failed(f"it answered {error.smtp_code}") from None
    except (OSError, ValueError, smtplib.SMTPException) as error:
        # Not the error's text: servers quote what was sent to them.
        raise _failed(type(error).__name__) from None


def _connected(server: MailServer) -> smtplib.SMTP:
    if server.security == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT, context=ssl.create_default_context())
    return smtplib.SMTP(server.host, server.port, timeout=TIMEOUT)


def _failed(reason: str) -> AlertFailed:
    return AlertFailed(
        f"The alert could not be mailed: {reason}.", "Check the receiver's server and log-in: rosetta alerts test"
    )
