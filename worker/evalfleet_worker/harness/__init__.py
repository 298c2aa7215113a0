"""Evaluation harnesses behind one interface: what to ask a model, and what its answers are worth.

Scoring a batch is the engine's; a harness only plans requests and turns answers into metrics.
"""
