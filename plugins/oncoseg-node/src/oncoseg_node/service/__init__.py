"""The running node: its loops, status page and metrics."""
