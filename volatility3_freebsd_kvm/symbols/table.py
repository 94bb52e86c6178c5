"""The symbol table of a FreeBSD kernel, as the framework uses it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from volatility3.framework import constants, exceptions, interfaces
from volatility3.framework.symbols import intermed
from volatility3.framework.symbols import metadata as framework_metadata

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.image.nlist import Names
    from volatility3_freebsd_kvm.image.table import TableIdentity


class FreeBSDKernelSymbols(intermed.IntermediateSymbolTable):
    """Types and symbols of one kernel; names resolve as ``kvm_nlist`` resolves them.

    `get_symbol` of a VNET or DPCPU variable (``ifnet``) gives it as the host's vnet and CPU 0 have it, so that plugins
    that know nothing of either find what they look for.
    """

    provides = {"type": "interface"}
    type_classes: ClassVar[Mapping[str, type[interfaces.objects.ObjectInterface]]] = {}
    """Classes of the objects of some types; `extensions` enters them."""
    head_class: ClassVar[type[interfaces.objects.ObjectInterface] | None] = None
    head_members: ClassVar[frozenset[str]] = frozenset()
    """The class of queue heads, and what their first members are called."""

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        isf_url: str,
        native_types: interfaces.symbols.NativeTableInterface | None = None,
        table_mapping: dict[str, str] | None = None,
        validate: bool = False,
        class_types: Mapping[str, type[interfaces.objects.ObjectInterface]] | None = None,
        symbol_mask: int = 0,
    ) -> None:
        """Load the file; ``validate`` is off, since validating takes longer than all the rest."""
        super().__init__(
            context,
            config_path,
            name,
            isf_url,
            native_types=native_types,
            table_mapping=table_mapping,
            validate=validate,
            class_types=class_types,
            symbol_mask=symbol_mask,
        )
        self._set_classes()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the names, which read an open dump."""
        return {name: value for name, value in self.__dict__.items() if name != "names"}

    def _set_classes(self) -> None:
        types = self.content["user_types"]
        for name in types:
            cls = self.type_classes.get(name)
            if cls is None and self.head_class and next(iter(types[name]["fields"]), "") in self.head_members:
                cls = self.head_class
            if cls is not None:
                self._delegate.set_type_class(name, cls)

    @property
    def metadata(self) -> interfaces.symbols.MetadataInterface:
        """Never None: the framework's symbol finder asks it for its sources."""
        return framework_metadata.LinuxMetadata({})

    @property
    def content(self) -> dict[str, Any]:
        """The symbol file."""
        content: dict[str, Any] = self._delegate._json_object
        return content

    @cached_property
    def identity(self) -> TableIdentity:
        """What the file knows of the kernel it was made from."""
        from volatility3_freebsd_kvm.image import table

        return table.identity_of(self.content)

    @property
    def layer_name(self) -> str:
        """The layer of the kernel whose table this is.

        Raises:
            SymbolError: no module of the context uses it.
        """
        for module_name in self.context.modules:
            module = self.context.modules[module_name]
            if module.symbol_table_name == self.name:
                return str(module.layer_name)
        raise exceptions.SymbolError(None, self.name, f"No module of the context has the symbol table {self.name}")

    @cached_property
    def names(self) -> Names:
        """Resolves the kernel's names in its memory.

        Raises:
            SymbolError: no module of the context uses this table.
        """
        from volatility3_freebsd_kvm.symbols.names import names_of

        return names_of(self.content, self.context.layers[self.layer_name])

    # mypy: the framework makes these delegates at run time.
    def get_symbol(self, name: str) -> interfaces.symbols.SymbolInterface:
        """The symbol, or the VNET or DPCPU variable of that name, or a module's symbol."""
        try:
            found: interfaces.symbols.SymbolInterface = self._delegate.get_symbol(name)
        except exceptions.SymbolError:
            variable = self._variable(name)
            if variable is None:
                raise
            return variable
        return found

    def _variable(self, name: str) -> interfaces.symbols.SymbolInterface | None:
        from volatility3_freebsd_kvm.exceptions import KVMError

        try:
            found = self.names.nlist([name])[0]
        except (KVMError, exceptions.VolatilityException):
            return None
        # The framework's symbols cannot be called module!symbol.
        if found.address is None or constants.BANG in name:
            return None
        mask = int(self.config.get("symbol_mask", 0) or 0)
        template = None
        if found.symbol in self.content["symbols"]:
            template = self._delegate.get_symbol(found.symbol).type
        address = found.address & mask if mask else found.address
        return interfaces.symbols.SymbolInterface(name=name, address=address, type=template)
