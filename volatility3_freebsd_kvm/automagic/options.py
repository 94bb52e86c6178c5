"""Global options of ``vol`` that this package adds."""

from __future__ import annotations

from pathlib import Path

from volatility3.framework import constants, interfaces
from volatility3.framework.configuration import requirements

OPTION, FORCE = "freebsd_kernel", "freebsd_force"
KEY = "freebsd_key"
_path_join = interfaces.configuration.path_join


class FreeBSDKernel(interfaces.automagic.AutomagicInterface):
    """Takes the FreeBSD kernel file that belongs to the image."""

    priority = 5
    exclusion_list = ["windows", "linux", "mac"]

    def __call__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: interfaces.configuration.RequirementInterface,
        progress_callback: constants.ProgressCallback = None,
    ) -> None:
        """Only the option matters: the stackers look it up."""

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The option itself."""
        return [
            requirements.StringRequirement(
                name=OPTION,
                description="FreeBSD kernel that belongs to the image: its file, its directory or kernel.txz",
                optional=True,
            ),
            requirements.BooleanRequirement(
                name=FORCE,
                description="Use the kernel that --freebsd-kernel names although it does not fit the image",
                optional=True,
                default=False,
            ),
        ]

    @classmethod
    def location(cls, context: interfaces.context.ContextInterface) -> str | None:
        """The URL of what the user gave, if any; a path or a URL may be given."""
        return _url(context, cls.__name__, OPTION)

    @classmethod
    def force(cls, context: interfaces.context.ContextInterface) -> bool:
        """Whether a kernel is to be used that does not fit."""
        return bool(context.config.get(_path_join("automagic", cls.__name__, FORCE), False))


class FreeBSDKey(interfaces.automagic.AutomagicInterface):
    """Takes the private key to an encrypted dump."""

    priority = 5
    exclusion_list = ["windows", "linux", "mac"]

    def __call__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: interfaces.configuration.RequirementInterface,
        progress_callback: constants.ProgressCallback = None,
    ) -> None:
        """Only the option matters: the stacker looks it up."""

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The option itself."""
        return [
            requirements.StringRequirement(
                name=KEY,
                description="RSA private key (PEM) to an encrypted FreeBSD dump; key.N is looked for beside the dump",
                optional=True,
            )
        ]

    @classmethod
    def location(cls, context: interfaces.context.ContextInterface) -> str | None:
        """The URL of what the user gave, if any; a path or a URL may be given."""
        return _url(context, cls.__name__, KEY)


def _url(context: interfaces.context.ContextInterface, name: str, option: str) -> str | None:
    value = str(context.config.get(_path_join("automagic", name, option), None) or "")
    if not value or "://" in value or value.startswith("file:"):
        return value or None
    return Path(value).resolve().as_uri()
