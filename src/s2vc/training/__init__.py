"""Recipes, stages, losses, data, the loop."""
