"""The size of training images in every epoch."""

import pytest
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.errors import InputError
from foldsmith.recipes import Recipe
from foldsmith.training.check import check_recipe
from foldsmith.training.sizes import training_sizes


def sizes_of(**fields: int) -> list[int]:
    return training_sizes(Recipe(name="test", **fields))


def test_by_default_all_epochs_have_the_image_size() -> None:
    assert sizes_of(image_size=64, epochs=3) == [64] * 3
    assert sizes_of(image_size=64, epochs=3, train_size=48) == [48] * 3


def test_images_grow_by_eighths_and_every_size_has_as_many_epochs() -> None:
    assert sizes_of(image_size=64, epochs=10, train_size_from=32) == [32, 32, 40, 40, 48, 48, 56, 56, 64, 64]
    assert sizes_of(image_size=64, epochs=4, train_size=48, train_size_from=40) == [40, 40, 48, 48]
    assert sizes_of(image_size=64, epochs=2, train_size_from=16) == [16, 64]
    assert sizes_of(image_size=64, epochs=1, train_size_from=16) == [64]


@given(st.integers(1, 256), st.integers(1, 60), st.data())
def test_sizes_start_and_end_as_requested_and_never_shrink(
    size: int, epochs: int, data: st.DataObject
) -> None:
    last = data.draw(st.integers(1, size))
    first = data.draw(st.integers(1, last))
    sizes = sizes_of(image_size=size, epochs=epochs, train_size=last, train_size_from=first)
    assert len(sizes) == epochs and sizes == sorted(sizes) and sizes[-1] == last
    assert sizes[0] == first or epochs == 1
    step = max(1, round(size / 8))
    assert all((side - first) % step == 0 for side in sizes if side != last)


@pytest.mark.parametrize("fields", [{"train_size": 48}, {"train_size_from": 48}])
@pytest.mark.parametrize("model", ["timm:vit_tiny_patch16_224", "autoencoder-lenet-upsampled"])
def test_a_network_of_one_size_is_refused_in_one_sentence(model: str, fields: dict[str, int]) -> None:
    size = 100 if model.startswith("auto") else 64
    recipe = Recipe(name="test", model=model, image_size=size, **fields)
    with pytest.raises(InputError, match=naming(model, "train_size")):
        check_recipe(recipe, "cpu", "fp32")


@pytest.mark.parametrize("model", ["quick-cnn", "cnn-gap", "timm:resnet18", "timm:convnext_atto"])
def test_a_network_of_any_size_is_accepted(model: str) -> None:
    fields = {"train_size": 48, "train_size_from": 36}
    check_recipe(Recipe(name="test", model=model, image_size=64, **fields), "cpu", "fp32")


def test_a_size_that_the_network_cannot_take_is_refused() -> None:
    recipe = Recipe(name="test", model="quick-cnn", image_size=64, train_size=8)
    with pytest.raises(InputError, match=naming("quick-cnn", "8 x 8")):
        check_recipe(recipe, "cpu", "fp32")
