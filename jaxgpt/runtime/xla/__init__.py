"""Compiled programs, read and counted."""
