"""Predicting with trained weights: devices, views, memory, features."""
