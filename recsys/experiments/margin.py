"""What is tolerated of a bundle that is to have all users, where nobody says how much."""

MARGIN = 0.05  # of the lists clicked: so many fewer
