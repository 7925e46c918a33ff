"""Encoders that timm builds: those that were trained on slides, and the two of everyday pictures.

Options and sizes are those with which TRIDENT builds them (patch_encoder_models/load.py), unless a record says more. No
hub could be reached from here. Weights are loaded strictly: a wrong option that changes a layer ends in an error
and not in other features.
"""

from __future__ import annotations

from .encoder import IMAGENET, INCEPTION, Encoder, register_encoders

OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
DYNAMIC = {"dynamic_img_size": True}
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
VIRCHOW = {"init_values": 1e-5, "mlp_ratio": 5.3375, "dynamic_img_size": True, **SWIGLU}
H_OPTIMUS = {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True}
GIANT = "vit_giant_patch14_reg4_dinov2"
KEYS = "its weights have the names of transformers; give a file with those of timm (model.weights=FILE)"

register_encoders(
    Encoder("uni", 1024, architecture="vit_large_patch16_224", options={"init_values": 1e-5, **DYNAMIC}),
    Encoder(
        "uni2-h", 1536, architecture="vit_giant_patch14_224",
        options={
            "img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536,
            "mlp_ratio": 5.33334, "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True, **SWIGLU,
        },
    ),
    Encoder("virchow", 2560, embedding="class+mean", architecture="vit_huge_patch14_224", options=VIRCHOW),
    Encoder(
        "virchow2", 2560, embedding="class+mean", architecture="vit_huge_patch14_224",
        options={**VIRCHOW, "reg_tokens": 4},
    ),
    Encoder("h-optimus-0", 1536, colours=OPTIMUS, architecture=GIANT, options=H_OPTIMUS),
    Encoder("h-optimus-1", 1536, colours=OPTIMUS, architecture=GIANT, options=H_OPTIMUS),
    Encoder(
        "h0-mini", 768, colours=OPTIMUS, architecture="vit_base_patch14_reg4_dinov2",
        options={**H_OPTIMUS, "mlp_ratio": 5.33334, **SWIGLU},
        unchecked="architecture and mlp_ratio are in the config of its card, which was not read",
    ),
    Encoder(
        "prov-gigapath", 1536, architecture="vit_giant_patch14_dinov2",
        options={
            "img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334,
            "init_values": 1e-5, "dynamic_img_size": True,
        },
        unchecked="its card resizes to 256 px and takes the middle 224; here the whole tile is resized to 224",
    ),
    Encoder("kaiko-s16", 384, colours=INCEPTION, architecture="vit_small_patch16_224", options=DYNAMIC),
    Encoder("kaiko-s8", 384, colours=INCEPTION, architecture="vit_small_patch8_224", options=DYNAMIC),
    Encoder("kaiko-b16", 768, colours=INCEPTION, architecture="vit_base_patch16_224", options=DYNAMIC),
    Encoder("kaiko-b8", 768, colours=INCEPTION, architecture="vit_base_patch8_224", options=DYNAMIC),
    Encoder(
        "kaiko-l14", 1024, colours=INCEPTION, architecture="vit_large_patch14_reg4_dinov2",
        options={"img_size": 518, "dynamic_img_size": True},
    ),
    Encoder("lunit-s8", 384, colours=LUNIT, architecture="vit_small_patch8_224", options=DYNAMIC),
    Encoder("lunit-s16", 384, colours=LUNIT, architecture="vit_small_patch16_224", options=DYNAMIC),
    *(
        Encoder(
            f"lunit-resnet50-{method}", 2048, colours=LUNIT, embedding="model", architecture="resnet50", files=(),
            unchecked="the names in its file were not read; give one with those of timm (model.weights=FILE)",
        )
        for method in ("bt", "swav", "moco")
    ),
    Encoder(
        "retccl", 2048, 256, embedding="model", architecture="resnet50", files=(),
        unchecked="the names in its file were not read; give one with those of timm (model.weights=FILE)",
    ),
    Encoder(
        "gpfm", 1024, architecture="vit_large_patch14_dinov2", files=("GPFM.pth",),
        options={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True},
    ),
    Encoder(
        "openmidnight", 1536, architecture=GIANT, options=H_OPTIMUS, files=(),
        unchecked="its file has the names of facebookresearch/dinov2, which timm's checkpoint_filter_fn changes",
    ),
    Encoder(
        "phikon", 768, architecture="vit_base_patch16_224", files=(), unchecked=KEYS,
        built_by="transformers (ViTModel)",
    ),
    Encoder(
        "phikon-v2", 1024, architecture="vit_large_patch16_224", options={"init_values": 1e-5}, files=(),
        built_by="transformers (Dinov2Model)", unchecked=KEYS,
    ),
    Encoder(
        "midnight-12k", 3072, colours=INCEPTION, embedding="class+mean", architecture="vit_giant_patch14_dinov2",
        options={"img_size": 224}, files=(), built_by="transformers (Dinov2Model)", unchecked=KEYS,
    ),
    Encoder(
        "hibou-b", 768, colours=HIBOU, architecture="vit_base_patch14_reg4_dinov2", options={"img_size": 224}, files=(),
        built_by="transformers with code of its own", unchecked=f"its network was not read; {KEYS}",
    ),
    Encoder(
        "hibou-l", 1024, colours=HIBOU, architecture="vit_large_patch14_reg4_dinov2", options={"img_size": 224},
        files=(), built_by="transformers with code of its own", unchecked=f"its network was not read; {KEYS}",
    ),
    *(
        Encoder(f"dinov2-{size}", features, 518, IMAGENET, "model", f"vit_{long}_patch14_dinov2.lvd142m")
        for size, long, features in (
            ("s", "small", 384), ("b", "base", 768), ("l", "large", 1024), ("g", "giant", 1536),
        )
    ),
    *(
        Encoder(f"dinov3-{size}", features, 256, IMAGENET, "model", f"vit_{long}_patch16_dinov3.lvd1689m")
        for size, long, features in (
            ("s", "small", 384), ("b", "base", 768), ("l", "large", 1024), ("h", "huge_plus", 1280), ("7b", "7b", 4096),
        )
    ),
)  # fmt: skip
