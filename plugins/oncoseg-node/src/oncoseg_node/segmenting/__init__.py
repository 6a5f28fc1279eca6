"""Structures made by automatic models and by text."""
