"""The evaluation engine: resolve a model, load it once, score token ids. Only here and in the harness: torch."""
