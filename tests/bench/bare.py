"""Flask and nothing else: what the server and the framework cost before anybody does anything. For comparison only."""

from flask import Flask

application = Flask(__name__)


@application.post("/webhooks/stripe")
def receive() -> str:
    return ""
