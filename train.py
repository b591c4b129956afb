"""Train GPT-2: `python train.py --B 4 --T 32`, which is `jaxgpt train --B 4 --T 32`. `--help` lists the flags."""

from jaxgpt.__main__ import main

if __name__ == "__main__":
    main("train")
