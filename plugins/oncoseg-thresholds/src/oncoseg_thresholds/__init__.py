"""Body, lungs and bones on CT by Hounsfield units."""
