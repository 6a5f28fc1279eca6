"""LiteMedSAM with real weights for OncoSeg: box prompts on a laptop CPU."""
