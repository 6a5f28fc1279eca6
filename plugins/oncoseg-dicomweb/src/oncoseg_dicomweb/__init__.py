"""A DICOMweb archive: QIDO-RS, WADO-RS, STOW-RS."""
