"""The run store: how workers share one evaluation exactly once through objects that are created at most once."""
