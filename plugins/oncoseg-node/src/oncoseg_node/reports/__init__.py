"""What a person reads of a job."""
