"""Recipes: named YAML files that say how to train."""
