"""Progress, curves, pictures and the report."""
