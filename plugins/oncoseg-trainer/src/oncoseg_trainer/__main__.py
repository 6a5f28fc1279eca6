"""``python -m oncoseg_trainer``, which is how ``torchrun`` starts it."""

from oncoseg_trainer.cli import main

main()
