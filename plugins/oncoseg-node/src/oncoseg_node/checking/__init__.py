"""Which structures are written, marked or left out."""
