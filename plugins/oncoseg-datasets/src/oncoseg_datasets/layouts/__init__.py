"""Adapters: one class per family of layouts, configured by a small table in its module, keyed by the record's name."""
