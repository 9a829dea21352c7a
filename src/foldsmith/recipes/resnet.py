"""Study 1: the 80-class bottleneck ResNet.

As published: the study's crop, flips and rotation, SGD .01/.9, batches of 32, and about 80 epochs (30 on
resized images, then 50 augmented; here augmented from the start).

Mended: a held-out score, which the study never had; batches of any length instead of 32 fixed rows; geometry
before normalisation, so that corners opened by a rotation are black and not grey; every epoch logged.
"""

from dataclasses import replace

from foldsmith.recipes.recipe import Recipe

RESNET = Recipe(
    name="resnet",
    model="bottleneck-resnet",
    image_size=224,
    augment="study-resnet",
    epochs=80,
    batch_size=32,
    lr=0.01,
    momentum=0.9,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    views=("identity",),
)

RECIPES = (
    RESNET,
    # The same network for images of about 64 pixels, with the training it lacked.
    replace(
        RESNET,
        name="resnet64",
        image_size=64,
        augment="crop-flip",
        epochs=30,
        batch_size=64,
        lr=0.02,
        nesterov=True,
        weight_decay=5e-4,
        schedule="cosine",
        warmup=0.3,
        ema_decay=0.998,
        label_smoothing=0.1,
        views=("identity", "hflip"),
    ),
)
