"""Checkpoints, the folder of a run, resume and warm start."""
