from pathlib import Path

import pytest
from pydantic import ValidationError

from search_spaces.yamlfile import FileError, read_yaml, validate
from trainers import DataConfig, Recipe, TrainerConfig, recipe_document, recipe_names


@pytest.mark.parametrize(
    ("section", "key", "told"),
    [
        ("trainer: {warmup_epochs: 5, epochs: 5}", "trainer.warmup_epochs", "is 5, but must be below epochs (5)"),
        ("trainer: {momentum: 0}", "trainer", "nesterov: true needs momentum above 0"),
        ("trainer: {lr: 0}", "trainer.lr", "0"),
        ("trainer: {epochs: '3'}", "trainer.epochs", "3"),
        ("trainer: {optimizer: sdg}", "trainer.optimizer", "sgd"),
        ("trainer: {learning_rate: 0.1}", "trainer.learning_rate", "learning_rate"),
        ("data: {name: shapes, download: true}", "data", "shapes cannot be downloaded"),
        ("data: {name: cifar10, in_memory: true}", "data", "cifar10 is always kept in memory"),
        ("data: {image_size: 4}", "data.image_size", "8"),
        ("data: {name: mnist}", "data.name", "fashion_mnist"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(section: str, key: str, told: str) -> None:
    with pytest.raises(FileError) as caught:
        validate(read_yaml(section, "x.yaml"), Recipe)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert told in problem.message


def test_every_recipe_that_ships_is_valid() -> None:
    assert set(recipe_names()) == {"cifar", "fashion_mnist", "imagenet", "shapes"}
    for name in recipe_names():
        validate(recipe_document(name), Recipe)


def test_a_recipe_is_also_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {epochs: 3}\n")
    assert validate(recipe_document(str(path)), Recipe).trainer.epochs == 3


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(FileError, match=r"unknown recipe 'shape' \(did you mean 'shapes'\?\)"):
        recipe_document("shape")


@pytest.mark.parametrize("model", [DataConfig, TrainerConfig])
def test_a_config_is_frozen_and_every_key_is_explained_or_a_choice(model: type[DataConfig | TrainerConfig]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        model().seed = 1
    for name, field in model.model_fields.items():
        assert field.description or name in ("label_smoothing", "optimizer"), name
