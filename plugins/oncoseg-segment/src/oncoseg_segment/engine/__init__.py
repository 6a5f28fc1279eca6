"""The engine in memory: structures on one image."""
