"""The path of an image into a model, and of its mask back."""
