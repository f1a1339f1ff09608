"""Angles that are told from noise before or instead of being measured."""
