"""An invented population, known to the last number: who comes, whom what pleases, what is looked at and clicked.

Simulated time is in UTC epoch seconds.
"""

DAY_S = 86_400
