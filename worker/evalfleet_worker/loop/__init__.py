"""The worker: claims units, scores them in a child process that holds the model, commits, until nothing is left."""
