"""The laboratory: simulators, bounds, baselines, tuning, traces and benchmarks that prove what the core decides."""
