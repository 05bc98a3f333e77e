"""Whether what is served is still what was trained for: distributions beside those of the bundle, and who says so."""
