"""Jobs that run by schedule or on request: the sweep, reconciling, replays, pruning, and their runs' rows."""
