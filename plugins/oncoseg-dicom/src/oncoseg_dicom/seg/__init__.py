"""DICOM Segmentations."""
