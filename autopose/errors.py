"""Everything that autopose raises on purpose.

    AutoposeError
    ├── UsageError              two options contradict each other (exit code 2)
    ├── ConfigError             a TOML configuration or a --set is wrong
    ├── GenotypeError           a genotype file or preset is wrong
    ├── DataError               annotations or a dataset folder are wrong
    ├── MediaError              an image or video cannot be read or written
    ├── ModelError              a checkpoint or exported model is wrong
    ├── BackendError            a backend or device cannot do what was asked
    ├── ParityError             an exported model deviates from the network
    └── MissingDependencyError  an optional package is absent (also an ImportError)

Each message says what happened with which value, what was expected, and how to mend it. The command line prints the
message alone and exits with ``exit_code``.
"""

import importlib
from types import ModuleType


class AutoposeError(Exception):
    """Base of every deliberate error of this package."""

    exit_code = 1


class UsageError(AutoposeError):
    """Options that contradict each other or make no sense together."""

    exit_code = 2


class ConfigError(AutoposeError):
    """A configuration with an unknown key or an impossible value."""


class GenotypeError(AutoposeError):
    """A genotype that does not describe a network."""


class DataError(AutoposeError):
    """Annotations or images that cannot be used."""


class MediaError(AutoposeError):
    """An image or video that cannot be read or written."""


class ModelError(AutoposeError):
    """A checkpoint or exported model that cannot be used."""


class BackendError(AutoposeError):
    """A backend or device that cannot do what was asked."""


class ParityError(AutoposeError):
    """An exported model that does not agree with the network it came from."""


class MissingDependencyError(AutoposeError, ImportError):
    """An optional dependency that is not installed."""


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import an optional dependency, or say how to get it.

    Args:
        module: dotted module name.
        extra: the extra of autopose that installs it.
        why: the feature that needs it, as the start of a sentence.

    Raises:
        MissingDependencyError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{why} needs the package {module!r}, which could not be imported ({error}).\n"
            f'Install it with: pip install "autopose[{extra}]"'
        ) from error
