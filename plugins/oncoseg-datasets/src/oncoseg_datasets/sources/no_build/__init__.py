"""A build backend that builds nothing; :mod:`oncoseg_datasets.sources.pip_download` puts this folder on pip's path."""
