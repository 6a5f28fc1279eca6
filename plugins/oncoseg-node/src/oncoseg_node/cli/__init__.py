"""The command oncoseg node."""
