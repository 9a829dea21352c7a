"""Recipes for any data."""

from dataclasses import replace

from foldsmith.recipes.recipe import Recipe

# What most photographs can bear: timm's ResNet-18 from scratch at 128 pixels. A competition's own images
# decide the fields that default.py names; variants of this row have it as it stands here. So chosen, 89.4 %
# of a fold of CIFAR-10 as JPEG files and 56.8 % of one of tiny80, each after half an hour on one busy core.
DEFAULT = Recipe(
    name="default",
    model="timm:resnet18",
    image_size=128,
    augment="photo",
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    epochs=30,
    label_smoothing=0.1,
    ema_decay=0.998,
)

# Images of up to about 64 pixels, in the time that a CPU has: 94.5 % on Fashion-MNIST, a fold of three in 14
# minutes on one busy core. An ablation (docs/log.md) took out alternating flips, Nesterov's momentum, label
# smoothing and averaged weights: in ten epochs none earned its place.
SMALL_IMAGES = Recipe(
    name="small-images-fast",
    model="whitened-cnn",
    image_size=32,
    augment="pad-crop-flip",
    epochs=10,
    batch_size=256,
    optimizer="muon",
    lr=0.015,
    weight_decay=0.05,
    schedule="one-cycle",
    warmup=0.2,
)
CUTMIX = {"cutmix": 1.0, "mix_share": 0.5}  # of half of the batches

# The same for the best score that a GPU gives: wider, deeper, longer, half of the batches cut from two.
# 92.2 % on CIFAR-10 as JPEG files and, in 20 epochs at 28 pixels, 95.6 % on Fashion-MNIST, both in five
# folds and in under seven minutes of an H200 that they shared; with label smoothing, alternating flips
# and Nesterov's momentum, of which an ablation found no use. The decay was not tried alone.
SMALL_IMAGES_BEST = replace(
    SMALL_IMAGES,
    name="small-images-best",
    model="whitened-cnn-deep",
    **CUTMIX,
    mix_until=0.85,
    epochs=30,
    batch_size=512,
    lr=0.018,
    weight_decay=0.1,
    ema_decay=0.995,
    validate_every=5,
)

# Tens of thousands of photographs for the best score that a GPU gives: small ones are enlarged, for the
# network divides sides by four at once. On tiny80 larger crops, more weight decay and this network gained 2
# to 4 points each over networks for small images (docs/log.md): 69.6 and 70.6 % of two folds (one view) after
# 40 of the epochs, which took about 11 s each on an H200 that other runs shared; 70.0 % of one fold (both
# views) after 38 epochs, in 139 minutes of two cores.
PHOTOS = replace(
    SMALL_IMAGES_BEST,
    name="photos-best",
    model="timm:resnet18d",
    image_size=128,
    train_size=112,
    train_size_from=64,
    augment="photo",
    epochs=45,
    weight_decay=0.15,
    # not tried one by one
    label_smoothing=0.1,
    alternating_flip=True,
    nesterov=True,
)

RECIPES = (
    DEFAULT,
    # Minutes on a laptop: a small network at 32 pixels. The demo's recipe (98 % in 34 seconds of training),
    # and a first look at any data: 68 % on 10,000 images of CIFAR-10, 89 % on as many of Fashion-MNIST, in
    # two minutes each.
    Recipe(
        name="quick",
        model="quick-cnn",
        image_size=32,
        augment="shift-flip",
        epochs=12,
        batch_size=64,
        optimizer="adamw",
        lr=4e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema_decay=0.99,
    ),
    SMALL_IMAGES,
    SMALL_IMAGES_BEST,
    PHOTOS,
    # A few images a class of things that differ in detail, such as flowers: more epochs of small batches.
    # 64.1 % on Flowers-102, five folds in five minutes of an H200 that other runs shared. For a CPU
    # `whitened-cnn-tall` is the quicker network (60.3 % in 36 minutes on one core; RESULTS.md).
    replace(
        PHOTOS,
        name="fine-grained-few",
        mix_until=0.8,
        epochs=80,
        batch_size=32,
        lr=0.009,
    ),
    # Built for a GPU and images of 32 pixels, such as CIFAR-10, to be accurate after seconds of training:
    # 89.8 % on CIFAR-10 as JPEG files after 7.9 seconds on an H200 (held out, one fold). The
    # schedule is after Page (How to train your ResNet, 2018): a rate that rises for a fifth of the steps.
    Recipe(
        name="speedrun",
        model="resnet9",
        image_size=32,
        augment="pad-crop-flip",
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
        epochs=16,
        batch_size=512,
        optimizer="sgd",
        nesterov=True,
        lr=0.4,
        weight_decay=5e-4,
        warmup=0.2,
        label_smoothing=0.1,
        ema_decay=0.99,
        validate_every=16,
    ),
)
