"""RTSTRUCT and SEG of a job."""
