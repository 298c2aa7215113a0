"""The forecast outside the loop: trees are trained in a child process."""
