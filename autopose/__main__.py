"""``python -m autopose VERB`` and ``torchrun -m autopose VERB``."""

from autopose.cli import main

if __name__ == "__main__":
    main()
