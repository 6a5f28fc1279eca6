"""napari as a window on an OncoSeg session. Light: no napari, no Qt and no torch until a part is used."""
