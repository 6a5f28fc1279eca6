"""Recording measurements of OncoSeg with versions, machine and command."""
