"""Box and point prompts made from reference masks, for OncoSeg."""
