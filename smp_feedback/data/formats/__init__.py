"""Datasets in layouts of their own: Cityscapes, COCO, labelme, VOC."""
