"""The dataset newname for OncoSeg."""
