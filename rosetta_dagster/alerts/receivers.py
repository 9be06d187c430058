"""Decides who receives alerts: the receivers of the file that ROSETTA_ALERTS names, and ROSETTA_ALERT_WEBHOOK."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from rosetta_dagster.alerts import mail, posting
from rosetta_dagster.alerts.problem import Message, Severity
from rosetta_dagster.cdc.config import variables
from rosetta_dagster.cdc.errors import ConfigurationError

#: The receiver that ROSETTA_ALERT_WEBHOOK stands for.
OF_SETTING: Final = "ROSETTA_ALERT_WEBHOOK"

#: Seconds after which a problem that lasts is sent again.
REPEAT_SECONDS: Final = 4 * 3600.0

Send: TypeAlias = Callable[[Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Who is sent which problems. `send` raises `AlertFailed` or `ConfigurationError`, without any secret."""

    name: str
    least: Severity = Severity.WARNING
    repeat_seconds: float = REPEAT_SECONDS
    send: Send


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: The receiver's name, for messages about it.
    name: str = Field(min_length=1)
    #: The least severity that it is sent.
    severity: Severity = Severity.WARNING
    #: Seconds after which a problem that lasts is sent again; 0: never.
    repeat_seconds: float = Field(default=REPEAT_SECONDS, ge=0)

    @field_validator("severity", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    def _secret(self, variable: str, what: str) -> str:
        return variables.read_for_code(variable, f"the alert receiver {self.name}", what)


class WebhookReceiver(_Declared):
    """Any service that takes JSON by POST."""

    type: Literal["webhook"]
    #: The variable that holds the URL.
    url_env: str

    def send(self, message: Message) -> None:
        posting.post(self._secret(self.url_env, "URL"), posting.webhook_body(message))


class SlackReceiver(_Declared):
    """An incoming webhook of Slack, Mattermost or another service that takes `{"text": …}`."""

    type: Literal["slack"]
    #: The variable that holds the URL.
    url_env: str

    def send(self, message: Message) -> None:
        posting.post(self._secret(self.url_env, "URL"), posting.slack_body(message))


class PagerDutyReceiver(_Declared):
    """PagerDuty's Events API, version 2, or a service that takes its events."""

    type: Literal["pagerduty"]
    #: The variable that holds the routing key.
    routing_key_env: str
    #: Where events are sent.
    url: str = "https://events.pagerduty.com/v2/enqueue"

    @field_validator("url")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        if not value.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("should begin with https://")
        return value

    def send(self, message: Message) -> None:
        key = self._secret(self.routing_key_env, "routing key")
        posting.post(self.url, posting.pagerduty_body(message, key))


class EmailReceiver(_Declared):
    """A mail server."""

    type: Literal["email"]
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    #: Encryption: STARTTLS on the connection, TLS from its first byte, or none.
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    #: The variable that holds the password.
    password_env: str | None = None
    sender: str
    recipients: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> "EmailReceiver":
        if (self.username is None) != (self.password_env is None):
            raise ValueError("username and password_env are given together")
        if self.security == "none" and self.username is not None:
            raise ValueError("a password is sent over starttls or tls only")
        return self

    def send(self, message: Message) -> None:
        password = None if self.password_env is None else self._secret(self.password_env, "password")
        server = mail.MailServer(
            host=self.host, port=self.port, security=self.security, username=self.username, password=password
        )
        mail.send(server, mail.mail_of(message, self.sender, self.recipients))


_Any: TypeAlias = Annotated[WebhookReceiver | SlackReceiver | PagerDutyReceiver | EmailReceiver, Field(discriminator="type")]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    receivers: tuple[_Any, ...]


def receivers_of(file: Path | None, webhook: SecretStr | None) -> list[Receiver]:
    """Return the receivers. `ConfigurationError` when the file is wrong. Their secrets are read when they are used."""
    found = [] if webhook is None else [Receiver(name=OF_SETTING, send=_to_slack(webhook))]
    found += [] if file is None else _of_file(file)
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _wrong(file, f"several receivers are named {', '.join(twice)}")
    return found


def _of_file(file: Path) -> list[Receiver]:
    try:
        declared = _File.model_validate(yaml.safe_load(file.read_text())).receivers
    except OSError as error:
        raise _wrong(file, error.strerror or type(error).__name__) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        # Not the parser's text: it quotes the file, which may hold what does not belong there.
        raise _wrong(file, "it is not YAML") from None
    except ValidationError as error:
        raise _wrong(file, "; ".join(_problems(error))) from None
    return [
        Receiver(name=each.name, least=each.severity, repeat_seconds=each.repeat_seconds, send=each.send)
        for each in declared
    ]


def _problems(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']!s}" for each in found]


def _wrong(file: Path | None, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The file {file} of alert receivers is not valid: {reason}.", "Correct it, or unset ROSETTA_ALERTS."
    )


def _to_slack(webhook: SecretStr) -> Send:
    return lambda message: posting.post(webhook.get_secret_value(), posting.slack_body(message))
