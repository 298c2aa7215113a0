"""Errors of the store that are no verdict on the run."""


class StoreUnavailableError(Exception):
    """The store did not answer: worth another try."""
