"""Reconciliation of all jobs of one ScalingPolicy together: which workers, where; what they cost."""
