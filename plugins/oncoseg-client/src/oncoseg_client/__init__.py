"""The client of an OncoSeg server: httpx and numpy, no torch."""

from oncoseg_client.masks import EncodedMask, decode_mask, encode_mask

__all__ = ["EncodedMask", "decode_mask", "encode_mask"]
