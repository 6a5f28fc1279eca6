"""Image files: reading, writing, comparing."""
