"""Trained nnU-Net folders as automatic models."""
