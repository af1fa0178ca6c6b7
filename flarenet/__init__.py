"""flarenet: segmentation networks from unevenly annotated CT and MR collections."""

__version__ = "0.1.0"
