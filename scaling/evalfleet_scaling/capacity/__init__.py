"""Which workers one job should run where: strategies behind one interface, on arrays of jobs."""
