"""Is a structure plausible: by volume, parts, side, position, and against the others."""
