"""What a wheel carries besides the code: the example project with the dbt package, its profile, two months of files."""

from setuptools import find_packages, setup

CARRIED = ("dbt_project", "profiles", "seeds_data")

setup(
    packages=[*find_packages(include=["loader*"]), *(f"loader.{folder}" for folder in CARRIED)],
    package_dir={f"loader.{folder}": folder for folder in CARRIED},
)
