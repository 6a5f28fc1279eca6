"""Images in the format newname, for OncoSeg."""
