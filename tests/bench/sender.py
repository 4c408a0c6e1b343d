"""One connection's part of the load where wrk is absent. Imports little: each process that sends imports it anew."""

import http.client
import time

PATIENCE_SECONDS = 20


def send_share(records: list[tuple[str, bytes]], port: int, seconds: float) -> list[tuple[int, float]]:
    """Send these one after the other; the status (0: none came) and the seconds of each."""
    connection, answers = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS), []
    end = time.monotonic() + seconds
    for signature, body in records:
        started = time.monotonic()
        if started > end:
            break
        try:
            connection.request(
                "POST", "/webhooks/stripe", body, {"Stripe-Signature": signature, "Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except OSError:
            status = 0
            connection.close()
        answers.append((status, time.monotonic() - started))
    connection.close()
    return answers
