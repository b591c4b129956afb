"""A run: its configuration, step, loop, log and resume."""
