"""The modality fluorescence for OncoSeg."""
