"""Running, resuming, verifying and comparing benchmarks."""
