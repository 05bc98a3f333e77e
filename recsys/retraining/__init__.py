"""When to train anew, and whether what came of it may serve."""
