"""An invented population, known to the last number: who comes, whom what pleases, what is looked at and clicked.

It meets the items of any data set, also of `recsys.datasets.synthetic`, and invents no history of its own: in that one
item leads to the next whatever was shown, here people react to lists. Simulated time is in UTC epoch seconds.
"""

DAY_S = 86_400
