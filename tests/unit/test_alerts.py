"""Which messages a receiver is due, what they say, and how they are sent: without a secret, and once."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from rosetta_dagster.alerts import posting
from rosetta_dagster.alerts.due import Due, Sent, due, eased
from rosetta_dagster.alerts.outbox import Outbox
from rosetta_dagster.alerts.problem import Message, Problem, Severity
from rosetta_dagster.alerts.receivers import Receiver, receivers_of
from rosetta_dagster.cdc.errors import AlertFailed, ConfigurationError
from rosetta_dagster.cli.main import app
from tests.support.mailbox import Mailbox, mailbox
from tests.support.webhook import Webhook, webhook


@pytest.fixture
def received() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture
def mailed() -> Iterator[Mailbox]:
    with mailbox() as running:
        yield running


def problem(name: str, severity: Severity = Severity.ERROR, *, cause: str = "", is_event: bool = False) -> Problem:
    text = f"shop: {name} fails. Mend it."
    return Problem(subject="shop", name=name, severity=severity, text=text, cause=cause, is_event=is_event)


class Inbox:
    """A receiver's account: what it has accepted, at a clock of its own."""

    def __init__(self, least: Severity = Severity.WARNING) -> None:
        self.sent: dict[str, dict[str, Sent]] = {}
        self.least = least

    def at(self, now: float, *problems: Problem) -> list[str]:
        """The texts that it is sent at that time."""
        self.sent = eased(self.sent, problems)
        found = due(problems, self.sent, least=self.least, repeat_seconds=100, now=now)
        for each in found:
            self.sent[each.message.subject] = each.after
        return [each.message.text for each in found]


def test_a_problem_is_sent_once_repeated_at_its_interval_and_its_recovery_once() -> None:
    inbox = Inbox()
    text = "Rosetta: shop: health fails. Mend it."
    assert [text] == inbox.at(0, problem("health"))
    assert [] == inbox.at(99, problem("health"))
    assert [text] == inbox.at(100, problem("health"))
    assert [] == inbox.at(150, problem("health"))
    assert ["Rosetta: shop has recovered: health."] == inbox.at(160)
    assert [] == inbox.at(170)
    assert [text] == inbox.at(171, problem("health"))


def test_the_problems_of_one_pipeline_are_one_message() -> None:
    inbox = Inbox()
    both = "Rosetta: shop has 2 problems.\n- shop: health fails. Mend it.\n- shop: wal_lag fails. Mend it."
    assert [both] == inbox.at(0, problem("wal_lag", Severity.WARNING), problem("health"))
    left = "Rosetta: shop has 1 problem.\n- shop: wal_lag fails. Mend it.\n- health has recovered."
    assert [left] == inbox.at(1, problem("wal_lag", Severity.WARNING))


def test_a_receiver_of_errors_sees_a_warning_as_recovered() -> None:
    inbox = Inbox(Severity.ERROR)
    assert [] == inbox.at(0, problem("health", Severity.WARNING))
    assert 1 == len(inbox.at(1, problem("health")))
    assert ["Rosetta: shop has recovered: health."] == inbox.at(2, problem("health", Severity.WARNING))


def test_what_gets_worse_or_has_another_cause_is_sent_at_once_and_what_eases_is_not() -> None:
    inbox = Inbox()
    assert 1 == len(inbox.at(0, problem("health", Severity.WARNING)))
    assert 1 == len(inbox.at(1, problem("health")))
    assert 0 == len(inbox.at(2, problem("health", Severity.WARNING)))
    assert 1 == len(inbox.at(3, problem("health")))
    assert 1 == len(inbox.at(4, problem("health", cause="another")))


def test_a_failed_job_is_neither_repeated_nor_recovers() -> None:
    inbox = Inbox()
    assert 1 == len(inbox.at(0, problem("run", is_event=True)))
    assert 0 == len(inbox.at(200, problem("run", is_event=True)))
    assert 0 == len(inbox.at(300))


def test_names_cannot_forge_lines_or_headers() -> None:
    forged = Problem(subject="a\nBcc: x", name="health", severity=Severity.ERROR, text="a\r\nBcc: x fails.")
    assert "Rosetta: a  Bcc: x fails." == Message(subject="a\nBcc: x", problems=(forged,)).text
    assert "\n" not in Message(subject="a\nBcc: x", recovered=("health",)).title


FIRING = Message(subject="shop", problems=(problem("health"),))
RECOVERY = Message(subject="shop", recovered=("health",))


def test_an_incident_of_pagerduty_is_opened_and_resolved_under_one_key() -> None:
    opened, resolved = posting.pagerduty_body(FIRING, "key"), posting.pagerduty_body(RECOVERY, "key")
    assert ("trigger", "error") == (opened["event_action"], opened["payload"]["severity"])
    assert {"routing_key": "key", "event_action": "resolve", "dedup_key": opened["dedup_key"]} == resolved


@pytest.fixture
def file(tmp_path: Path, received: Webhook, mailed: Mailbox, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A receiver of each type."""
    monkeypatch.setenv("TEAM_URL", received.url)
    monkeypatch.setenv("ON_CALL_KEY", "a-planted-key")
    base = received.url.removesuffix("/services/a-planted-token")
    file = tmp_path / "alerts.yaml"
    file.write_text(f"""
receivers:
  - {{name: team, type: slack, url_env: TEAM_URL}}
  - {{name: tickets, type: webhook, url_env: TEAM_URL, repeat_seconds: 0}}
  - {{name: on-call, type: pagerduty, routing_key_env: ON_CALL_KEY, severity: error, url: "{base}/v2/enqueue"}}
  - {{name: data, type: email, host: 127.0.0.1, port: {mailed.port}, security: none, sender: a@b.c, recipients: [d@e.f]}}
""")
    return file


def test_each_type_of_receiver_is_sent_a_message(file: Path, received: Webhook, mailed: Mailbox) -> None:
    found = receivers_of(file, None)
    assert [("team", "WARNING"), ("tickets", "WARNING"), ("on-call", "ERROR"), ("data", "WARNING")] == [
        (each.name, each.least) for each in found
    ]
    for each in found:
        each.send(FIRING)
    slack, plain, event = received.bodies
    assert {"text": "Rosetta: shop: health fails. Mend it."} == slack
    assert ("firing", ["health"]) == (plain["status"], [each["name"] for each in plain["problems"]])
    assert "a-planted-key" == event["routing_key"]
    (mail,) = mailed.mails
    assert ("Rosetta: shop: health fails. Mend it.", "d@e.f") == (mail["Subject"], mail["To"])


def test_a_refusal_says_neither_url_nor_key_nor_what_the_server_said(
    file: Path, received: Webhook, mailed: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    received.status, mailed.answer = 404, b"550"
    monkeypatch.setenv("TEAM_URL", received.url + " \na-planted-token")
    for each in receivers_of(file, SecretStr(received.url)):
        with pytest.raises(AlertFailed) as caught:
            each.send(FIRING)
        assert "planted" not in str(caught.value)
        assert "a@b.c" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_redirect_is_a_refusal_since_it_would_lose_the_message(received: Webhook) -> None:
    received.status, received.location = 302, received.url
    with pytest.raises(AlertFailed, match="it answered 302"):
        posting.post(received.url, {"text": "lost"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{name: a, type: slack, url_env: U, colour: red}", "colour"),
        ("{name: a, type: fax}", "fax"),
        ("{name: a, type: slack, url: https://planted}", "url"),
        ("{name: a, type: pagerduty, routing_key_env: K, url: 'http://planted'}", "should begin with https"),
        ("{name: a, type: email, host: h, security: none, username: planted, password_env: P, sender: s, recipients: [r]}",
         "starttls or tls"),
        ("{name: a, type: slack, url_env: U}\n  - {name: a, type: slack, url_env: U}", "several receivers are named a"),
        ("{name: a, planted", "it is not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_field_and_without_its_values(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(f"receivers:\n  - {line}\n")
    with pytest.raises(ConfigurationError, match=reason) as caught:
        receivers_of(file, None)
    assert "planted" not in str(caught.value)


def test_a_receiver_may_not_be_sent_what_is_rosettas_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text("receivers: [{name: rogue, type: pagerduty, routing_key_env: SECRET_KEY}]")
    monkeypatch.setenv("SECRET_KEY", "planted")
    (rogue,) = receivers_of(file, None)
    with pytest.raises(ConfigurationError, match="one of Rosetta's or Dagster's own"):
        rogue.send(FIRING)


def test_a_receiver_that_hangs_delays_nobody_else(received: Webhook) -> None:
    texts: list[str] = []
    outbox = Outbox()
    received.answers.clear()
    slow = Receiver(name="slow", send=lambda message: posting.post(received.url, posting.slack_body(message)))
    quick = Receiver(name="quick", send=lambda message: texts.append(message.text))
    began = time.monotonic()
    for receiver in (slow, quick):
        outbox.send(receiver, [Due(message=FIRING, after={})])
    outbox.wait(0.3)
    assert time.monotonic() - began < 5
    assert ["quick"] == [each.receiver for each in outbox.take_finished()]
    assert 1 == len(texts)
    assert outbox.is_busy("slow")
    received.answers.set()
    outbox.wait(10)
    assert [("slow", None)] == [(each.receiver, each.error) for each in outbox.take_finished()]


def test_the_command_names_who_is_reached_and_who_is_not(
    file: Path, received: Webhook, mailed: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROSETTA_ALERTS", str(file))
    monkeypatch.delenv("ON_CALL_KEY")
    result = CliRunner().invoke(app, ["alerts", "test"])
    assert 1 == result.exit_code
    assert ["OK", "OK", "FAILED", "OK"] == [line.split()[0] for line in result.output.splitlines()]
    assert "ON_CALL_KEY is not set" in result.output
    assert 4 == len(received.bodies)
    assert 2 == len(mailed.mails)
    assert 0 == CliRunner().invoke(app, ["alerts", "test", "team"]).exit_code
    assert "There is no receiver of alerts named nobody" in str(
        CliRunner().invoke(app, ["alerts", "test", "nobody"]).exception
    )
