"""Why a list is as it is, and why an item is not on it: the stages of `recommend` run again on other inputs."""
