"""The benchmark: `make bench`. It is not part of the tests: nothing here asserts a time."""
