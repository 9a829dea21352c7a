"""The scores of one run: metrics by fold, calibration, label errors, chance, shift, gains of views."""
