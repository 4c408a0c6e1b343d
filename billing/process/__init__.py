"""What every process of ours has: its settings, its log, its exit codes, and an end when its parent ends."""
