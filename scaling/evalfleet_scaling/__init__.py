"""The pure core of evalfleet: numbers in, decisions out. No clock, no I/O, no Kubernetes."""
