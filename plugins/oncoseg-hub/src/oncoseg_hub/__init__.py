"""Share LoRA adapters through the Hugging Face hub."""
