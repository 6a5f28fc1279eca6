"""Files, folders, threads and random numbers."""
