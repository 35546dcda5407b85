"""Figures of tasks: COCO and VOC average precision, confusion of classes."""
