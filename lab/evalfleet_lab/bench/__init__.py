"""Published tables, each recomputed from public or synthetic data by one command."""
