"""Ten thousand queues: `python -m bench.topology`."""
