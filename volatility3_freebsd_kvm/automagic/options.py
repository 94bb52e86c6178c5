"""Global options of ``vol`` that this package adds."""

from __future__ import annotations

from pathlib import Path

from volatility3.framework import constants, interfaces
from volatility3.framework.configuration import requirements

OPTION = "freebsd_kernel"


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
                description="FreeBSD kernel file that belongs to the image (full dumps of some machines need it)",
                optional=True,
            )
        ]

    @classmethod
    def location(cls, context: interfaces.context.ContextInterface) -> str | None:
        """The URL of what the user gave, if any; a path or a URL may be given."""
        path = interfaces.configuration.path_join("automagic", cls.__name__, OPTION)
        value = str(context.config.get(path, None) or "")
        if not value or "://" in value or value.startswith("file:"):
            return value or None
        return Path(value).resolve().as_uri()
