# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Packaging; the requirements are the files in ``requirements/``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_requirements(name: str) -> list[str]:
    """Read ``requirements/<name>.txt`` without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    stripped = (line.split('#')[0].strip() for line in lines)
    return [line for line in stripped if line]


def read_version() -> str:
    """Read the version without importing the package."""
    text = (ROOT / 'reducenet_mm' / 'version.py').read_text()
    match = re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError('reducenet_mm/version.py sets no __version__.')
    return match[1]


setup(
    name='reducenet_mm',
    version=read_version(),
    description='Train a big supernet, ship the small network inside it: '
    'ReduceNet for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='reducenet_mm contributors',
    keywords='computer vision, image classification, model compression',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['reducenet_mm', 'reducenet_mm.*']),
    python_requires='>=3.10,<3.14',
    install_requires=read_requirements('runtime'),
    extras_require={
        **{
            name: read_requirements(name)
            for name in ('lite', 'full', 'onnx', 'lint')
        },
        # With mmcv's ops: in an environment that has mmcv-lite, uninstall
        # that first.
        'dense': read_requirements('full') + read_requirements('dense'),
        # No test is skipped for want of a package.
        'tests': read_requirements('tests') + read_requirements('onnx'),
    },
    zip_safe=False,
)
