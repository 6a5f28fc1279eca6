"""The metric newname for OncoSeg."""
