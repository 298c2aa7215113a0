"""Loaders of public traces: files in, plain values of the pure core out."""
