"""Study 1: the 80-class bottleneck ResNet.

As published: the study's crop, flips and rotation; SGD with lr .01 and momentum .9; batches of 32; about 80
epochs (30 on resized images, then 50 with augmentation; here all with augmentation).

Corrected: the score is held-out, which the study's was not. Batches may have any size instead of 32. Images
are rotated before they are normalised, so that empty corners are black and not grey. Every epoch is logged.
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
    # The same network for images of about 64 pixels, with weight decay, a schedule, EMA of the weights and
    # label smoothing, which the study did not use.
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
