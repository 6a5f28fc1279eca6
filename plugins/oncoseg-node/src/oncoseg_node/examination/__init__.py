"""Is a series whole and fit, and which rule is it for."""
