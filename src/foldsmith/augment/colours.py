"""Weights of red, green and blue in brightness and in colour difference."""

import numpy as np

# brightness (ITU-R BT.601): the weights with which OpenCV and Pillow convert RGB to grey
LUMA = np.array([0.299, 0.587, 0.114])
# I and Q of NTSC's YIQ: a rotation in this plane changes the hue alone
CHROMA = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
