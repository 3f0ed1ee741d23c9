"""Runs in the formats of others: one file a format, each a function of a run and a place."""
