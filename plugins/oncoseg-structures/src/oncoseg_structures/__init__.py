"""Names of structures by TG-263, and protocols."""
