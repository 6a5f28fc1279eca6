"""Stands in for setuptools while pip downloads an sdist, so that no code of the sdist is run."""
