"""Overlap, surface and lesion scores for OncoSeg."""
