"""`python -m recsys_zoo`: the command line where the folder of installed scripts is not on the PATH."""

from .cli import main

if __name__ == "__main__":
    main()
