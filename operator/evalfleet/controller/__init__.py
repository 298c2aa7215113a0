"""The running operator: who looks again, what is observed, what is applied, what is said of it."""
