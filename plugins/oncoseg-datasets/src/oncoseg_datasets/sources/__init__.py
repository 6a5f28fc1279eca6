"""The sample scans: pinned packages, download, adapter."""
