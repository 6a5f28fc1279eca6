"""Settings of the server, from one YAML file."""
