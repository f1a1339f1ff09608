"""Recipes: which format each operand of the three products of a layer has."""
