"""The node's YAML file."""
