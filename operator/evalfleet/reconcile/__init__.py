"""Idempotent reconciliation: observe, decide (pure), act; one file per step."""
