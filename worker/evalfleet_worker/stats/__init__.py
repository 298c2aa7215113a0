"""Intervals for evaluation metrics. Pure: numbers in, numbers out; numpy and scipy only."""
