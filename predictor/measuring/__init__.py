"""Measuring angles: what is measured, by whom, what decides the bits, and where they are kept."""
