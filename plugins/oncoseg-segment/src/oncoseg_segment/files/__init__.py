"""Reading an image and writing its structures: outputs, manifest, preview."""
