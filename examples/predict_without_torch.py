"""A label map of a photograph, by one file: onnxruntime, NumPy and Pillow do, neither torch nor this package.

smp-feedback export runs/fit/model model.onnx --with_preprocess
python examples/predict_without_torch.py model.onnx photo.jpg labels.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
picture = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
stride = int(facts["stride"])
height, width = json.loads(facts["data"])["size"] or (
    max(2, -(-side // stride)) * stride for side in picture.size[::-1]
)
image = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
(labels,) = session.run(["label_map"], {"image": image})
Image.fromarray(labels[0]).resize(picture.size, Image.Resampling.NEAREST).save(out)
