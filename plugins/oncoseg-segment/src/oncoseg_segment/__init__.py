"""Segment images with promptable models, in memory or from files."""
