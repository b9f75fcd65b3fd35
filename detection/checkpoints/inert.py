"""What other trainers put beside the weights: stand-ins that keep nothing and run nothing."""

from __future__ import annotations

from collections import OrderedDict


class Unread:
    """Stands for an object of a checkpoint that is of no use here; it keeps and runs nothing."""

    def __new__(cls, *args: object) -> Unread:
        """Take and forget any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        """Take and forget any arguments."""

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


_DICTIONARIES = (
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_OMEGACONF = (
    *("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata"),
    *(
        f"nodes.{kind}Node"
        for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
)
# What other trainers put beside the weights. The names are replaced by harmless stand-ins, so the
# real classes are neither imported nor run.
INERT: list[tuple[type, str]] = [
    *((OrderedDict, name) for name in _DICTIONARIES),
    *((Unread, f"omegaconf.{name}") for name in _OMEGACONF),
    *(  # the types that omegaconf's nodes name
        (Unread, f"{module}.{name}")
        for module in ("__builtin__", "builtins")
        for name in ("bool", "dict", "float", "int", "list", "long", "str", "tuple")
    ),
    *(
        (Unread, name)
        for name in (
            "mmengine.logging.history_buffer.HistoryBuffer",
            "mmengine.config.config.ConfigDict",
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.ndarray",
            "numpy.dtype",
            "argparse.Namespace",
            "pathlib.PosixPath",
            "typing.Any",
            "collections.defaultdict",
        )
    ),
]
