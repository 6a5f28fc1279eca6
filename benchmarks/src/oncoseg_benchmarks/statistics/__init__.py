"""Intervals, tests and groups of scores."""
