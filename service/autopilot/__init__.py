"""Retraining by itself: what starts it, the steps of a run, and what is kept of each."""
