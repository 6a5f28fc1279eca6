"""DICOM series: finding, sorting and decoding slices."""
