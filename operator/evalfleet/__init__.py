"""evalfleet: declare an evaluation, its deadline and its budget; it finishes on time and the numbers are right."""

__version__ = "0.1.0"
