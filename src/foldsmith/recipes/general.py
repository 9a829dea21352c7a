"""Recipes for any dataset."""

from dataclasses import replace

from foldsmith.recipes.recipe import DatasetRecipe, Recipe

# timm's ResNet-18 from scratch at 128 pixels, which suits most photographs. `--recipe default` resolves the
# fields from the competition's images (default.py); a recipe file cannot vary this row. Resolved
# recipes reach on one fold, on one core, 89.1 % on CIFAR-10 as JPEG files in nine minutes, and 56.8 % on
# tiny80 in half an hour.
DEFAULT = DatasetRecipe(
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

# Images of up to about 64 pixels, fast on a CPU: 94.5 % on Fashion-MNIST, one fold of three, in 14 minutes on
# one busy core. Alternating flips, Nesterov momentum, label smoothing and EMA of the weights are off: in an
# ablation of ten epochs none of them gained more than its standard error (docs/log.md).
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
CUTMIX = {"cutmix": 1.0, "mix_share": 0.5}  # CutMix on half of the batches

# The best score for small images, on a GPU: a wider and deeper network, more epochs, CutMix on half of the
# batches. 92.2 % on CIFAR-10 as JPEG files; 95.6 % on Fashion-MNIST in 20 epochs at 28 pixels. Both are five
# folds, in under seven minutes on an H200 that the two runs shared, measured with label smoothing,
# alternating flips and Nesterov momentum; these are off now, because an ablation found no gain. The weight
# decay was not tuned alone.
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

# The best score for tens of thousands of photographs, on a GPU. Small photographs are enlarged, because the
# network's first layers divide sides by four. On tiny80 larger crops, more weight decay and this network
# gained 2 to 4 percentage points each over networks for small images (docs/log.md). Results on tiny80: 69.6
# and 70.6 % on two folds (one view) after 40 epochs of about 11 s on an H200 shared with other runs; 70.0 %
# on one fold (two views) after 38 epochs, in 139 minutes on two cores.
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
    # these three were not tested one by one
    label_smoothing=0.1,
    alternating_flip=True,
    nesterov=True,
)

# A classifier on the frozen features of a pretrained network: the first answer wherever weights are at hand.
PROBE = Recipe(
    name="probe",
    model="timm:convnext_tiny.in12k_ft_in1k",
    pretrained=True,
    head="probe",
    image_size=224,
    augment="flip",
    epochs=0,
)

# A pretrained network trained from its probe on: the head is fitted before the first step, so that the
# features are not spoilt by a random one (Kumar et al., Fine-tuning can distort pretrained features, 2022).
# Without CutMix 816 flowers are learned by heart at once: 69.6 % on one fold, which is what the probe has;
# with CutMix and changed colours 77.0 %.
FINETUNE = replace(
    PROBE,
    name="finetune",
    augment="photo",
    cutmix=1.0,
    mix_share=0.8,
    epochs=30,
    batch_size=32,
    optimizer="adamw",
    lr=2e-3,
    layer_decay=0.85,
    weight_decay=0.05,
    freeze_norm=True,
    label_smoothing=0.1,
    ema_decay=0.98,
)

RECIPES = (
    DEFAULT,
    PROBE,
    FINETUNE,
    # A small network at 32 pixels, minutes on a laptop: for the demo (98 % after 34 seconds of training), and
    # for a first result on any data. 68 % on 10,000 images of CIFAR-10 and 89 % on 10,000 of Fashion-MNIST,
    # two minutes each.
    Recipe(
        name="quick",
        model="quick-cnn",
        image_size=32,
        augment="shift-flip",
        epochs=12,
        batch_size=64,
        least_steps=20,
        optimizer="adamw",
        lr=4e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema_decay=0.99,
    ),
    SMALL_IMAGES,
    SMALL_IMAGES_BEST,
    PHOTOS,
    # Fine-grained classes with few images, such as flowers: more epochs of small batches. 64.1 % on
    # Flowers-102, five folds in five minutes on an H200 shared with other runs. On a CPU `whitened-cnn-tall`
    # is faster (60.3 % in 36 minutes on one core; RESULTS.md).
    replace(
        PHOTOS,
        name="fine-grained-few",
        mix_until=0.8,
        epochs=80,
        batch_size=32,
        lr=0.009,
    ),
    # Seconds of training on a GPU, for images of 32 pixels such as CIFAR-10: 89.8 % on CIFAR-10 as JPEG files
    # after 7.9 seconds on an H200 (held-out, one fold). As in Page (How to train your ResNet, 2018) the
    # learning rate rises for a fifth of the steps.
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
