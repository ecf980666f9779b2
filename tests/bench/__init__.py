"""The benchmark: `make bench`. No part of the tests: nothing here asserts a time."""
