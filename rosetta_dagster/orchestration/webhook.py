"""Posts a message to a webhook in Slack's format, `{"text": …}`, which most others accept too. Its URL is a secret."""

import http.client
import json
import time
import urllib.error
import urllib.request

from pydantic import SecretStr

from rosetta_dagster.cdc.errors import AlertFailed

#: Seconds that the server may take to answer.
TIMEOUT = 10

#: Attempts to send a message, and the seconds between them. A tick of a sensor has a minute.
ATTEMPTS = 3
PAUSE = 1.0


def post(webhook: SecretStr, text: str) -> None:
    """Send the text. `AlertFailed`, without the URL, when the server does not accept it."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    request = urllib.request.Request(  # noqa: S310 - the settings accept HTTP and HTTPS only
        webhook.get_secret_value(),
        data=json.dumps({"text": escaped}).encode(),
        headers={"Content-Type": "application/json"},
    )
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310 - see above
                return
        except urllib.error.HTTPError as error:
            reason = f"it answered {error.code}"
            error.close()
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
    raise AlertFailed(
        f"The alert could not be sent: {reason}.", "Check that ROSETTA_ALERT_WEBHOOK is the URL of a working webhook."
    )
