"""Studies 2 and 3: autoencoders pretrained without labels, fine-tuned as classifiers; Oxford Flowers 102.

Study 2 (`autoencoder-padded-1` … `-5`, its five experiments)

- As published: MSE and Adam for the autoencoder, then cross entropy and Adam .001 for encoder and classifier
  together; batches of 128; images of 100 x 100.
- Corrected: every image is scored (the study dropped the last batch of its test set). Any batch size works.
  Early stopping uses held-out training images, never the test images.
- Not reported and chosen here: the third layers of experiments 2 to 5 (64 filters, and a decoder step from 12
  to 25 pixels), L2 of 1e-4, 30 epochs for the classifier of experiment 2, and the width of the hidden layer
  of experiment 5 (1,024).

Study 3 (`autoencoder-lenet…`)

- As published: 100 epochs of the autoencoder in batches of 255, then 60 epochs of fine-tuning, Adam .001.
- Corrected: the upsampling passes the gradient, which the study lost by converting to NumPy. Images are
  normalised to -1 … 1, the range of the decoder's Tanh.
"""

from dataclasses import replace

from foldsmith.recipes.recipe import Recipe

PADDED = Recipe(
    name="autoencoder-padded-1",
    model="autoencoder-padded-1",
    image_size=100,
    near_duplicates=-1,  # the study split at random, without grouping near-duplicates
    augment="none",
    mean=(0.0, 0.0, 0.0),  # images stay in 0 … 1: the decoder ends with a ReLU and outputs no negative value
    std=(1.0, 1.0, 1.0),
    pretrain="autoencoder",
    pretrain_epochs=30,
    pretrain_batch_size=128,
    pretrain_lr=1e-4,
    epochs=30,
    batch_size=128,
    optimizer="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    views=("identity",),
)
TRY_2 = replace(PADDED, name="autoencoder-padded-2", model="autoencoder-padded-2", pretrain_lr=1e-6)
TRY_3 = replace(
    TRY_2,
    name="autoencoder-padded-3",
    pretrain_lr=1e-5,
    pretrain_epochs=100,
    pretrain_patience=10,
    weight_decay=1e-4,
)
TRY_4 = replace(TRY_3, name="autoencoder-padded-4", model="autoencoder-padded-4", pretrain_epochs=30)
TRY_5 = replace(TRY_4, name="autoencoder-padded-5", model="autoencoder-padded-5")

LENET = replace(
    PADDED,
    name="autoencoder-lenet",
    model="autoencoder-lenet",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    pretrain_epochs=100,
    pretrain_batch_size=255,
    pretrain_lr=1e-3,
    epochs=60,
    batch_size=255,
)

# Additions of ours: pretraining on the test images too, augmentation, EMA of the weights, and a learning rate
# that rises and falls once (Smith and Topin, Super-Convergence, 2018).
PLUS = {
    "augment": "photo",
    "pretrain_test": True,
    "pretrain_epochs": 20,
    "pretrain_lr": 2e-3,
    "batch_size": 32,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup": 0.3,
    "label_smoothing": 0.1,
    "ema_decay": 0.998,
    "views": ("identity", "hflip"),
}

RECIPES = (
    PADDED,
    TRY_2,
    TRY_3,
    TRY_4,
    TRY_5,
    replace(PADDED, name="autoencoder-padded-plus", model="autoencoder-padded-5", epochs=100, **PLUS),
    LENET,
    *(
        replace(LENET, name=name, model=name)
        for name in ("autoencoder-lenet-bn", "autoencoder-lenet-bn-dropout", "autoencoder-lenet-upsampled")
    ),
    replace(LENET, name="autoencoder-lenet-plus", model="autoencoder-lenet-upsampled", epochs=200, **PLUS),
)
