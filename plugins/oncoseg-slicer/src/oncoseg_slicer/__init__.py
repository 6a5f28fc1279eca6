"""The library of the Slicer module `OncoSeg`: what it does on MRML, without a window.

Slicer's world is RAS mm, OncoSeg's is LPS mm. All conversions are in :mod:`oncoseg_slicer.volumes`.
"""
