"""What is known of each dataset: one module per family, each with its records in ``SPECS``. Light: no array library."""
