"""Encoders that timm cannot build: their own code is needed, so that they are refused by name.

Where that code can save the visual network as timm does (``save_for_hf``), ``local-dir:FOLDER`` reads it. Else their
features are made by their own tools, and smalti reads the files.
"""

from __future__ import annotations

from .encoder import CLIP, INCEPTION, Encoder, register_encoders

PATHFM = ((0.697, 0.575, 0.728), (0.188, 0.240, 0.187))

register_encoders(
    Encoder("conch", 512, 448, CLIP, "model", built_by="package conch of github.com/mahmoodlab/CONCH"),
    Encoder("conch-v1.5", 768, 448, embedding="model", built_by="transformers with the code of MahmoodLab/TITAN"),
    Encoder("ctranspath", 768, embedding="model", built_by="the changed timm that its authors call timm_ctp"),
    Encoder("chief", 768, embedding="model", built_by="the changed timm that CTransPath needs too (timm_ctp)"),
    Encoder("musk", 1024, 384, INCEPTION, "model", built_by="package musk of github.com/lilab-stanford/MUSK"),
    Encoder("keep", 768, embedding="model", built_by="transformers with code of its own"),
    Encoder("genbio-pathfm", 4608, colours=PATHFM, embedding="model", built_by="code of its own"),
    Encoder(
        "pathorchestra", None, None, embedding="model", built_by="code of its own",
        unchecked="id, input and number of features were not read",
    ),
    Encoder("gemma-4-e4b", 768, embedding="model", built_by="transformers 5 or later (Gemma4VisionModel)"),
    Encoder("gemma-4-26b", 1152, embedding="model", built_by="transformers 5 or later (Gemma4VisionModel)"),
    Encoder("plip", 512, colours=CLIP, embedding="model", built_by="transformers (CLIPModel)"),
    Encoder("quiltnet", 512, colours=CLIP, embedding="model", built_by="open_clip"),
    *(
        Encoder(name, None, None, embedding="model", built_by="code of its own, on features of tiles and not on tiles")
        for name in ("titan", "prism", "madeleine", "moozy")
    ),
)  # fmt: skip
