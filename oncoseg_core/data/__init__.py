"""Cases for training and scoring: splits, leakage, the prepared store."""
