"""Finding plugins, and building their components with checked settings."""
