"""Everything on one machine: a local run, a local cluster, the demonstration of both."""
