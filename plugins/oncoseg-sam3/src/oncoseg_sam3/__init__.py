"""SAM3 on Meta's own package for OncoSeg: full size, and the same code at a test size."""
