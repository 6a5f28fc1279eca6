"""stub"""


class DicomwebArchive: ...
