"""The demonstration: a grammar test that the project writes itself, evaluated with a worker killed in the middle."""
