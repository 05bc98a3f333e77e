"""Who is in which variant of an experiment, and what the variants did: pure functions over users and outcomes."""
