"""Segmentation losses with named terms for OncoSeg, on MONAI."""
