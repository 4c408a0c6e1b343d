"""More than one live subscription in a lane: the incident, the policy, and the remedy with its refunds."""
