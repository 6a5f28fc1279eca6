"""Rows of results, and the CSV file that holds them."""
