"""OncoSeg beside a PACS: prompts over HTTP from OHIF and other viewers, results as SEG, RTSTRUCT and SR."""
