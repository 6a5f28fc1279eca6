"""``python -m oncoseg_trainer``, which is how ``torchrun`` starts it."""

from oncoseg_trainer.cli import main

if __name__ == "__main__":  # a worker process imports this module anew
    main()
