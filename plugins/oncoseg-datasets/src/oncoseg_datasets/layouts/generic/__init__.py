"""One's own data, described by settings."""
