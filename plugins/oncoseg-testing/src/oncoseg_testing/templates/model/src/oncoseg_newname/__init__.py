"""The model newname for OncoSeg."""
