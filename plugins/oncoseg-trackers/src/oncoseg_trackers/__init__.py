"""TensorBoard and Weights & Biases as trackers."""
