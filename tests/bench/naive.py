"""The usual way, as tutorials have it: list the buyer's open sessions, expire them, create one. For comparison only.

Nothing is done badly on purpose: the customer is kept in a table with a unique user, the tag is looked at, an
expire that fails is taken for "gone already". There is no lock, and nothing is written before it is sent.
Served like onelane's web: `granian --interface wsgi --blocking-threads N tests.bench.naive:app`.
"""

import os
import sqlite3
from contextlib import suppress
from typing import Any

from flask import Flask, jsonify, request
from stripe import InvalidRequestError, StripeClient

PRODUCT = "kiloclaw"
PRICES = {"standard": "price_kiloclaw_standard", "commit": "price_kiloclaw_commit"}

app = Flask(__name__)
stripe = StripeClient(os.environ["STRIPE_API_KEY"], base_addresses={"api": os.environ["STRIPE_API_BASE"]})


def database() -> sqlite3.Connection:
    return sqlite3.connect(os.environ["NAIVE_DATABASE"], timeout=10)


with database() as db:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE IF NOT EXISTS users (user_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL)")


@app.get("/")
def alive() -> str:
    return "alive"


@app.post("/checkout")
def checkout() -> tuple[Any, int]:
    order = request.get_json()
    customer_id = get_or_create_customer(order["user_id"])
    for session in stripe.v1.checkout.sessions.list({"customer": customer_id, "status": "open"}).data:
        if session.metadata and session.metadata.to_dict().get("type") == PRODUCT:
            with suppress(InvalidRequestError):  # gone already
                stripe.v1.checkout.sessions.expire(session.id)
    created = stripe.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer_id,
            "line_items": [{"price": PRICES[order["plan"]], "quantity": 1}],
            "success_url": order["success_url"],
            "cancel_url": order["cancel_url"],
            "metadata": {"type": PRODUCT},
        }
    )
    return jsonify(url=created.url, session_id=created.id), 201


def get_or_create_customer(user_id: str) -> str:
    with database() as db:
        row = db.execute("SELECT customer_id FROM users WHERE user_id = ?", (user_id,)).fetchone()
    if row:
        return str(row[0])
    created = stripe.v1.customers.create({"metadata": {"user_id": user_id}})
    with database() as db:
        db.execute(
            "INSERT INTO users VALUES (?, ?) ON CONFLICT (user_id) DO UPDATE SET customer_id = excluded.customer_id",
            (user_id, created.id),
        )
    return str(created.id)
