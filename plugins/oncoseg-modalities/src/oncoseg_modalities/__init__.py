"""Intensity normalizers, one per imaging modality, for OncoSeg."""
