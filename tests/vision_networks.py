# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Small backbones, detectors and segmentation networks with random weights, with image processors.

Each is saved by transformers' own classes, as a checkpoint is that one downloads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeopt.quiet import quiet

SIDE = 32
LABELS = ("cat", "dog", "tree")
_LAYERS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "patch_size": 8,
    "initializer_range": 0.3,
}
_PLAIN = _LAYERS | {"image_size": SIDE}
_LARGER = _PLAIN | {"image_size": 48}  # than what the processor makes: positions are interpolated
_FOUR = _LAYERS | {"num_hidden_layers": 4, "image_size": 64, "patch_size": 16}
_WINDOWS = {
    "patch_size": 4,
    "embed_dim": 16,
    "window_size": 4,
    "initializer_range": 0.3,
}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "initializer_range": 0.3}
_SEGFORMER = _STAGES | {
    "num_encoder_blocks": 2,
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "sr_ratios": [2, 1],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "decoder_hidden_size": 16,
}
_HIERA = {
    "image_size": [SIDE, SIDE],
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "masked_unit_size": [4, 4],
    "query_stride": [2, 2],
    "num_query_pool": 1,
}
_DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 6,
    "init_std": 0.3,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
}


def _square(side: int = SIDE, **more: Any) -> dict[str, Any]:
    return {"size": {"height": side, "width": side}, **more}


_CUT = {"size": {"shortest_edge": 38}, "crop_size": {"height": SIDE, "width": SIDE}}


def _resnet(*stages: str) -> Any:
    import transformers

    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=list(stages)
    )


def _swin() -> Any:
    import transformers

    return transformers.SwinConfig(
        image_size=64,
        depths=[1] * 4,
        num_heads=[2] * 4,
        out_features=[f"stage{i}" for i in range(1, 5)],
        **_WINDOWS | {"window_size": 2},
    )


def _rt_detr() -> dict[str, Any]:
    import transformers

    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1] * 4,
        out_features=["stage2", "stage3", "stage4"],
        layer_type="basic",
    )
    return {
        "backbone_config": backbone,
        "d_model": 32,
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [8, 16, 16],
        "encoder_ffn_dim": 64,
        "encoder_attention_heads": 4,
        "decoder_in_channels": [32] * 3,
        "decoder_ffn_dim": 64,
        "decoder_layers": 1,
        "decoder_attention_heads": 4,
        "num_queries": 6,
        "num_denoising": 0,
    }


_FLAT = ("RTDetr",)
"""Families whose usual initial weights give the same for every image."""

Settings = dict[str, Any] | Callable[[], dict[str, Any]]

NETWORKS: dict[str, tuple[str, Settings, str, dict[str, Any]]] = {
    "ViTModel": ("ViT", _PLAIN, "ViT", _square()),
    "Dinov2Model": ("Dinov2", _LARGER, "Bit", _CUT),
    "Dinov2WithRegistersModel": ("Dinov2WithRegisters", _LARGER, "Bit", _CUT),
    "ViTMSNModel": ("ViTMSN", _PLAIN, "ViT", _square()),
    "IJepaModel": ("IJepa", _PLAIN, "ViT", _square()),
    "SwinModel": (
        "Swin",
        _WINDOWS | {"image_size": SIDE, "depths": [1, 1], "num_heads": [2, 2]},
        "ViT",
        _square(),
    ),
    "BeitModel": ("Beit", _PLAIN, "Beit", _square()),
    "HieraModel": ("Hiera", _HIERA, "Bit", _CUT),
    "CLIPVisionModel": ("CLIPVision", _PLAIN, "CLIP", _CUT),
    "SiglipVisionModel": ("SiglipVision", _PLAIN, "Siglip", _square()),
    "ConvNextModel": (
        "ConvNext",
        _STAGES | {"num_stages": 2},
        "ConvNext",
        {"size": {"shortest_edge": SIDE}},
    ),
    "ResNetModel": (
        "ResNet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "ConvNext",
        {"size": {"shortest_edge": SIDE}},
    ),
    "YolosForObjectDetection": (
        "Yolos",
        _LAYERS | {"image_size": [SIDE, 48], "num_detection_tokens": 6},
        "Yolos",
        {"size": {"height": SIDE, "width": 48}},
    ),
    "DetrForObjectDetection": (
        "Detr",
        lambda: _DETR | {"backbone_config": _resnet("stage2")},
        "Detr",
        _square(64),
    ),
    "TableTransformerForObjectDetection": (
        "TableTransformer",
        lambda: _DETR | {"backbone_config": _resnet("stage2")},
        "Detr",
        _square(64),
    ),
    "ConditionalDetrForObjectDetection": (
        "ConditionalDetr",
        lambda: _DETR | {"backbone_config": _resnet("stage2")},
        "ConditionalDetr",
        _square(64),
    ),
    "DeformableDetrForObjectDetection": (
        "DeformableDetr",
        lambda: _DETR | {"backbone_config": _resnet("stage1", "stage2"), "num_feature_levels": 2},
        "DeformableDetr",
        _square(64),
    ),
    "RTDetrForObjectDetection": ("RTDetr", _rt_detr, "RTDetr", _square(64)),
    "SegformerForSemanticSegmentation": ("Segformer", _SEGFORMER, "Segformer", _square(64)),
    "BeitForSemanticSegmentation": (
        "Beit",
        _FOUR | {"out_indices": [1, 2, 3, 4], "use_auxiliary_head": False, "pool_scales": [1, 3]},
        "Beit",
        _square(64, do_reduce_labels=True),
    ),
    "DPTForSemanticSegmentation": (
        "DPT",
        _FOUR
        | {
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8] * 4,
            "fusion_hidden_size": 8,
            "use_auxiliary_head": False,
        },
        "DPT",
        _square(64),
    ),
    "UperNetForSemanticSegmentation": (
        "UperNet",
        lambda: {
            "backbone_config": _swin(),
            "hidden_size": 16,
            "pool_scales": [1, 2],
            "use_auxiliary_head": False,
        },
        "Segformer",
        _square(64),
    ),
    "MobileNetV2ForSemanticSegmentation": (
        "MobileNetV2",
        {"image_size": 64, "depth_multiplier": 0.25, "initializer_range": 0.25},
        "MobileNetV2",
        _square(64, do_center_crop=False),
    ),
}
"""By class: the configuration's name and settings, the image processor's name and settings."""


def write(folder: Path, name: str, **changes: Any) -> Path:
    """Save the network ``name``; ``changes`` are to the settings of its image processor."""
    with quiet():
        import torch
        import transformers

        family, settings, kind, size = NETWORKS[name]
        chosen = settings() if callable(settings) else dict(settings)
        config = getattr(transformers, f"{family}Config")(num_labels=len(LABELS), **chosen)
        config.id2label = dict(enumerate(LABELS))
        config.label2id = {label: i for i, label in enumerate(LABELS)}
        torch.manual_seed(0)
        network = getattr(transformers, name)(config)
        if family in _FLAT:
            for weight in network.parameters():
                if weight.ndim > 1:
                    torch.nn.init.xavier_normal_(weight, 2.0)
        network.save_pretrained(folder)
        getattr(transformers, f"{kind}ImageProcessorPil")(**size | changes).save_pretrained(folder)
    return folder
