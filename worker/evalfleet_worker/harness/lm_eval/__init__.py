"""lm-evaluation-harness by record and replay.

The plan records every request that lm-eval makes; the finisher replays the stored answers into the same code,
which computes its official metrics. Nothing here is imported by a worker that scores.
"""
