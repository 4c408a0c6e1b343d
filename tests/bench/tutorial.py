"""The usual receiver, as tutorials have it: construct_event, SETNX against duplicates, task.delay. For comparison only.

Nothing is done badly on purpose: one client with its pool, one Celery application, an id and a type in the task, no
log line. What it answers 200 is in Redis and nowhere else.
"""

import os
from typing import Any

import redis
import stripe
from celery import Celery
from flask import Flask, jsonify, request

SECRET = os.environ["STRIPE_WEBHOOK_SECRETS"]
DAY_SECONDS = 86_400

application = Flask(__name__)
client = redis.Redis.from_url(os.environ["REDIS_URL"])
celery = Celery("tutorial", broker=os.environ["REDIS_URL"])
celery.conf.update(task_ignore_result=True)


@celery.task
def handle_event(event_id: str, event_type: str) -> None:
    """Would fetch, and write; no worker runs in the comparison."""


@application.post("/webhooks/stripe")
def receive() -> tuple[Any, int]:
    try:
        event = stripe.Webhook.construct_event(request.get_data(), request.headers["Stripe-Signature"], SECRET)
    except (ValueError, stripe.SignatureVerificationError):
        return jsonify(error="invalid"), 400
    if client.set(f"event:{event.id}", 1, nx=True, ex=DAY_SECONDS):
        handle_event.delay(event.id, event.type)
    return jsonify(received=True), 200
