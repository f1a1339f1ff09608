"""Plots of rankings, attributions, precision and training, in one style that colour-blind readers can tell apart."""
