"""Comparing recipes, and other people's predictions, on one data set: the same splits, seeds, budget and metrics for all."""
