"""The modality newname for OncoSeg."""
