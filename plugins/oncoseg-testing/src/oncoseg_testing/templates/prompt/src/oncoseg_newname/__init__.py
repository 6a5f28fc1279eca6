"""The prompt generator newname for OncoSeg."""
