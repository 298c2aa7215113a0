"""Worlds made from a seed, where no public trace is at hand: spot capacity, demand, runs with a known truth."""
