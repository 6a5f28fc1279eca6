"""The file format newname for OncoSeg."""
