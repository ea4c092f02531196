"""Edits of queues.yaml: how fast beside ruamel.yaml, and whether they are right on a million texts."""
