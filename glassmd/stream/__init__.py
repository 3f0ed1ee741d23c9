"""From committed segments to samples, while they appear or afterwards."""
