"""The evaluation engine: load a model once, score token ids."""
