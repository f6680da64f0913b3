"""Mails about alerts, handed to the mail server of the settings.

What always holds: a mail has one recipient, and its headers no line but their own; a mail that is tried again
has the same Message-ID. That the server has taken it is all that is known: SMTP has no way to say that it was
delivered, or that it was taken once.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from heliosdb.coordinator.config import MailServer
from heliosdb.domain.errors import ErrorCode, FederatedError

SECONDS = 20.0
"""For each answer of the server."""


class FinalRefusalError(FederatedError):
    """The mail server refused for good: trying again changes nothing (RFC 5321, 4.2.1); code UNREACHABLE."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is sent. key: in the Message-ID; at: when it fired, whenever it is sent; seconds since the
    epoch."""

    recipient: str
    subject: str
    text: str
    key: str
    at: float


def to_message(mail: Mail, sender: str) -> EmailMessage:
    """Write it down; a subject's line ends and control characters become spaces."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = mail.recipient
    message["Subject"] = "".join(one if one.isprintable() else " " for one in mail.subject)[:200]
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.at, UTC))
    message["Message-ID"] = f"<{mail.key}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message


def send(server: MailServer, mail: Mail) -> None:
    """Hand it over, blocking; FederatedError UNREACHABLE or IDENTITY, or FinalRefusalError, says why it was
    not taken.

    The text holds neither the user nor the password; of what the server says it has the code alone.
    """
    message = to_message(mail, server.sender)
    try:
        with _connect(server) as connection:
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password.get_secret_value())
            connection.send_message(message, server.sender, [mail.recipient])
    except ssl.SSLCertVerificationError as error:
        told = f"the mail server's certificate is not valid: {error.verify_message}"
        raise FederatedError(ErrorCode.IDENTITY, told) from None
    except ssl.SSLError:
        raise FederatedError(ErrorCode.IDENTITY, "the TLS handshake with the mail server failed") from None
    except smtplib.SMTPAuthenticationError:
        raise FederatedError(ErrorCode.IDENTITY, "the mail server refuses user or password") from None
    except smtplib.SMTPRecipientsRefused as error:
        code = next(iter(error.recipients.values()))[0]
        raise _refused("the recipient", code) from None
    except smtplib.SMTPNotSupportedError:
        told = "the mail server offers no STARTTLS, or no way to log in"
        raise FederatedError(ErrorCode.IDENTITY, told) from None
    except smtplib.SMTPResponseException as error:
        raise _refused("the mail", error.smtp_code) from None
    except (smtplib.SMTPException, TimeoutError):
        raise FederatedError(ErrorCode.UNREACHABLE, "the mail server gave no answer") from None
    except OSError as error:
        told = f"no connection to the mail server: {error.strerror or type(error).__name__}"
        raise FederatedError(ErrorCode.UNREACHABLE, told) from None


def _connect(server: MailServer) -> smtplib.SMTP:
    # What greets the server: a name that was looked up could take long, and says where this runs.
    own = server.sender.partition("@")[2]
    context = ssl.create_default_context(cafile=None if server.ca_bundle is None else str(server.ca_bundle))
    if server.security == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, own, timeout=SECONDS, context=context)
    connection = smtplib.SMTP(server.host, server.port, own, timeout=SECONDS)
    if server.security == "starttls":
        try:
            connection.starttls(context=context)
        except BaseException:
            connection.close()
            raise
    return connection


def _refused(what: str, code: int) -> FederatedError:
    kind = FinalRefusalError if 500 <= code < 600 else FederatedError
    return kind(ErrorCode.UNREACHABLE, f"the mail server refused {what}: {code}")
