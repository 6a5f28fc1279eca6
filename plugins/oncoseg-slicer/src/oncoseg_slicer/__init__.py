"""The library of the Slicer module `OncoSeg`: what it does on MRML, without a window."""
