"""A build backend that builds nothing; :mod:`oncoseg_datasets.pip_download` puts this folder on pip's path."""
