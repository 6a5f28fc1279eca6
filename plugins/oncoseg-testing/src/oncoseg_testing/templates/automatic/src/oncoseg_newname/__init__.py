"""The automatic model newname for OncoSeg."""
