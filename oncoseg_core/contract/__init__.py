"""What plugins are made of: hooks, records, interfaces, prompts, images, geometry, errors."""
