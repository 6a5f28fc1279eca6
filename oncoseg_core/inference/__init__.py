"""Models at work: prediction, propagation, scoring."""
