"""Choosing cases, and keeping training cases apart."""
