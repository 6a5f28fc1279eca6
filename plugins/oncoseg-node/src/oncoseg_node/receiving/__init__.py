"""Instances in: C-STORE, STOW-RS, a watched folder."""
