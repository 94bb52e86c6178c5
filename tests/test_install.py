"""Builds the package, installs it in every supported way into fresh environments and asks `vol` what it sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.install

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "volatility3_freebsd_kvm"
PROJECT = "volatility3-freebsd-kvm"
INFO = "freebsd.kvm.info.Info"
HOOK = {"volatility3/plugins/freebsd/__init__.py", "volatility3/plugins/freebsd/_register.py"}
PLUGIN_DIRECTORIES = [f"{PACKAGE}/plugins", PACKAGE, "."]


def run(*command, cwd=None, **variables):
    """Run a command in the environment of a user, whose Python has no settings."""
    command = [str(word) for word in command]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


@dataclass
class Listing:
    """What `vol -h` says."""

    plugins: set[str]
    not_loaded: set[str]
    messages: str = field(compare=False)

    @property
    def built_in(self):
        return {name for name in self.plugins if not name.startswith("freebsd.")}


@dataclass
class Environment:
    """A virtual environment without pip, filled from the wheelhouse only."""

    directory: Path
    wheelhouse: Path

    @property
    def python(self):
        return self.directory / "bin" / "python"

    @property
    def site_packages(self):
        (found,) = self.directory.glob("lib/python*/site-packages")
        return found

    def pip(self, *arguments):
        # An unpacked pip runs without being installed, which saves seconds for each environment.
        return run(self.python, self.wheelhouse / "unpacked" / "pip", "--disable-pip-version-check", *arguments)

    def install(self, *arguments):
        self.pip("install", "--no-index", "--find-links", self.wheelhouse, "--no-build-isolation", *arguments)

    def vol(self, *arguments):
        home = str(self.directory / "home")
        # pip knows nothing of the byte code of the modules that a test adds, and would leave it behind.
        settings = {"HOME": home, "XDG_CACHE_HOME": home, "COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}
        return run(self.directory / "bin" / "vol", *arguments, **settings)

    def listing(self, *arguments):
        done = self.vol(*arguments, "-h")
        plugins = re.findall(r"^ {4}((?:\w+\.)+[A-Z]\w*)\b", done.stdout, re.MULTILINE)
        epilog = re.search(r"could not be loaded[^:]*:(.*)", done.stdout, re.DOTALL)
        return Listing(set(plugins), set(re.findall(r"[\w.]+", epilog[1])) if epilog else set(), done.stderr)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory):
    """Everything that the environments need, downloaded once."""
    directory = tmp_path_factory.mktemp("wheelhouse")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    needed = ["pip", "hatchling>=1.27", "editables", "volatility3>=2.26,<3", "pyelftools>=0.29"]
    done = subprocess.run(
        [*pip, "download", "--quiet", "--retries", "1", "--timeout", "15", "--dest", directory, *needed],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot download {', '.join(needed)}: {done.stderr.strip().rpartition(chr(10))[2]}")
    (wheel,) = directory.glob("pip-*.whl")
    shutil.unpack_archive(wheel, directory / "unpacked", "zip")
    return directory


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project without what the tools and the repository add."""
    return copy_checkout(ROOT, tmp_path_factory.mktemp("checkout") / "project")


def copy_checkout(source, target):
    target.mkdir()
    for path in (source / name for name in (".gitignore", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md")):
        shutil.copy(path, target)
    for name in (PACKAGE, "symbols", "examples", "tests"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    return target


def new_environment(directory, wheelhouse):
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    environment = Environment(directory, wheelhouse)
    environment.install("volatility3", "pyelftools", "hatchling", "editables")
    return environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory, wheelhouse):
    """The framework without us."""
    return new_environment(tmp_path_factory.mktemp("bare"), wheelhouse)


@pytest.fixture(scope="module")
def before(bare):
    """What the framework lists without us."""
    return bare.listing()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory, bare, checkout):
    """The source distribution and the wheel."""
    directory = tmp_path_factory.mktemp("dist")
    run(bare.python, "-m", "hatchling", "build", "-d", directory, cwd=checkout)
    (sdist,) = directory.glob("*.tar.gz")
    (wheel,) = directory.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def user(tmp_path_factory, wheelhouse):
    """The environment into which we are installed, in one way after the other."""
    return new_environment(tmp_path_factory.mktemp("user"), wheelhouse)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def install(request, user, checkout, distributions):
    """Installs us; calling it again repairs what a test broke."""
    what = [distributions[1]] if request.param == "wheel" else ["-e", checkout]

    def install():
        user.install("--force-reinstall", "--no-deps", *what)

    user.install(*what)
    yield install
    uninstall(user)


def uninstall(environment):
    environment.pip("uninstall", "--yes", PROJECT)


def test_wheel_has_the_package_and_the_hook(distributions, checkout):
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    sources = {path.relative_to(checkout).as_posix() for path in (checkout / PACKAGE).rglob("*") if path.is_file()}
    symbols = {f"{PACKAGE}/isf/{path.name}" for path in (checkout / "symbols").glob("*") if path.is_file()}
    assert f"{PACKAGE}/py.typed" in sources
    assert {name for name in names if ".dist-info/" not in name} == sources | symbols | HOOK


def test_sdist_has_what_a_developer_needs(distributions, checkout):
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    directories = [name for name in (PACKAGE, "tests", "examples", "symbols") if (checkout / name).is_dir()]
    files = {path.relative_to(checkout).as_posix() for name in directories for path in (checkout / name).rglob("*.py")}
    assert files | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert set(directories) <= {name.partition("/")[0] for name in names}


@pytest.mark.parametrize("directory", PLUGIN_DIRECTORIES)
def test_plugin_directory_without_installation(bare, before, checkout, directory):
    listing = bare.listing("-p", checkout / directory)
    assert INFO in listing.plugins
    assert listing.built_in == before.plugins
    assert listing.not_loaded >= before.not_loaded
    assert INFO.lower() not in listing.messages
    bare.vol("-p", checkout / directory, "freebsd.kvm.info", "-h")


def test_the_right_plugin_directory_has_no_failures(bare, before, checkout):
    assert bare.listing("-p", checkout / PLUGIN_DIRECTORIES[0]).not_loaded == before.not_loaded


def test_installed_plugins_need_no_option(user, before, install):
    listing = user.listing()
    assert INFO in listing.plugins
    assert (listing.built_in, listing.not_loaded) == (before.plugins, before.not_loaded)
    assert listing.messages == ""
    user.vol("freebsd.kvm.info", "-h")


@pytest.mark.parametrize("directory", PLUGIN_DIRECTORIES)
def test_plugin_directory_beside_an_installation(user, before, install, checkout, directory):
    listing = user.listing("-p", checkout / directory)
    assert INFO in listing.plugins
    assert listing.built_in == before.plugins
    assert listing.messages == ""


@pytest.mark.parametrize("directory", PLUGIN_DIRECTORIES)
def test_plugin_directory_of_another_version(user, install, checkout, tmp_path, directory):
    other = copy_checkout(checkout, tmp_path / "other")
    init = other / PACKAGE / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "999.0"', init.read_text()))
    listing = user.listing("-p", other / directory)
    assert INFO in listing.plugins
    assert "are version 999.0, but the installed volatility3-freebsd-kvm is version" in listing.messages


@pytest.mark.parametrize("module", ["_registration.py", "layers/__init__.py", "plugins/freebsd/broken.py"])
def test_a_defect_of_ours_breaks_nothing_else(user, before, install, checkout, module):
    installed = user.site_packages / PACKAGE
    broken = (installed if (installed / "__init__.py").exists() else checkout / PACKAGE) / module
    original = broken.read_text() if broken.exists() else None
    broken.write_text(f"{original or ''}\nraise RuntimeError('a defect')\n")
    try:
        listing = user.listing()
    finally:
        if original is None:
            broken.unlink()
        else:
            broken.write_text(original)
    assert listing.built_in == before.plugins
    assert listing.not_loaded == before.not_loaded | {"volatility3.plugins.freebsd._register"}


def test_uninstall_leaves_nothing(user, before, install):
    uninstall(user)
    try:
        assert user.listing() == before
        assert [path for path in user.site_packages.rglob("*freebsd*") if path.is_file()] == []
        assert not (user.site_packages / "volatility3" / "plugins" / "freebsd").exists()
        assert not (user.site_packages / PACKAGE).exists()
    finally:
        install()
