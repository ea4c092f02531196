"""The fleet beside its peers: `python -m bench.fleet` runs the same workers under each supervisor, in one run."""
