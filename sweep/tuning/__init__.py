"""The run itself: the plan as a Ray Tune experiment, recorded as it goes."""
