"""Overlap scores for OncoSeg."""
