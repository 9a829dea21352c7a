"""Prediction with trained weights: device and precision, views, batch limits, features."""
