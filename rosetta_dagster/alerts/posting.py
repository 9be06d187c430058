"""Posts a message as JSON over HTTP, in the form of each service. URLs and keys are secrets."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final

from rosetta_dagster.alerts.problem import Message, Severity
from rosetta_dagster.cdc.errors import AlertFailed

#: Seconds that the server may take to answer.
TIMEOUT: Final = 10

#: What PagerDuty accepts.
_SUMMARY_LIMIT: Final = 1024
_KEY_LIMIT: Final = 255

Body = dict[str, Any]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the message, and count as sent."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def slack_body(message: Message) -> Body:
    """Return `{"text": …}`, in which Slack reads three characters as its own."""
    return {"text": message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def webhook_body(message: Message) -> Body:
    """Return the message with its parts, for a service that reads them."""
    return {
        "status": "resolved" if message.is_recovery else "firing",
        "subject": message.subject,
        "severity": message.severity.value,
        "title": message.title,
        "text": message.text,
        "problems": [{"name": each.name, "severity": each.severity.value, "text": each.text} for each in message.problems],
        "recovered": list(message.recovered),
    }


def pagerduty_body(message: Message, routing_key: str) -> Body:
    """Return an event. All events of a subject belong to one incident, which its recovery resolves."""
    key = f"rosetta/{message.subject}"[:_KEY_LIMIT]
    if message.is_recovery:
        return {"routing_key": routing_key, "event_action": "resolve", "dedup_key": key}
    payload = {
        "summary": message.title[:_SUMMARY_LIMIT],
        "source": "rosetta",
        "severity": "error" if message.severity is Severity.ERROR else "warning",
        "component": message.subject,
        "custom_details": {"text": message.text},
    }
    return {"routing_key": routing_key, "event_action": "trigger", "dedup_key": key, "payload": payload}


def post(url: str, body: Body) -> None:
    """Send the body. `AlertFailed`, without the URL, when the server does not accept it."""
    if not url.startswith(("http://", "https://")):
        raise _failed("its URL does not begin with https:// or http://")
    try:
        request = urllib.request.Request(  # noqa: S310 - see above
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(f"it answered {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Not the error's text: it may quote the URL.
        raise _failed(type(error).__name__) from None


def _failed(reason: str) -> AlertFailed:
    return AlertFailed(f"The alert could not be posted: {reason}.", "Check the receiver's URL and key: rosetta alerts test")
