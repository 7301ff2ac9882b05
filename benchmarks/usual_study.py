"""The usual way of searching: an Optuna objective over a DataLoader, each trial a nested MLflow run. One process of its own.

``python -m benchmarks.usual_study FOLDER TRIALS``; FOLDER holds MNIST as torchvision keeps it. Everything is as the libraries'
own tutorials do it: ``study.optimize``, ``ToTensor`` and ``Normalize`` image by image, ``mlflow.log_metrics`` after each epoch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow
import optuna
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from pipeline.vision import torchvision

TRAINING, VALIDATION, BATCH, EPOCHS = 3_840, 1_280, 128, 10


def network(trial: optuna.Trial) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    width = 28 * 28
    for index in range(trial.suggest_int("layers", 1, 3)):
        units = trial.suggest_int(f"units_{index}", 4, 128)
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(trial.suggest_float(f"dropout_{index}", 0.2, 0.5))]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 10))


def accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in loader:
            right += int((model(images).argmax(1) == labels).sum())
    return right / VALIDATION


def main() -> None:
    folder, trials = Path(sys.argv[1]), int(sys.argv[2])
    transform = torchvision.transforms.Compose(
        [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.1307,), (0.3081,))]
    )
    published = torchvision.datasets.MNIST(str(folder), train=True, transform=transform)
    train = DataLoader(Subset(published, range(TRAINING)), BATCH, shuffle=True)
    validation = DataLoader(Subset(published, range(TRAINING, TRAINING + VALIDATION)), BATCH)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'usual-mlflow.db'}")
    mlflow.set_experiment("usual")

    def objective(trial: optuna.Trial) -> float:
        model = network(trial)
        make = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "sgd": torch.optim.SGD}
        name = trial.suggest_categorical("optimizer", list(make))
        optimizer = make[name](model.parameters(), lr=trial.suggest_float("lr", 1e-5, 1e-1, log=True))
        value = 0.0
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
            mlflow.log_params(trial.params)
            for epoch in range(1, EPOCHS + 1):
                model.train()
                for images, labels in train:
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(images), labels)
                    loss.backward()
                    optimizer.step()
                value = accuracy(model, validation)
                mlflow.log_metrics({"loss": loss.item(), "accuracy": value}, step=epoch)
        return value

    with mlflow.start_run(run_name="study"):
        study = optuna.create_study(
            direction="maximize",
            storage=f"sqlite:///{folder / 'usual-study.db'}",
            study_name="usual",
            sampler=optuna.samplers.TPESampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )
        study.optimize(objective, n_trials=trials)
    print(f"best {study.best_value:.4f}")


if __name__ == "__main__":
    main()
