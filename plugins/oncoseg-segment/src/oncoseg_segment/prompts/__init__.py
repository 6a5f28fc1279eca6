"""Requested structures, and their prompts on the slices of an image."""
