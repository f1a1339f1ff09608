"""Recipes on a network: what they do to its gradient, without training (docs/definitions/recipes.md)."""
