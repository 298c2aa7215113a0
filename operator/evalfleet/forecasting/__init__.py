"""The forecast outside the loop: a user's own arrivals judged, trees trained in a child process."""
