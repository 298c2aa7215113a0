"""Reconciliation of one EvaluationJob: its steps in their order, one file and one condition each."""
