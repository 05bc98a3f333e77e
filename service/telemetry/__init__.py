"""What the service tells of itself: counts of every request, traces of a few, logs that name nobody."""
