"""The outbox: changes of a subscription, delivered to the application once each, in order."""
