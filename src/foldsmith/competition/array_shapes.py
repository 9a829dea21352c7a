"""Shapes of arrays that are one image."""

MAX_LAYERS = 16  # of one image, such as the six spectrograms of one recording
LONGEST = 20_000  # rows of an image; a table of flattened images has more


def image_axes(shape: tuple[int, ...]) -> str:
    """Return the meaning of the axes of an array that is one image: HW, HWC, CHW, or LHW for other layers.

    An empty text says that the array is none: it holds many images, or none.
    """
    if not shape or 0 in shape or max(shape) > LONGEST:
        return ""
    if len(shape) == 2:
        return "HW"
    if len(shape) != 3:
        return ""
    if shape[2] in (1, 3, 4):
        return "HWC"
    if shape[0] in (1, 3, 4):
        return "CHW"
    return "LHW" if shape[0] <= MAX_LAYERS else ""
