"""The command oncoseg structures."""
