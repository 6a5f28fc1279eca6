"""What the rooms of the node hand to one another: small records that survive JSON."""
