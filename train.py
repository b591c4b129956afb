"""Train GPT-2: `python train.py --B 4 --T 32`, which is `jaxgpt train --B 4 --T 32`. `--help` lists the flags."""

import sys

from jaxgpt import commands, console

if __name__ == "__main__":
    console.leave(console.run(commands.main, ["train", *sys.argv[1:]]))
