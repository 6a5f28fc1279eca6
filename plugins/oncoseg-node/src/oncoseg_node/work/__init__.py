"""Worker processes, and the steps of a job."""
