"""Side-by-side measurements against peers. Each folder runs with `python -m bench.NAME`."""
