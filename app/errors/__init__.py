"""Errors on the wire: every failure leaves as one RFC 9457 problem with a stable `code`.

`problems` has the one table that gives a code its HTTP status; the OpenAPI document and the docs page are made from
it, too. `rendering` writes the answer.
"""
