"""Study 5: CNNs A to G and GAP on CIFAR-10, images of 32 x 32.

As published: lr .001, 42,000 training and 8,000 held-out images (`--holdout 0.16`), no augmentation, inputs
scaled to 0 … 1; 150 epochs for A and B, 16 for C, 120 and 240 for GAP.

Corrected: the networks output logits. The study applied a softmax before the cross entropy, which applies
its own; this is a main reason why its A to E hardly learned.

Not reported and chosen here: Adam, batches of 64, 16 epochs for D and E as for C, 60 for F and G.
"""

from dataclasses import replace

from foldsmith.recipes.recipe import Recipe

CNN = Recipe(
    name="cnn-gap",
    model="cnn-gap",
    image_size=32,
    near_duplicates=-1,  # the study split at random, without grouping near-duplicates
    augment="none",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    epochs=120,
    batch_size=64,
    optimizer="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    views=("identity",),
)
EPOCHS = {"a": 150, "b": 150, "c": 16, "d": 16, "e": 16, "f": 60, "g": 60}
# Additions of ours: crops and flips, EMA of the weights, and a learning rate that rises and falls once (Smith
# and Topin, Super-Convergence, 2018).
PLUS = replace(
    CNN,
    name="cnn-gap-plus",
    augment="pad-crop-flip",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.05,
    schedule="cosine",
    warmup=0.3,
    ema_decay=0.999,
    views=("identity", "hflip"),
)

RECIPES = (
    *(
        replace(CNN, name=f"cnn-{letter}", model=f"cnn-{letter}", epochs=epochs)
        for letter, epochs in EPOCHS.items()
    ),
    CNN,
    replace(CNN, name="cnn-gap-240", epochs=240),
    replace(PLUS, name="cnn-g-plus", model="cnn-g"),
    PLUS,
)
