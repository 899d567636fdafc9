# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import sys
from importlib import metadata
from pathlib import Path

import pytest

from reducenet_mm.compat import check_mmcv, versions

CHECK_ALONE = (
    'import runpy, sys; sys.path.insert(0, {site!r});'
    'runpy.run_path({versions!r})["check_mmcv"](); print("accepted")'
)


def add_distribution(site: Path, name: str, version: str) -> None:
    """Lay down what pip records of a distribution."""
    folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir(parents=True)
    (folder / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    )


def add_mmcv_module(site: Path, body: str) -> None:
    (site / 'mmcv').mkdir(parents=True)
    (site / 'mmcv' / '__init__.py').write_text(body)


def bare_site(tmp_path: Path) -> Path:
    """Make a site folder with everything installed except mmcv."""
    site = tmp_path / 'site'
    site.mkdir()
    for entry in map(Path, sys.path):
        if entry.name not in ('site-packages', 'dist-packages'):
            continue
        for item in entry.iterdir():
            link = site / item.name
            if not item.name.startswith('mmcv') and not link.exists():
                link.symlink_to(item)
    return site


def check_alone(run_python, site: Path):
    """Run check_mmcv where only site and the standard library exist."""
    code = CHECK_ALONE.format(site=str(site), versions=versions.__file__)
    return run_python(code, '-S')


@pytest.mark.parametrize('version', ['2.0.0', '2.1.0', '2.1.0+cu118'])
def test_mmcv_in_range_is_accepted(tmp_path, monkeypatch, version):
    add_distribution(tmp_path, 'mmcv', version)
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.version('mmcv') == version
    check_mmcv()


@pytest.mark.parametrize('name', ['mmcv', 'mmcv-lite'])
@pytest.mark.parametrize('version', ['1.7.2', '2.0.0rc4', '2.1.1', '2.2.0'])
def test_mmcv_out_of_range(tmp_path, monkeypatch, name, version):
    add_distribution(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        check_mmcv()
    assert f'got {name} {version}.' in str(caught.value)
    assert f"pip install '{name}>=2.0.0,<=2.1.0'" in str(caught.value)


def test_missing_mmcv_stops_the_import_of_the_package(tmp_path, run_python):
    site = bare_site(tmp_path)
    root = Path(versions.__file__).parents[2]
    paths = [str(root), str(site)]
    run = run_python(
        f'import sys; sys.path[:0] = {paths}; import reducenet_mm', '-S'
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: reducenet_mm needs mmcv and found')
    assert "pip install 'mmcv-lite>=2.0.0,<=2.1.0'" in last
    assert "pip install 'mmcv>=2.0.0,<=2.1.0'" in last


def test_recorded_mmcv_without_its_folder(tmp_path, run_python):
    site = bare_site(tmp_path)
    add_distribution(site, 'mmcv-lite', '2.1.0')
    run = check_alone(run_python, site)
    assert run.returncode == 1
    assert (
        "pip install --force-reinstall --no-deps 'mmcv-lite>=2.0.0,<=2.1.0'"
    ) in run.stderr


def test_version_is_read_without_importing_mmcv(tmp_path, run_python):
    site = bare_site(tmp_path)
    add_distribution(site, 'mmcv-lite', '2.1.0')
    add_mmcv_module(site, 'raise RuntimeError("mmcv was imported")')
    run = check_alone(run_python, site)
    assert (run.returncode, run.stdout) == (0, 'accepted\n'), run.stderr


@pytest.mark.parametrize('version, code', [('2.1.0', 0), ('2.2.0', 1)])
def test_source_checkout_of_mmcv(tmp_path, run_python, version, code):
    site = bare_site(tmp_path)
    add_mmcv_module(site, f'__version__ = {version!r}')
    run = check_alone(run_python, site)
    assert run.returncode == code, run.stderr
    assert ('got mmcv 2.2.0' in run.stderr) == (code == 1)
