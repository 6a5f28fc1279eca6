"""LoRA adapters: inject, save, load, describe."""
