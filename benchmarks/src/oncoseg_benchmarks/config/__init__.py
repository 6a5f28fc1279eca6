"""The configuration of a benchmark."""
