"""The training loss newname for OncoSeg."""
