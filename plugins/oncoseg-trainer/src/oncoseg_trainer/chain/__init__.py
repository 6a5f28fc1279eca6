"""Chains of datasets, and forgetting."""
