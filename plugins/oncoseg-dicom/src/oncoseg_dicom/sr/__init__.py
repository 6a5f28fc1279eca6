"""Structured reports: what was measured, as other programs read it."""
