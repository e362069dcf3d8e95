"""The forms of data sets that ``--data`` takes; each is a module here and a line in `table`."""
