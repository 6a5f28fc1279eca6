"""What several modalities share: windows, percentiles, ranks, colours, units."""
