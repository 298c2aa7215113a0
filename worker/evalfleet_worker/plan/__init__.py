"""The plan of a run: what is asked, in which order, cut into which units, and how large it is."""
