# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Order and augmentation of training images, functions of the seed alone.

``SeededSampler`` hands (seed, epoch, index) on to ``SeedSample``, the first
transform of a pipeline, whichever process runs it. So neither the number of
worker processes nor that of training processes nor an interruption changes
what happens to an image.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import DefaultSampler

from ..registry import DATA_SAMPLERS, TRANSFORMS
from ..seeds import Seeds, mix_seeds, mix_seeds_of_each
from .drawing import numpy_suffices, steps_of

# np.random.seed without its question which kind of generator NumPy has, which
# once an image is an eighth of what all seeding costs: this is for the kind
# that NumPy starts with. SciPy and scikit-learn take it from there too.
_seed_numpy = np.random.mtrand._rand.seed


class SampleIndex(int):
    """An index into a data set that knows the sampler's seed and epoch.

    Args:
        index: The index.
        seed: The sampler's seed.
        epoch: The epoch that the sampler is in, from 0.

    Attributes:
        turn: Seed and epoch.
        seeds: What follows from the three for the generators.
    """

    turn: tuple[int, int]
    seeds: Seeds

    def __new__(cls, index: int, seed: int, epoch: int) -> SampleIndex:
        (self,) = cls.of_epoch([index], seed, epoch)
        return self

    def __reduce__(self) -> tuple[type[SampleIndex], tuple[int, int, int]]:
        return type(self), (int(self), *self.turn)

    @classmethod
    def of_epoch(
        cls, indices: Iterable[int], seed: int, epoch: int
    ) -> Iterator[SampleIndex]:
        """Yield indices of one epoch, hashing what they share just once."""
        turn = seed, epoch
        for index, seeds in mix_seeds_of_each('sample', turn, indices):
            self = int.__new__(cls, index)
            self.turn = turn
            self.seeds = seeds
            yield self


def seed_cpu_generators(purpose: str, *numbers: int) -> int:
    """Seed Python's, NumPy's and torch's global generators of the CPU.

    Args:
        purpose: As in :func:`mix_seeds`, likewise ``numbers``.

    Returns:
        The seed for torch, of use for its generators of other devices.
    """
    seeds = mix_seeds(purpose, *numbers)
    _seed_all(seeds)
    return seeds[-1]


def _seed_all(seeds: Seeds) -> None:
    for_python, for_numpy, for_torch = seeds
    random.seed(for_python)
    _seed_numpy(for_numpy)
    # torch.manual_seed would look for devices of every kind, which takes a
    # hundred times as long.
    torch.default_generator.manual_seed(for_torch)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler``, in an order of (seed, epoch) alone.

    Every process goes through its share of one order: process r of R takes
    the r-th, (R+r)-th, ... image, so that R batches of size B, one a
    process, hold the images of one batch of size R*B. It yields
    :class:`SampleIndex`, for the transform ``SeedSample``.

    Args:
        dataset: The data set; the Runner gives it.
        shuffle: Whether each epoch has an order of its own. Defaults to True.
        seed: Seed of the order and of the augmentation. Defaults to None,
            which means the Runner's seed (``randomness.seed``).
        round_up: Whether the first images fill up the last turn, so that
            all processes have equally many. Defaults to True.
    """

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up)
        _tell_what_follows(dataset)
        self._skipped = 0
        self._skip_pending = False

    def __iter__(self) -> Iterator[SampleIndex]:
        """Iterate over the indices of this process in this epoch."""
        if not self._skip_pending:
            self._skipped = 0
        self._skip_pending = False
        indices = self._indices()[self._skipped :]
        return SampleIndex.of_epoch(indices, self.seed, self.epoch)

    def __len__(self) -> int:
        """Return how many samples the iteration has on this process."""
        return self.num_samples - self._skipped

    def skip_samples(self, count: int) -> None:
        """Leave out the first samples of this process's next iteration.

        For a run resumed within an epoch. ``len`` is smaller by ``count``
        until that iteration's epoch is over: until ``set_epoch`` with
        another one, or until an iteration after it.

        Args:
            count: How many, from 0 to all samples of an epoch.

        Raises:
            ValueError: If there are not so many.
        """
        if not 0 <= count <= self.num_samples:
            raise ValueError(
                f'SeededSampler has {self.num_samples} samples an epoch on '
                f'this process and cannot leave out {count}. If the run was '
                'resumed, set train_dataloader and the number of processes '
                'to what they were.'
            )
        self._skipped = count
        self._skip_pending = True

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, from 0."""
        # What is still to be left out is left out in whichever epoch is next.
        if epoch != self.epoch and not self._skip_pending:
            self._skipped = 0
        _tell_what_follows(self.dataset)  # a hook may have changed it
        super().set_epoch(epoch)

    def _indices(self) -> list[int]:
        size = len(self.dataset)
        if self.shuffle:
            generator = torch.Generator()
            seeds = mix_seeds('order', self.seed, self.epoch)
            generator.manual_seed(seeds[-1])
            order = torch.randperm(size, generator=generator)
        else:
            order = torch.arange(size)
        indices = order.tolist()
        turns = range(self.rank, self.total_size, self.world_size)
        return [indices[turn % size] for turn in turns]


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Make what follows in the pipeline a function of (seed, epoch, index).

    The first transform of a training pipeline. It seeds the three generators
    that transforms draw from: Python's, NumPy's and torch's for the CPU.
    Only NumPy's where ``SeededSampler`` sees that nothing in the pipeline
    draws from the others, which saves most of the time; see ``drawing.py``.
    Without worker processes these are the training step's own, which
    ``SeededStepHook`` seeds again before each step.

    Attributes:
        numpy_only: Whether NumPy's generator is the only one to be seeded.

    Required keys: ``sample_idx``, a :class:`SampleIndex`. Modified keys:
    ``sample_idx``, which becomes a plain int.

    Raises:
        TypeError: If the sampler is no ``SeededSampler``, or something
            between it and the data set computes indices of its own.
    """

    def __init__(self) -> None:
        self._turn: tuple[int, int] | None = None
        self.numpy_only = False

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Seed the generators; images and labels stay as they are."""
        seeds = self._seeds(results.get('sample_idx'))
        if self.numpy_only:
            _seed_numpy(seeds[1])
        else:
            _seed_all(seeds)
        results['sample_idx'] = int(results['sample_idx'])
        return results

    def _seeds(self, index: int | None) -> Seeds:
        if isinstance(index, SampleIndex):
            self._turn = index.turn
            return index.seeds
        # After a broken image BaseDataset draws another index, a plain int,
        # and that from a generator seeded here for the image before it: so
        # it is as reproducible, and of that image's seed and epoch.
        if index is None or self._turn is None:
            raise TypeError(
                'SeedSample needs to know seed and epoch by the index, got '
                f'sample_idx={index!r} of type {type(index).__name__}. Set '
                "train_dataloader.sampler.type='SeededSampler'. Wrappers "
                'that compute indices (RepeatDataset, ConcatDataset, ...; '
                'config key train_dataloader.dataset.type) are not supported. '
                'Leave SeedSample out of pipelines that only evaluate, and '
                'where no sampler is (dataset[i], browse_dataset.py).'
            )
        return mix_seeds('sample', *self._turn, index)


def _tell_what_follows(dataset: Any) -> None:
    """Let a data set's ``SeedSample`` know which generators are drawn from."""
    steps = steps_of(dataset)
    for position, step in enumerate(steps):
        if isinstance(step, SeedSample):
            following = steps[position + 1 :]
            step.numpy_only = numpy_suffices(dataset, following)
