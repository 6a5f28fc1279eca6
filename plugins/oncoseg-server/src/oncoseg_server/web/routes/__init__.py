"""The routes below ``/api/v1``, and those outside of it."""
