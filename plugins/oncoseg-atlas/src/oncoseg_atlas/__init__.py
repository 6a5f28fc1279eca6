"""Multi-atlas contouring."""
