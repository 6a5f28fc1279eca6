"""LoRA training in plain torch.distributed for OncoSeg: oncoseg-train."""
