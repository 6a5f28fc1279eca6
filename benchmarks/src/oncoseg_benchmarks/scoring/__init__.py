"""Scoring models on cases."""
