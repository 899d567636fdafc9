# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Load images; one that cannot be read is an error, or replaced and counted.

``UnreadableImagesHook`` lets training, and nothing else, replace images.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import re
from contextlib import nullcontext
from multiprocessing.context import get_spawning_popen
from typing import Any, SupportsIndex

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log

from ..registry import TRANSFORMS

_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')
"""A JPEG marker, except for what a scan consists of: 0xFF 0, restarts."""


class UnreadableFiles:
    """A set of at most ``capacity`` files, shared with worker processes.

    However these are started. Pickled for anything but a process that is
    being started, it is a new, empty set.

    Args:
        capacity: How many distinct files it takes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # A lock of this context is good for the other ones, too. It starts
        # Python's resource tracker, so there is none where none is needed.
        context = multiprocessing.get_context('spawn')
        self._lock = context.Lock() if capacity else nullcontext()
        self._digests = context.RawArray('q', capacity)  # 0: free
        self._meetings = context.RawValue('q', 0)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if get_spawning_popen() is None:
            return type(self), (self.capacity,)
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> UnreadableFiles:
        # A subset of a data set counts together with the data set.
        return self

    def __len__(self) -> int:
        return sum(digest != 0 for digest in self._digests[:])

    @property
    def meetings(self) -> int:
        """How often :meth:`add` was called, in all processes."""
        return self._meetings.value

    def add(self, path: str) -> int | None:
        """Add a file unless it is there.

        Returns:
            How many there are now if it is new, ``None`` if it is not.

        Raises:
            OverflowError: If it is new and there is no room for it.
        """
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        number = int.from_bytes(digest, 'little', signed=True) or 1
        with self._lock:
            self._meetings.value += 1
            known = self._digests[:]
            if number in known:
                return None
            if 0 not in known:
                raise OverflowError(path)
            free = known.index(0)
            self._digests[free] = number
            return free + 1


@TRANSFORMS.register_module()
class LoadReadableImage(LoadImageFromFile):
    """MMCV's ``LoadImageFromFile`` that says which file cannot be read.

    A JPEG file that was cut off counts as unreadable too: OpenCV 4 decodes
    it without a word, with the rest of the picture missing.

    Where replacing is allowed, ``BaseDataset`` draws another image instead.
    It does so from NumPy's generator, so that after ``SeedSample`` the other
    image, too, is a function of (seed, epoch, index).

    Required keys: ``img_path``, or else ``img`` of an image that has been
    loaded, as by MMPretrain's inferencer. Modified keys: ``img`` (H, W, C),
    ``img_shape``, ``ori_shape``, both (H, W).

    Args:
        to_float32: As in MMCV, likewise the next two.
        color_type: What to decode to.
        imdecode_backend: What to decode with.
        backend_args: How to read the file, as in MMEngine.
        max_unreadable: How many distinct files may be replaced in training,
            in a training process and its workers. Each is logged once; by
            workers that were not forked on the console only, as MMEngine
            does. Defaults to 0: the first is an error.

    Raises:
        ValueError: If ``max_unreadable`` < 0.
        RuntimeError: By a call, if the file cannot be read and not be
            replaced.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        *,
        backend_args: dict | None = None,
        max_unreadable: int = 0,
    ) -> None:
        super().__init__(
            to_float32, color_type, imdecode_backend, backend_args=backend_args
        )
        if max_unreadable < 0:
            raise ValueError(
                f'max_unreadable must be >= 0, got {max_unreadable}. Set it '
                'in train_dataloader.dataset.pipeline.'
            )
        self.max_unreadable = max_unreadable
        self.replaces = False  # UnreadableImagesHook sets it
        self.unreadable = UnreadableFiles(max_unreadable)
        self._in_a_row = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load the image.

        Returns:
            ``results`` with the image, or ``None`` for another to be drawn.
        """
        if 'img_path' not in results and 'img' in results:
            return results
        path = results['img_path']
        try:
            image = self._read(path)
        except Exception as error:  # each decoder has errors of its own
            self._pass_over(str(path), error)
            # SeedSample seeds anew for each image drawn: without this, two
            # broken ones could draw each other for ever.
            np.random.random_sample(self._in_a_row)
            self._in_a_row += 1
            return None
        self._in_a_row = 0
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, path: str) -> np.ndarray:
        data = fileio.get(path, backend_args=self.backend_args)
        if not data:
            raise ValueError('the file is empty')
        if is_cut_jpeg(data):
            raise ValueError('the JPEG file ends within the picture')
        image = mmcv.imfrombytes(
            data, flag=self.color_type, backend=self.imdecode_backend
        )
        if image is None:
            raise ValueError(f'{self.imdecode_backend} cannot decode it')
        return image

    def _pass_over(self, path: str, error: Exception) -> None:
        """Count and log the file, or raise if it is one too many."""
        # Not every file name is text.
        shown = os.fsencode(path).decode(errors='backslashreplace')
        cause = f'{shown} cannot be read ({type(error).__name__}: {error})'
        limit = self.max_unreadable
        if not self.replaces:
            raise RuntimeError(
                f'{cause}. Restore or remove the file. Training can replace '
                'some such images by others: set max_unreadable (here '
                f'{limit}) of LoadReadableImage in train_dataloader.dataset.'
                'pipeline and have UnreadableImagesHook in default_hooks. In '
                'validation and test no image is replaced.'
            ) from error
        try:
            count = self.unreadable.add(path)
        except OverflowError:
            raise RuntimeError(
                f'{cause}: more files than max_unreadable={limit} allows. '
                'Restore or remove the files that the log names, or raise '
                'max_unreadable of LoadReadableImage in train_dataloader.'
                'dataset.pipeline.'
            ) from error
        if count is not None:
            print_log(
                f'{cause}, so another image replaces it: unreadable file '
                f'{count} of at most {limit}.',
                'current',
                logging.WARNING,
            )


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG file ends before the end marker of its picture.

    It goes from segment to segment (ITU-T T.81, B.1.1), so that neither an
    embedded preview's end counts nor what follows the picture, such as the
    film of a motion photo. As in libjpeg, bytes where a marker should be are
    skipped up to the next one: other damage than a cut the decoder judges.
    """
    if not data.startswith(b'\xff\xd8\xff'):
        return False
    position = 2
    while marker := _MARKER.search(data, position):
        position = marker.end()
        code = data[position - 1]
        if code == 0xD9:
            return False
        if code >= 0xC0 and code != 0xD8:  # has a segment
            position += int.from_bytes(data[position : position + 2], 'big')
    return True
