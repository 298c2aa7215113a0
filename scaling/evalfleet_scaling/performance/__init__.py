"""Runtime, memory and start-up predicted per (model, task, GPU, engine), learnt from finished runs."""
