"""Dataset adapters and the pinned sample scans for OncoSeg."""
