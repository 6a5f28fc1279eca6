"""The demonstration: a node, a scanner and an archive on this machine, and a real CT."""
