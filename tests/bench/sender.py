"""One connection's part of the load where wrk is absent. Imports little: each process that sends imports it anew."""

import http.client
import socket
import time

PATIENCE_SECONDS = 20


def send_share(records: list[tuple[str, bytes]], port: int, seconds: float) -> list[tuple[int, float]]:
    """Send these one after the other; the status (0: none came) and the seconds of each."""
    connection, answers = _connect(port), []
    end = time.monotonic() + seconds
    for signature, body in records:
        started = time.monotonic()
        if started > end:
            break
        try:
            status = _ask(connection, signature, body)
        except (OSError, http.client.HTTPException):
            status = 0
            connection.close()
            connection = _connect(port)
        answers.append((status, time.monotonic() - started))
    connection.close()
    return answers


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def _ask(connection: socket.socket, signature: str, body: bytes) -> int:
    """In one piece, as wrk does: who answers without reading a body that has not come yet hangs up."""
    head = f"POST /webhooks/stripe HTTP/1.1\r\nHost: localhost\r\nStripe-Signature: {signature}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = http.client.HTTPResponse(connection, method="POST")
    answer.begin()
    answer.read()
    return answer.status
