"""Weights of red, green and blue in brightness and in colour difference."""

import numpy as np

# brightness (ITU-R BT.601): the weights with which OpenCV and Pillow convert RGB to grey
LUMA = np.array([0.299, 0.587, 0.114])
# I and Q of NTSC's YIQ: a rotation in this plane changes the hue alone
CHROMA = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def widen_colour(colour: np.ndarray, channels: int) -> np.ndarray:
    """Return colour matrices (B, 3, 3) for images of 3 or 4 channels, (B, C, C).

    A fourth channel is multiplied by the sum of a row, as a grey pixel is: brightness and contrast change all
    channels alike, while saturation and hue, which are about red, green and blue, leave the fourth alone.
    """
    if channels == 3:
        return colour
    wide = np.zeros((len(colour), channels, channels), colour.dtype)
    wide[:, :3, :3] = colour
    wide[:, 3, 3] = colour[:, 0].sum(axis=1)
    return wide


def widen_luma(channels: int) -> np.ndarray:
    """Return the weights of 3 or 4 channels in brightness, (C,); a fourth is no colour and has none."""
    return np.pad(LUMA, (0, channels - 3))
