"""Study 4: a CRNN on Fashion-MNIST, images of 28 x 28 in one channel.

As published: lr .001, 20 epochs, batches of 64, no augmentation, 70 % of the images for training and 30 %
held out (`--holdout 0.3`). Every variant of the study is a row.

Corrected: filters of 5 have padding 2, because padding 1 would leave no pixels to convolve.

Not reported and chosen here: Adam; "dropout .1 once" is that of the last block; inputs are scaled to 0 … 1.
"""

from dataclasses import replace

from foldsmith.recipes.recipe import Recipe

CRNN = Recipe(
    name="crnn",
    model="crnn",
    channels=1,
    image_size=28,
    near_duplicates=-1,  # the study split at random, without grouping near-duplicates
    augment="none",
    mean=(0.0,),
    std=(1.0,),
    epochs=20,
    batch_size=64,
    optimizer="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    views=("identity",),
)

RECIPES = (
    CRNN,
    *(
        replace(CRNN, name=name, model=name)
        for name in (
            "crnn-kernels333",
            "crnn-kernels222",
            "crnn-kernels555",
            "crnn-pools2",
            "crnn-hidden256",
            "crnn-dropout10",
            "crnn-dropout10-once",
            "crnn-hidden256-dropout10",
        )
    ),
    # The study's best network with additions of ours: flips, EMA of the weights, and a learning rate that
    # rises and falls once (Smith and Topin, Super-Convergence, 2018). With shifts as well it underfitted.
    replace(
        CRNN,
        name="crnn-plus",
        model="crnn-hidden256-dropout10",
        augment="flip",
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup=0.1,
        label_smoothing=0.05,
        ema_decay=0.999,
        views=("identity", "hflip"),
    ),
)
