"""Cases, samples and batches."""
