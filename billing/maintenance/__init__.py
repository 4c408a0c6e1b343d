"""What runs by itself: the sweep, reconciling with Stripe, replays, pruning, and when each is due."""
